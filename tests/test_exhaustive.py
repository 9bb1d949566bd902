"""Which rows of the largest tests `make test` runs: tried on a small file, in processes as users start them."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CONFTEST = "from exhaustive import pytest_addoption, pytest_collection_modifyitems\n"
INI = "[pytest]\nmarkers =\n exhaustive\naddopts = --strict-markers\n"
FILE = """
import pytest

@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", range(5))
def test_rows(size, dtype, backend): pass

@pytest.mark.exhaustive(every=3)  # by the groups alone two of the dtypes would be in no row that runs
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("op", ["gru", "lstm", "gru_step", "lstm_step"])
def test_values(op, dtype): pass

@pytest.mark.exhaustive(every=5)
@pytest.mark.parametrize("row", range(3))
def test_few(row): pass

@pytest.mark.exhaustive
@pytest.mark.parametrize("row", range(2))
def test_none(row): pass

@pytest.mark.parametrize("row", ["one", pytest.param("two", marks=pytest.mark.exhaustive)])
def test_a_row(row): pass

def test_unmarked(): pass
"""
DTYPES = ("float64", "float32", "bfloat16", "float16")
ROWS = {f"test_rows[{'-'.join(row)}]" for row in product("01234", DTYPES, ("cpp", "reference"))}
VALUES = {f"test_values[{'-'.join(row)}]" for row in product(("gru", "lstm", "gru_step", "lstm_step"), DTYPES)}
EVERY = ROWS | VALUES | {f"test_few[{n}]" for n in range(3)} | {f"test_none[{n}]" for n in range(2)}
EVERY |= {"test_a_row[one]", "test_a_row[two]", "test_unmarked"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Runs the file with arguments of pytest; returns the names of the tests that have passed, all that ran."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_it.py").write_text(FILE)

    def run(*arguments, seed="0"):
        environment = {name: x for name, x in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
        environment |= {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("PASSED ")]
        names = [line.partition("::")[2].strip() for line in lines]
        assert len(names) == len({*names})
        return {*names}

    return run


@pytest.fixture(scope="module")
def some(ran):
    """What runs by itself."""
    return ran("-p", "no:xdist")


def test_some_rows_or_all(ran, some):
    assert ran("-p", "no:xdist", "--exhaustive") == EVERY
    assert some - ROWS - VALUES == {"test_few[0]", "test_a_row[one]", "test_unmarked"}
    rows = some & ROWS
    assert "test_rows[0-float64-cpp]" in rows and len(ROWS) // 3 <= len(rows) <= len(ROWS) // 3 + 3


def test_each_value_of_a_parameter_stays(some):
    def values(rows):
        return [{*column} for column in zip(*(name.partition("[")[2][:-1].split("-") for name in rows))]

    assert values(some & ROWS) == values(ROWS) and values(some & VALUES) == values(VALUES)
    assert len(some & VALUES) <= 8


def test_the_same_rows_everywhere(ran, some):
    """In every process and run, and whatever else is asked for: pytest-xdist would refuse workers that differ."""
    pytest.importorskip("xdist")
    assert ran("-n", "2", seed="2") == some
    assert ran("-p", "no:xdist", "-k", "rows or few", seed="3") == some - VALUES - {"test_a_row[one]", "test_unmarked"}


def test_a_row_that_is_named_runs(ran, some):
    named = {min(ROWS - some), "test_none[1]", "test_a_row[two]"}
    assert ran("-p", "no:xdist", *(f"test_it.py::{name}" for name in named)) == named
