"""What ``python -m benchmarks`` leaves behind when it cannot go on, and what it times."""

import json
import os
import time
from contextlib import contextmanager

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import busy, cases, engine, measure, suites


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
        time.sleep(0.5)
        chosen.append(name)
        yield
        chosen.pop()

    monkeypatch.setattr(cases.sk, "backend", slow)
    monkeypatch.setenv("S2S_TRIED", "before")
    taken = []
    tried = cases.Implementation("tried", None, backend="triton", environment=(("S2S_TRIED", "1"), ("S2S_MORE", "2")))
    step = engine.as_chosen(tried, lambda: taken.append((*chosen, os.environ["S2S_TRIED"], os.environ["S2S_MORE"])))
    assert measure.seconds(step, "cpu", calls=3) < 0.4
    assert taken == [("triton", "1", "2")] * 3 and not chosen
    assert os.environ["S2S_TRIED"] == "before" and "S2S_MORE" not in os.environ


def test_the_load_is_ended():
    with pytest.raises(KeyError), busy.load(2) as running:
        assert [process.poll() for process in running] == [None, None]
        raise KeyError
    assert all(process.returncode is not None for process in running)


def test_lines_of_the_suite_busy():
    """What is more than a fair share explains; a peer that is missing is blank, an unsteady one marks the line."""

    def row(implementation, busy, seconds, **more):
        spread = {"median": seconds, "q1": seconds, "q3": seconds}
        return {"op": "gru", "busy": busy, "one_process": False, "implementation": implementation} | (
            {"seconds": spread, "unsteady": False} | more
        )

    missing = {"op": "gru", "busy": 2, "one_process": False, "implementation": "openvino", "problem": "not installed"}
    rows = [row("s2s_kernels", 0, 1.0), row("s2s_kernels", 2, 2.0), row("torch.nn", 2, 5.0, unsteady=True), missing]
    cores = busy.report.os.cpu_count()
    idle, beside = busy.lines(rows)
    assert idle[:4] == ["gru", "0 busy", "1000 ± 0", "1.00"]
    assert beside[3] == f"{2 * cores / (2 + cores):.2f}" and beside[4] == "2.5" and beside[-1] == "unsteady"
