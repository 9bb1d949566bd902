"""``make tune`` where there is no GPU: Triton's interpreter runs the kernels, and a made-up clock times them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import bench_additive_attention, report, tune
from benchmarks.cases import SHAPES, Run
from s2s_kernels import triton
from s2s_kernels.triton import tiles

ROOT = Path(__file__).parents[1]
interpreted = pytest.mark.skipif(not triton.runs_on("cpu"), reason="no Triton interpreter here")


def test_without_triton_one_sentence(monkeypatch):
    monkeypatch.setattr(tune.gpu, "problem", lambda who: None)
    monkeypatch.setattr(triton, "installed", False)
    with pytest.raises(SystemExit, match=r"^make tune needs Triton, .*\.$"):
        tune.main([])


def test_the_candidates():
    """Powers of two that registers hold; one query is one, and a product has 16 of each."""
    for kernel in tiles.KERNELS:
        for T in (1, 5, 50):
            default, *others = tried = tune.candidates(kernel, T)
            assert default == tiles.default(kernel, T, torch.bfloat16) and len(set(tried)) == 6
            for t in others:
                product = default == tiles.MANY_CONTEXTS
                held = max(t.S * t.D, t.T * t.D, t.T * t.S) if product else t.T * t.S * t.A
                assert held <= 2048 * t.warps and all(n & (n - 1) == 0 for n in t)
                assert min(t[:4]) >= 16 if product else (t.T == 1) == (default.T == 1)


DEFAULT, A, B = TRIED = tune.candidates("scores", 1)[:3]


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ([{DEFAULT: 1.0, A: 0.98, B: 2.0}], None),  # less than 3 %
        ([{DEFAULT: 1.0, A: 0.96, B: 0.97}], A),
        ([{DEFAULT: 1.0, A: 0.96, B: 0.5}, {DEFAULT: 2.0, A: 1.8, B: 2.1}], A),  # B loses at one shape
        ([{DEFAULT: 1.0, B: 0.9}], B),  # A was wrong
        ([{DEFAULT: 1.0, A: 0.5, B: 0.9}, {DEFAULT: 1.0, B: 0.9}], B),  # at one shape
        ([{A: 0.5, B: 0.9}], None),  # the default was: there is nothing to hold against
        ([{}], None),
    ],
)
def test_the_winner(times, best):
    assert tune.winner(times, TRIED) == best


def test_groups():
    """Every kernel at every named shape, those of one class together."""
    pytest.importorskip("triton")
    groups = {group.key: group for group in tune.groups()}
    assert {group.kernel for group in groups.values()} == set(tiles.KERNELS)
    assert {run.case.name for group in groups.values() for run in group.runs} == set(SHAPES)
    assert all(len({run.dtype for run in group.runs}) == 1 for group in groups.values())
    together = groups["attend: one query, medium source, wide, 16 bits"]
    assert [run.case.name for run in together.runs] == ["P", "Q"]


def tiny(T=1):
    dims = {"B": 2, "S": 20, "A": 33, "D": 17} | ({} if T == 1 else {"T": T})
    return Run(bench_additive_attention.case("tiny", set(), **dims), "cpu", torch.float32, 1, "gpu")


def clock(monkeypatch, *seconds):
    """Makes the tiles take these times, in the order in which they are tried."""
    monkeypatch.setattr(
        tune.measure,
        "alternate",
        lambda steps, *_: {t: [x * tune.REPEATS] * 3 for t, x in zip(steps, seconds, strict=False)},
    )


@interpreted
@pytest.mark.parametrize(("kernel", "T"), [("scores", 1), ("softmax_context", 3), ("keys_backward", 1)])
def test_one_kernel_runs_in_other_tiles(kernel, T):
    """And what will be timed is its launch, alone."""
    tried = tune.candidates(kernel, T)[:3]
    found, problems = tune.launches(tiny(T), kernel, tried)
    assert list(found) == tried and set(problems.values()) == {None}
    for t, start in found.items():
        assert start.args[0].__name__ == f"{kernel}_kernel"
        assert (start.keywords["BS"], start.keywords["num_warps"]) == (t.S, t.warps)


@interpreted
def test_wrong_results_never_win(monkeypatch):
    """However fast: the op is held against the reference in each of the tiles."""
    from s2s_kernels.triton import language

    launch = language.launch

    def wrong_in_wide_tiles(function, grid, *args, **constants):
        launch(function, grid, *args, **constants)
        if constants.get("BS") == DEFAULT.S and constants["num_warps"] == A.warps:
            args[6].mul_(1.5)  # the scores

    monkeypatch.setattr(language, "launch", wrong_in_wide_tiles)
    clock(monkeypatch, 1.0, 0.9)
    assert A.warps != DEFAULT.warps
    seconds, row = tune.measured(tiny(), "scores", TRIED)
    assert list(seconds) == [DEFAULT, B] and tune.winner([seconds], TRIED) == B
    assert [t["wrong"] is None for t in row["tiles"]] == [True, False, True]
    assert row["tiles"][1]["wrong"].startswith("wrong: ") and row["tiles"][1]["seconds"] is None


@pytest.fixture
def tuned(monkeypatch, tmp_path):
    """Runs it with the groups and arguments given as on a GPU of architecture 9.0; the table and the report."""
    table, folder = tmp_path / "tiles.json", tmp_path / report.slug(report.machine(), "gpu")
    monkeypatch.setattr(tune, "problem", lambda: None)
    monkeypatch.setattr(tune, "RESULTS", tmp_path)
    monkeypatch.setattr(tiles, "TABLE", table)
    monkeypatch.setattr(tiles, "architecture_of", lambda device: "9.0")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)

    def run(groups, *args):
        monkeypatch.setattr(tune, "groups", groups.copy)
        with pytest.raises(SystemExit) as stopped:
            tune.main(args)
        made = json.loads((folder / "tune.json").read_text())
        return stopped.value.code, tiles.read(table), made, (folder / "tune.txt").read_text()

    return run


LIKE = "one query, short source, narrow, 32 bits"


def group(kernel, *runs):
    return SimpleNamespace(key=f"{kernel}: {LIKE}", kernel=kernel, shape=LIKE, runs=list(runs))


@interpreted
def test_the_table_and_the_report(tuned, monkeypatch):
    elsewhere = {("8.0", "scores", LIKE): B, ("9.0", "attend", LIKE): B}
    tiles.write(elsewhere | {("9.0", "keys_backward", LIKE): B}, tiles.TABLE)
    real, seen = tune.measured, []

    def measured(run, kernel, tried):
        seen.append(kernel)
        clock(monkeypatch, *{"scores": (5e-6, 6e-6, 4e-6, 5e-6, 5e-6, 5e-6)}.get(kernel, [1e-6] * 6))
        return real(run, kernel, tried)

    monkeypatch.setattr(tune, "measured", measured)
    code, table, made, text = tuned([group("scores", tiny(), tiny()), group("keys_backward", tiny())])
    assert code is None and seen == ["scores", "scores", "keys_backward"]
    # A row of the winner; none, any more, where the default is as good; those of others as they were.
    assert table == elsewhere | {("9.0", "scores", LIKE): B}
    assert made["not_run"] == made["notes"] == [] and len(made["rows"]) == 3
    assert made["rows"][0]["tiles"][2] == {**B._asdict(), "seconds": 4e-6, "wrong": None}
    assert text.splitlines()[1].split()[:6] == ["tiny,", "T=1", "float32", "scores", "5", "4"]


@interpreted
def test_what_was_measured_is_kept(tuned, monkeypatch):
    def measured(run, kernel, tried):
        if kernel == "scores":
            return {tried[0]: 1.0, tried[1]: 0.5}, {"kernel": kernel, "tiles": []}
        raise torch.OutOfMemoryError if kernel == "grad_weights" else RuntimeError("an illegal access\nwas encountered")

    monkeypatch.setattr(tune, "measured", measured)
    monkeypatch.setattr(tune, "table", lambda rows: f"{len(rows)} rows\n")
    groups = [group(kernel, tiny()) for kernel in ("grad_weights", "scores", "query_backward", "keys_backward")]
    code, table, made, text = tuned(groups)
    assert code == "Broke off: RuntimeError: an illegal access" and made["notes"] == [code]
    assert table == {("9.0", "scores", LIKE): A} and text == "1 rows\n"
    assert made["not_run"] == [groups[i].key for i in (0, 2, 3)]


def test_it_stops_in_time(tuned, monkeypatch):
    ticks = iter(range(0, 1000, 10))
    monkeypatch.setattr(tune, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    monkeypatch.setattr(tune, "measured", lambda run, kernel, tried: ({tried[0]: 1.0}, {"kernel": kernel, "tiles": []}))
    monkeypatch.setattr(tune, "table", lambda rows: "")
    groups = [group(kernel, tiny()) for kernel in ("scores", "query_backward", "keys_backward")]
    code, table, made, _ = tuned(groups, "--max-seconds", "25")
    assert (code, table, made["not_run"]) == (None, {}, [groups[2].key])


def test_a_table_that_cannot_be_read_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "problem", lambda: None)
    monkeypatch.setattr(tiles, "architecture_of", lambda device: "9.0")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(tiles, "TABLE", tmp_path / "tiles.json")
    tiles.TABLE.write_text("{")
    with pytest.raises(SystemExit, match=r"tiles\.json is not JSON"):
        tune.main([])
