"""The command: ``python -m tests.crash [--quick] [--write]``."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few faults of each kind, in half a minute")
    parser.add_argument("--kills", type=int, default=100, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments")
    parser.add_argument("--only", help="one kind of training")
    parser.add_argument("--write", action="store_true", help="write the table to docs/reliability.md")
    options = parser.parse_args()
    if "S2S_FAULTS" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(preloaded(Path(folder) / "faults.so"))
    # One thread: a fork has no other, and the bits of a sum do not depend on the machine.
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT / "python"))
    from .report import report

    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where fsync takes no time
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        sys.exit(report(options, Path(folder)))


def preloaded(library) -> int:
    """This command once more, with the library of faults in it."""
    compiler = os.environ.get("CC", "cc")
    try:
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", library, Path(__file__).with_name("faults.c")], check=True
        )
    except (OSError, subprocess.CalledProcessError):
        print(
            f"crash: {compiler} cannot compile tests/crash/faults.c, which makes the faults; set CC.", file=sys.stderr
        )
        return 1
    environment = {**os.environ, "LD_PRELOAD": str(library), "S2S_FAULTS": "1"}
    return subprocess.run([sys.executable, "-m", "tests.crash", *sys.argv[1:]], env=environment, cwd=ROOT).returncode


if __name__ == "__main__":
    main()
