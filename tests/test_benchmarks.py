"""What ``python -m benchmarks`` leaves behind when it cannot go on, and what it times."""

import json
import os
import time
from contextlib import contextmanager

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks import cases, engine, goals, measure, peers, suites


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


def test_a_run_s_rows_are_on_disk_when_it_ends(monkeypatch, tmp_path):
    seen = []

    def measure(run, *_):
        if seen:
            seen.append(json.loads((tmp_path / "quick.json").read_text()))
        seen.append({})
        return [{"op": run.key, "implementation": "eager"}]

    monkeypatch.setattr(benchmarks, "measure_run", measure)
    monkeypatch.setattr(benchmarks.report.floors, "fill", lambda rows: None)
    monkeypatch.setattr(benchmarks.report.floors, "measure_again", lambda: None)
    monkeypatch.setattr(benchmarks.report, "text_table", lambda rows: "")
    monkeypatch.setattr(benchmarks.report.Report, "write", lambda self, folder: [])
    benchmarks.main(["--suite", "quick", "--filter", "gru", "--out", str(tmp_path)])
    kept = [x for x in seen if x]
    assert [len(x["rows"]) for x in kept] == list(range(1, len(kept) + 1)) and len(kept) == 2
    assert kept[0]["not_run"][0] == kept[1]["rows"][1]["op"]


def test_rows_and_steps_grow_in_both_dtypes(monkeypatch):
    monkeypatch.setattr(suites, "native_bfloat16", lambda: True)
    axes = {}
    for run in suites.cpu_runs("cpu", 2):
        if run.case.op == "scaling":
            axes.setdefault(run.dtype, set()).add(run.case.name[0])
    assert axes == {torch.float32: {*"BSTH"}, torch.bfloat16: {*"BT"}}


def test_the_goals_come_first():
    found, everything = suites.gpu_runs("goals", 2), suites.gpu_runs("gpu", 2)
    assert [run.key for run in found] == [run.key for run in everything[: len(found)]]
    assert [(run.case.op, run.case.name) for run in found] == list(goals.CASES)
    assert {name.split(",")[0] for _, name in goals.CASES} >= {"P", "C2", "Q"}
    for goal in goals.GOALS:
        assert (goal.op, goal.case) in goals.CASES


def test_the_goals_held_against_rows():
    def row(implementation, seconds, direction="forward", op="attention_gru", case="P", **more):
        found = {"op": op, "case": case, "pass": direction, "implementation": implementation, "device": "cuda"}
        return found | {"dtype": "bfloat16", "seconds": {"median": seconds}} | more

    rows = [
        row("s2s_kernels", 1.2e-3),
        row("s2s_kernels, cuda", 1.3e-3),
        row("s2s_kernels, cuda, one launch", 3.9e-4),
        row("eager", 5e-3),
        row("eager", 1e-9, device="cpu"),
        row("eager", 1e-9, dtype="float32"),
        row("s2s_kernels", 1e-3, "forward+backward", "train_step", "P, Bahdanau", peak_extra_bytes=5),
        row("eager", 3e-3, "forward+backward", "train_step", "P, Bahdanau", peak_extra_bytes=10),
        row("s2s_kernels, bfloat16", 1e-3, op="search", case="greedy, B=1, H=512", dtype="float32"),
        row("eager, bfloat16", 20e-3, op="search", case="greedy, B=1, H=512", dtype="float32"),
        row("nn.GRU", 3e-3, "forward+backward", "gru"),
        row("s2s_kernels", 1e-9, "forward+backward", "gru"),  # which may be cuDNN itself
        row("s2s_kernels, cuda", 2e-3, "forward+backward", "gru"),
    ]
    lines = {line[:48].strip(): line[48:].split() for line in goals.text(rows).splitlines()}
    assert lines["decoder scan forward"] == ["<=", "0.4", "ms", "0.39", "reached"]
    assert lines["decoder scan forward, of eager"] == [">=", "15", "x", "12.8", "NOT", "REACHED"]
    assert lines["decoder scan forward, one launch of the loop"][3:] == ["3.33", "reached"]
    assert lines["decoder scan forward + backward"][3:] == ["not", "measured"]
    assert lines["gru, H = 512, of cuDNN"] == [">=", "1.5", "x", "1.5", "reached"]
    assert lines["extra memory of a training step"] == ["<=", "0.6", "x", "0.5", "reached"]
    assert lines["greedy search, B = 1"][3:] == ["20", "reached"]


def test_every_form_of_ours_is_among_the_goals():
    """The loop of launches and one launch, on a machine whose extension has both."""
    names = {name for name, x in vars(peers).items() if name in ("LOOP_OF_LAUNCHES", "ONE_LAUNCH")}
    assert names and (*goals.LOOP, *goals.ONE) == (peers.LOOP_OF_LAUNCHES, peers.ONE_LAUNCH)
    loop, one = peers.launches(None)
    assert peers.replayed(None)[0].name == peers.REPLAYED_STEP in goals.OURS
    assert loop.environment == (("S2S_CUDA_PERSISTENT", "0"),) and one.environment == (("S2S_CUDA_PERSISTENT", "1"),)
