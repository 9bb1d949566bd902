"""What ``python -m benchmarks`` leaves behind when it cannot go on, and what it times."""

import json
import os
import time
from contextlib import contextmanager

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import cases, engine, measure, suites


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

    monkeypatch.setattr(cases.sk, "backend", slow)
    monkeypatch.setenv("S2S_TRIED", "before")
    taken = []
    tried = cases.Implementation("tried", None, backend="triton", environment=(("S2S_TRIED", "1"), ("S2S_MORE", "2")))
    step = engine.as_chosen(tried, lambda: taken.append((*chosen, os.environ["S2S_TRIED"], os.environ["S2S_MORE"])))
    assert measure.seconds(step, "cpu", calls=3) < 0.02
    assert taken == [("triton", "1", "2")] * 3 and not chosen
    assert os.environ["S2S_TRIED"] == "before" and "S2S_MORE" not in os.environ
