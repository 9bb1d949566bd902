"""The suite busy of the benchmarks: its load, how it goes on where it was stopped, its table."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.busy import load, measure, run, server, table
from benchmarks.busy.rows import LAYERS, LEVELS, SCANS, described, names, plan, shares

ROOT = Path(__file__).parents[1]


def test_the_load_is_ended():
    with pytest.raises(KeyError), load.load(2) as running:
        assert [process.poll() for process in running] == [None, None]
        raise KeyError
    assert all(process.returncode is not None for process in running)


def test_the_load_ends_with_a_process_that_is_killed():
    code = "import os\nfrom benchmarks.busy.load import load\nwith load(1) as running:\n"
    code += "    print(running[0].pid, flush=True)\n    os.kill(os.getpid(), 9)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    for _ in range(300):
        if not running(int(done.stdout)):
            return
        time.sleep(0.1)
    os.kill(int(done.stdout), 9)
    pytest.fail("the load is still there")


def running(pid):
    """Whether there is such a process; one that ended and that nobody has waited for is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def row(implementation, busy=0, seconds=1.0, op="gru (16, 20, 128)", together=False, **more):
    made = {"op": op, "busy": busy, "one_process": together, "implementation": implementation, "others": 0.0}
    spread = {"median": seconds, "q1": seconds, "q3": seconds}
    return made | {"took": 1.0} | ({"seconds": spread, "unsteady": False} | more)


def measured(monkeypatch, stop_at=None):
    """Puts a stand-in in the place of ``measure``; returns what it was asked for."""
    asked = []

    def stand_in(op, busy, together, servers):
        if len(asked) == stop_at:
            raise KeyboardInterrupt
        asked.append((op, busy, together))
        return [row(name, busy, 0.1 * len(asked), op, together) for name in names(op)]

    monkeypatch.setattr(run, "measure", stand_in)
    return asked


def busy(out, *more):
    benchmarks.main(["--suite", "busy", "--out", str(out), *more])


def stored(out):
    return json.loads((out / "busy.json").read_text())


def test_a_run_goes_on_where_the_one_before_was_stopped(monkeypatch, tmp_path, capsys):
    first = measured(monkeypatch, stop_at=5)
    with pytest.raises(SystemExit, match=r"^Interrupted: 47 of 52 rows are left, .* goes on\.$"):
        busy(tmp_path)
    assert first == plan()[:5] and stored(tmp_path)["not_run"] == [described(where) for where in plan()[5:]]
    said = capsys.readouterr().out
    assert f"row 1 of {len(plan())}, " in said and f"min left: {described(plan()[4])}\n" in said

    before, second = stored(tmp_path)["rows"], measured(monkeypatch)
    busy(tmp_path)
    assert second == plan()[5:] and stored(tmp_path)["not_run"] == []
    assert stored(tmp_path)["rows"][: len(before)] == before
    said = capsys.readouterr().out
    assert "Going on from" in said and f"row 6 of {len(plan())}, " in said and (tmp_path / "busy-share.png").exists()

    third = measured(monkeypatch)
    busy(tmp_path)
    assert third == []


def test_what_is_measured_again(monkeypatch, tmp_path):
    measured(monkeypatch)
    busy(tmp_path, "--filter", "C1")
    asked = measured(monkeypatch)
    busy(tmp_path, "--filter", "lstm (1, 50")
    assert len(asked) == 2 * (len(LEVELS) + 1) and {op for op, *_ in asked} == set(LAYERS[-2:])
    kept = [r for r in stored(tmp_path)["rows"] if r["op"] == SCANS[0]]
    asked = measured(monkeypatch)
    busy(tmp_path, "--filter", "lstm (1, 50, 256)", "--fresh")
    assert asked == plan([LAYERS[-2]])
    assert [r for r in stored(tmp_path)["rows"] if r["op"] == SCANS[0]] == kept and len(kept) == 3 * len(LEVELS)
    with pytest.raises(SystemExit):
        benchmarks.main(["--suite", "quick", "--fresh"])


def test_rows_of_another_build_are_not_kept(monkeypatch, tmp_path, capsys):
    measured(monkeypatch)
    busy(tmp_path, "--filter", "C1")
    monkeypatch.setattr(run, "build", lambda: {"sources": "others"})
    asked = measured(monkeypatch)
    busy(tmp_path, "--filter", "C2")
    assert len(asked) == len(LEVELS) and {r["op"] for r in stored(tmp_path)["rows"]} == {SCANS[1]}
    assert "is of another build" in capsys.readouterr().out


def test_a_file_that_is_no_report_is_not_overwritten(monkeypatch, tmp_path):
    measured(monkeypatch)
    (tmp_path / "busy.json").write_text('{"rows": 3')
    with pytest.raises(SystemExit, match=r"busy\.json is no report of this suite"):
        busy(tmp_path)
    assert (tmp_path / "busy.json").read_text() == '{"rows": 3'


def test_a_time_that_is_over_is_no_failure(monkeypatch, tmp_path, capsys):
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))
    asked = measured(monkeypatch)
    busy(tmp_path, "--max-seconds", "60")
    assert 0 < len(asked) < len(plan()) and "rows are left" in capsys.readouterr().out


