"""What ``python -m benchmarks`` leaves behind when it cannot go on, and what it times."""

import json
import time
from contextlib import contextmanager

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import engine, measure, suites


def test_what_was_measured_is_kept(monkeypatch, tmp_path):
    keys = []

    def measure(run, *_):
        keys.append(run.key)
        if len(keys) == 3:
            raise RuntimeError("an illegal memory access\nwas encountered")
        return []

    monkeypatch.setattr(benchmarks, "measure_run", measure)
    with pytest.raises(SystemExit, match=r"Broke off at .*: RuntimeError: an illegal memory access$"):
        benchmarks.main(["--suite", "quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "quick.json").read_text())
    assert any(note.startswith("Broke off") for note in found["notes"])
    assert found["not_run"] == [run.key for run in suites.runs("quick", found["threads"])[2:]]
    assert found["not_run"][0] == keys[-1]


def test_the_choice_of_a_backend_is_not_timed(monkeypatch):
    chosen = []

    @contextmanager
    def slow(name):
        time.sleep(0.1)
        chosen.append(name)
        yield
        chosen.pop()

    monkeypatch.setattr(engine.sk, "backend", slow)
    taken = []
    step = engine.on_backend("triton", lambda: taken.append(tuple(chosen)))
    assert measure.seconds(step, "cpu", calls=3) < 0.02
    assert taken == [("triton",)] * 3 and not chosen
