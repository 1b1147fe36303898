"""Where a leader's time goes under load: cProfile around the daemons, from outside.

    python scripts/profile_puts.py [--clients 256] [--connections 3] [--seconds 5] [--top 45]

All three nodes run under the profile, which makes each call cost more and so the load smaller:
shares are what is to be read here, not rates.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_etcd import LOAD
from settled import is_whole

from muster.cli.local_cluster import LocalCluster, wait_for


def main() -> int:
    if "--run" in sys.argv:
        return run_profiled(sys.argv[sys.argv.index("--run") + 1 :])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--top", type=int, default=45)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="muster-bench-") as name,
        LocalCluster(Path(name), 3, network="127.0.78") as cluster,
    ):
        for node in cluster.nodes:
            profile = node.directory / "profile"
            node.prefix = (sys.executable, __file__, "--run", str(profile))
        cluster.start()
        leader = cluster.wait_for_leader()
        wait_for(lambda: is_whole(cluster), 30.0, "not whole")
        command = [
            sys.executable, str(LOAD), "--side", "muster", "--sockets", str(leader.socket),
            "--pids", *(str(node.pid) for node in cluster.nodes),
            "--clients", str(arguments.clients), "--connections", str(arguments.connections),
            "--seconds", str(arguments.seconds),
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=arguments.seconds + 60)
        profile = leader.directory / "profile"
        leader.stop()
        for order in ("tottime", "cumtime"):
            pstats.Stats(str(profile)).sort_stats(order).print_stats(arguments.top)
    return 0


def run_profiled(argv: list[str]) -> int:
    """PROFILE PYTHON -m MODULE ARGUMENTS...: that module here, and its profile at the end."""
    path, _, _, module, *rest = argv
    sys.argv = [module, *rest]
    profile = cProfile.Profile()
    try:
        profile.runcall(runpy.run_module, module, run_name="__main__", alter_sys=True)
    finally:
        profile.dump_stats(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
