"""The quick profile of ``make crash``: trainings survive a few faults of each kind."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and /proc are of Linux")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to compile tests/crash/faults.c")
def test_trainings_survive():
    run = [sys.executable, "-W", "ignore", "-m", "tests.crash", "--quick"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ") and " of " in line]
    assert len(rows) == 3
    for row in rows:
        survived = [cell.strip(" |").split(" of ") for cell in row[2:]]
        assert len(survived) == 6 and all(a == b and int(b) for a, b in survived)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is of Linux")
def test_a_killed_process_is_started_anew_and_goes_on():
    run = [sys.executable, "-W", "ignore", "-m", "tests.crash.ranks", "--kills", "2"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "2 of 2 killed processes recovered from, to the bit.\n"
