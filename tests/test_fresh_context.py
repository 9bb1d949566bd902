"""A CUDA error that stays costs the test that made it, and no other: tried with one that is made up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Tests of which some break the context: noticed by the test itself, or with nobody waiting for the kernel.
CONFTEST = """
import os
import fresh_context
from fresh_context import pytest_runtest_call, pytest_runtest_logfinish, pytest_runtest_logreport
broken = []
fresh_context.error = lambda: broken[0] if broken else None
"""
FILE = """
import os, pytest, conftest
from pathlib import Path
HERE = Path(__file__).parent

@pytest.mark.parametrize("i", range(6))
def test_it(i):
    assert not conftest.broken, "CUDA error: an illegal memory access was encountered"
    (HERE / f"ran-{i}").write_text(str(os.getpid()))
    if i in (1, 3):
        conftest.broken.append("CUDA error: an illegal memory access was encountered")
        assert i == 3, "the error, noticed"
"""


def run(folder, *arguments):
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(FILE)
    environment = {name: x for name, x in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(folder)])
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    done = subprocess.run([*command, str(folder)], env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_the_next_test_has_a_fresh_process(tmp_path):
    pytest.importorskip("xdist")
    status, said = run(tmp_path, "-n", "1", "--max-worker-restart", "5")
    assert status == 1, said
    processes = [(tmp_path / f"ran-{i}").read_text() for i in range(6)]
    assert len(set(processes)) == 3  # a first, and one after each error
    assert "4 passed" in said and "replacing crashed worker" in said
    assert "the error, noticed" in said and "computes nothing more in this process: CUDA error: an illegal" in said
    assert not [i for i in (0, 2, 4, 5) if f"FAILED test_it.py::test_it[{i}]" in said], said


@pytest.mark.exhaustive
@pytest.mark.parametrize("i", [1, 3])
def test_without_workers_it_ends_there_and_says_why(tmp_path, i):
    status, said = run(tmp_path, "-p", "no:xdist", "-k", f"{i} or {i + 1}")
    assert status == 70 and (tmp_path / f"ran-{i}").exists() and not (tmp_path / f"ran-{i + 1}").exists()
    assert "computes nothing more in this process: CUDA error: an illegal memory access" in said
