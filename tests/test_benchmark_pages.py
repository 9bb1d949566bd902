"""The tables and pictures of README.md and docs/benchmarks.md, made of results."""

import copy
from pathlib import Path

import pytest

from benchmarks import readme, selection, tables
from benchmarks.report import Report

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def spread(median, share):
    return {"median": median, "q1": median * (1 - share / 2), "q3": median * (1 + share / 2), "samples": 9}


def row(implementation, seconds, ratio, share=0.02, op="attention_gru", case="C2", **changes):
    made = {"op": op, "case": case, "dims": {"B": 2}, "dtype": "float32", "device": "cpu", "threads": 2}
    made |= {"pass": "forward+backward", "implementation": implementation, "floor": {"times_above": 1.5}}
    return made | {"seconds": spread(seconds, share), "ratio": spread(ratio, 0.02)} | changes


def report(rows, date="2026-11-01", cpu="A CPU"):
    made = Report("cpu", 2, {"cpu": cpu, "gpu": None, "torch": "2.13", "cores": 2})
    made.data.update(rows=rows, date=date, commit="abc", rates=[])
    return made


QUIET = [row("s2s_kernels", 0.1, 1.0), row("eager", 0.25, 2.5)]
LOSS = [row("s2s_kernels", 0.1, 1.0, op="lstm"), row("nn.LSTM", 0.05, 0.5, op="lstm")]
BUSY = [row("s2s_kernels", 0.1, 1.0, case="P"), row("eager", 0.9, 9.0, share=0.3, case="P")]


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_the_pages_are_what_the_results_say(page):
    text = page.read_text(encoding="utf-8")
    assert readme.fill(text, page, RESULTS) == text, "run python -m benchmarks.readme"
    assert len(readme.MARKED.findall(text)) >= 4


def test_a_disturbed_row_is_marked_and_no_gain():
    made = report([*BUSY, *QUIET, *LOSS])
    assert [key[:2] for key in selection.telling(made.rows)] == [("attention_gru", "C2"), ("lstm", "C2")]
    everything, short = tables.table("speed", made), tables.table("short", made)
    assert "**9.00 †**" in everything and "† disturbed" in everything and "**2.50**" in everything
    assert "9.00" not in short and "†" not in short and "0.50 nn.LSTM" in short


def test_a_range_leaves_out_what_was_disturbed():
    fast = [row("s2s_kernels", 0.1, 1.0, op="lstm", case="C1"), row("nn.LSTM", 0.2, 1.25, op="lstm", case="C1")]
    busy = [row("s2s_kernels", 0.1, 1.0, 0.3, op="lstm", case="P"), row("nn.LSTM", 0.9, 9.0, op="lstm", case="P")]
    assert readme.phrase(report([*LOSS, *fast, *busy, *QUIET]), "lstm-float32") == "0.50 to 1.25"


@pytest.mark.parametrize("share", ["seconds", "ratio"])
def test_what_counts_as_disturbed(share):
    ours, eager = copy.deepcopy(QUIET)
    assert not selection.disturbed(ours, eager)
    eager[share] = spread(1.0, 0.26)
    assert selection.disturbed(ours, eager)
    ours, eager = copy.deepcopy(QUIET)
    ours["seconds"] = spread(1.0, 0.26)
    assert selection.disturbed(ours, eager)


def test_the_readme_shows_the_machine_measured_last(tmp_path):
    for name, date in (("a-cpu", "2026-11-02"), ("b-cpu", "2026-11-03"), ("c-cpu", "2026-11-01")):
        report(QUIET, date, name).write(tmp_path / name)
    assert readme.part("short-cpu", ROOT / "README.md", tmp_path).startswith("b-cpu, 2 threads")
    every = readme.part("short-cpu", ROOT / "docs" / "benchmarks.md", tmp_path)
    assert every.index("b-cpu") < every.index("a-cpu") < every.index("c-cpu")
    assert readme.part("decoder-cpu", ROOT / "README.md", tmp_path) == "on 2 threads (b-cpu) 2.5 times as fast"
    assert readme.part("lstm-float32-cpu", ROOT / "README.md", tmp_path) == "Not yet measured."
    assert readme.part("speed-gpu", ROOT / "README.md", tmp_path) == "Not yet measured."
    assert "b-cpu/cpu-telling.png" in readme.part("pictures-cpu", tmp_path / "README.md", tmp_path)
    with pytest.raises(KeyError, match="nothing-cpu"):
        readme.part("nothing-cpu", ROOT / "README.md", tmp_path)


def test_bars_grow_from_one():
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib is not installed")
    figure = plots.ratios(selection.cases([*QUIET, *LOSS, *BUSY]), "title")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert ends == [(1, 2.5), (1, 0.5)]  # faster to the right, slower to the left, and none of what was disturbed
    assert axes.get_xlim()[0] < 0.5 and axes.get_xlim()[1] < 5
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["eager PyTorch", "nn.GRU, nn.LSTM", "disturbed: spread above 25%"]
    plots.plt.close(figure)
    assert plots.ratios({}, "title") is None


def test_growth_leaves_out_what_was_disturbed():
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib is not installed")
    rows = [row("s2s_kernels", 0.1 * n, 1.0, op="scaling", case=f"B={n}") for n in (1, 2, 4)]
    rows += [row("eager", 0.3 * n, 3.0, 0.4 if n == 1 else 0.02, op="scaling", case=f"B={n}") for n in (1, 2, 4)]
    figure = plots.growth(rows, "title")
    (bottom,) = figure.axes[1:]
    line, hollow, *_ = bottom.get_lines()
    assert list(line.get_xdata()) == [2, 4] and list(hollow.get_xdata()) == [1]
    plots.plt.close(figure)
