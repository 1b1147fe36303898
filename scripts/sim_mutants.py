"""Plant each defect of `tests/mutants` and let the swarm look for it: `make sim-mutants`.

A checker that never fails proves nothing. Each patch is applied to a copy of the sources, and the
same seeds run that must be clean without it. Prints how many seeds it took; fails if one survives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SEEDS = 500
WITHIN_S = 240
SOURCES = ("daemon", "protocol", "scripts")


def hunt(patch: Path) -> dict[str, object]:
    """Run the seeds on sources with this defect."""
    with tempfile.TemporaryDirectory(prefix="muster-mutant-") as directory:
        tree = Path(directory)
        for source in SOURCES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, tree / source, ignore=ignored)
        subprocess.run(["git", "apply", str(patch)], cwd=tree, check=True)
        command = [sys.executable, "scripts/sim.py", "--json"]
        command += ["--seeds", str(SEEDS), "--within", str(WITHIN_S)]
        path = os.pathsep.join(str(tree / source) for source in SOURCES[:2])
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"{patch.stem}: {done.stderr}")
    result: dict[str, object] = json.loads(done.stdout)
    return result


def main() -> int:
    patches = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
    survived = 0
    print(f"{'defect':30} {'seeds':>5} {'seconds':>7}  found by")
    for patch in patches:
        result = hunt(patch)
        failure = result["failure"]
        if isinstance(failure, dict):
            found = f"{failure['checker']} ({failure['tier']}, seed {failure['seed']})"
        else:
            found, survived = "SURVIVED", survived + 1
        print(f"{patch.stem:30} {result['runs']:>5} {result['seconds']:>7}  {found}", flush=True)
    print(f"{len(patches) - survived} of {len(patches)} defects were found")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
