"""Break each step of the demo in turn: passes only if each broken one is named.

Run by `make demo-sabotage`. Two at a time, each on loopback addresses of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from muster.cli.tour import STEPS

AT_ONCE = 2


def broken(job: tuple[int, str]) -> tuple[str, bool, str]:
    """Run the demo with one step broken: its name, whether it was named, and what was said."""
    number, name = job
    command = [sys.executable, "-m", "muster.cli.main", "dev", "--tour", "--sabotage", name]
    command += ["--network", f"127.0.{10 + number}"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False
    )
    said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "(nothing)"
    return name, done.returncode == 1 and f"({name})" in said, said


def main() -> int:
    started = time.monotonic()
    jobs = [(number, step.name) for number, step in enumerate(STEPS)]
    failures = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, was_named, said in pool.map(broken, jobs):
            print(f"{'named ' if was_named else 'MISSED'}  {name:16} {said}", flush=True)
            failures += not was_named
    took = time.monotonic() - started
    print(f"{len(jobs) - failures} of {len(jobs)} broken steps were named, in {took:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