def test_the_minutes_that_are_left():
    """Of short calls the seconds of a round, of long ones the least calls, which take longer beside more processes."""
    short, long = LAYERS[:2]
    rows = [row("s2s_kernels", 0, 1e-3, short), row("s2s_kernels", 0, 1.0, long)]
    fixed = run.OVERHEAD + run.ROUNDS * run.SECONDS
    assert run.seconds_left([(short, 8, False)], rows, 2) == pytest.approx(fixed)
    assert run.seconds_left([(long, 8, False)], rows, 2) == pytest.approx(run.OVERHEAD + run.ROUNDS * server.LEAST * 5)
    assert run.seconds_left([(SCANS[0], 0, False)] * 3, rows, 2) == pytest.approx(3 * 1.0)  # as the others took


@pytest.mark.parametrize("usual, first", [(None, 1), (0.001, 1), (5.0, 0)])
def test_calls_of_a_round(usual, first):
    calls = []
    taken = server.timed(lambda: calls.append(time.sleep(0.02)), 0.01, usual)
    assert len(taken) == server.LEAST and len(calls) == server.LEAST + first
    assert len(server.timed(lambda: None, 0.01, usual)) > server.LEAST


class Answers:
    """In the place of a Server: its first peer is missing, its second ends while it is timed."""

    def __init__(self):
        self.used = 0.0

    def ask(self, row, name, seconds):
        self.used += 0.01
        if name == "jax.lax.scan":
            return "ModuleNotFoundError: none"
        if name == "torch.nn" and seconds:
            return "its process ended"
        return ([0.1, 0.1, 0.3] if seconds else []), self.used


@pytest.mark.parametrize("together", [False, True])
def test_rows_of_a_place(together):
    servers = {"all": Answers()} if together else {name: Answers() for name in names(LAYERS[0])}
    rows = {found["implementation"]: found for found in measure.measure(LAYERS[0], 1, together, servers)}
    assert list(rows) == names(LAYERS[0])
    assert rows["torch.nn"]["problem"] == "its process ended" and "none" in rows["jax.lax.scan"]["problem"]
    assert rows["openvino"]["seconds"]["median"] == 0.1 and not rows["openvino"]["unsteady"]
    for found in rows.values():
        assert ("seconds" in found) != ("problem" in found) and found["took"] > 0
        assert (found["busy"], found["one_process"], found["load"]) == (1, together, load.LOAD)


def test_a_process_that_ended_is_a_sentence():
    one = server.Server(1)
    one.process.kill()
    assert one.ask(SCANS[0], "s2s_kernels", 0.0) == "its process ended, exit code -9"
    one.close()


def test_lines_of_the_suite():
    """What is more than a fair share explains; a peer that is missing is blank, an unsteady one marks the line."""
    missing = {"op": LAYERS[0], "busy": 2, "one_process": False, "implementation": "openvino", "problem": "none"}
    rows = [row("s2s_kernels"), row("s2s_kernels", 2, 2.4), row("torch.nn", 2, 6.0, unsteady=True), missing]
    idle, beside = table.lines(rows, 2)
    assert idle[:4] == [LAYERS[0], "0 busy", "1000 ± 0", "1.00"] and idle[-1] == ""
    assert beside[3:7] == ["1.20", "2.5", "", ""] and beside[-1] == "unsteady"
    (loaded,) = table.lines([row("s2s_kernels", others=0.4)], 2)
    assert loaded[-1] == "others used 40%"
    (without,) = table.lines([missing | {"implementation": "s2s_kernels"}], 2)
    assert without[2] == "NO TIME, none" and len(without) == len(table.HEAD)


def test_shares_leave_out_what_was_disturbed():
    rows = [row("s2s_kernels"), row("s2s_kernels", 2, 2.4), row("s2s_kernels", 8, 9.0, unsteady=True)]
    rows += [row("s2s_kernels", 4, 9.0, others=0.5), row("s2s_kernels", 0, 1.5, together=True), row("torch.nn", 2, 9.0)]
    found = shares(rows, 2)
    assert {key[1:]: round(x, 6) for key, x in found.items()} == {
        (2, False, "s2s_kernels"): 1.2,
        (0, True, "s2s_kernels"): 1.5,
    }


def test_bars_of_the_shares():
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib is not installed")
    found = argparse.Namespace(data={"machine": {"cores": 2}}, rows=[row("s2s_kernels"), row("torch.nn")])
    assert plots.share(found, "title") is None  # nothing but idle
    found.rows += [row("s2s_kernels", 2, 2.4), row("torch.nn", 2, 1.0), row("s2s_kernels", 4, 3.0, unsteady=True)]
    figure = plots.share(found, "title")
    (axes,) = figure.axes
    ends = [(round(bar.get_y(), 6), round(bar.get_y() + bar.get_height(), 6)) for bar in axes.patches]
    assert ends == [(1, 1.2), (1, 0.5)]  # beside 4 nothing is known: no bar
    plots.plt.close(figure)
