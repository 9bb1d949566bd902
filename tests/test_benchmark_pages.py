"""The tables, pictures and sentences of README.md and the pages of docs/ that are made of results."""

import copy
import re
from pathlib import Path

import pytest

from benchmarks import phrases, readme, selection, tables, text_results
from benchmarks.busy.rows import LAYERS, SCANS
from benchmarks.identity import slug
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
    assert readme.MARKED.findall(text)


# A time, a ratio, a score or a size, which is another one when it is measured again.
FIGURE = re.compile(
    r"[0-9][0-9.,]*(?: (?:to|and) [0-9.,]+)? ?"
    r"(?:(?:times|×|x) (?:as|the|faster|slower|longer|less)\b|(?:ms|µs|tokens/s|BLEU|min(?:utes?)?)\b)"
)
MADE = {  # pages that commands write as a whole, or whose tables they write
    "results.md": "python -m benchmarks.text_results",
    "integrations.md": "make integrations",
    "interop.md": "make interop",
}


def typed(text):
    """The figures outside of parts that commands write, of code and of tables."""
    text = re.sub(r"```.*?```", "", readme.MARKED.sub("", text), flags=re.DOTALL)
    return [line for line in text.splitlines() if FIGURE.search(line)]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.name
)
def test_no_figure_is_typed_by_hand(page):
    if page.name not in MADE:
        assert typed(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "it is 1.4 to 2 times as fast",
        "takes 0.93 of it, 2.15x as fast",
        "in 3.2 ms",
        "in two or 2 minutes",
        "39.5 BLEU",
    ],
)
def test_a_figure_that_is_typed_is_found(line):
    assert typed(f"Speed\n\n{line}\n") == [line]
    assert typed(f"Speed <!-- benchmarks:short-cpu -->{line}<!-- /benchmarks -->, and\n```sh\n{line}\n```\n") == []


def test_a_disturbed_row_is_marked_and_no_gain():
    made = report([*BUSY, *QUIET, *LOSS])
    assert [key[:2] for key in selection.telling(made.rows)] == [("attention_gru", "C2"), ("lstm", "C2")]
    everything, short = tables.table("speed", made), tables.table("short", made)
    assert "**9.00 †**" in everything and "† disturbed" in everything and "**2.50**" in everything
    assert "9.00" not in short and "†" not in short and "0.50 nn.LSTM" in short


def test_a_range_leaves_out_what_was_disturbed():
    fast = [row("s2s_kernels", 0.1, 1.0, op="lstm", case="C1"), row("nn.LSTM", 0.2, 1.25, op="lstm", case="C1")]
    busy = [row("s2s_kernels", 0.1, 1.0, 0.3, op="lstm", case="P"), row("nn.LSTM", 0.9, 9.0, op="lstm", case="P")]
    decoders = [row("s2s_kernels", 0.1, 1.0, case="C1"), row("eager", 0.12, 1.25, case="C1")]
    made = report([*LOSS, *fast, *busy, *QUIET, *BUSY, *decoders])
    assert phrases.decoder(made) == "on 2 threads (A CPU) 1.2 to 2.5 times as fast"


def test_what_a_peer_runs_faster_is_said():
    disturbed = [row("s2s_kernels", 0.1, 1.0, 0.3, case="C1"), row("eager", 0.01, 0.1, case="C1")]
    assert phrases.slower(report([*QUIET, *LOSS, *disturbed])) == "`lstm` C2 in float32, 0.50 (nn.LSTM)"
    assert phrases.slower(report(QUIET)) == "none of those that were measured"
    assert phrases.slower(report([])) == ""


def test_what_is_said_of_busy_machines():
    def found(name, busy, seconds, op=SCANS[0], together=False, **more):
        made = {"op": op, "busy": busy, "one_process": together, "implementation": name, "unsteady": False}
        return made | {"seconds": spread(seconds, 0.02), "others": 0.0} | more

    rows = [found("s2s_kernels", 0, 1.0), found("s2s_kernels", 2, 2.4), found("s2s_kernels", 8, 4.0)]
    rows += [
        found("jax.lax.scan", 2, 7.2),
        found("torch.nn", 2, 1e9, unsteady=True),
        found("torch.nn", 8, 1e9, others=0.2),
    ]
    rows += [found("s2s_kernels", 0, 1.0, LAYERS[0]), found("s2s_kernels", 0, 1.0, LAYERS[0], together=True)]
    rows += [found("openvino", 0, 1.5, LAYERS[0], True), found("torch.nn", 0, 3.0, LAYERS[0], True)]
    made = report(rows)
    made.data["suite"] = "busy"
    said = phrases.beside(made)
    assert "takes 0.80 to 1.20 times its fair share" in said and "(busy + 2) / 2. " in said
    assert "times as long: jax.lax.scan 3.0. In one process" in said and said.endswith("takes 1.50 times as long.")
    assert phrases.beside(report([])) == ""
    head, lines, _ = tables.TABLES["beside"](made)
    assert head[:4] == ["row", "beside", "ms", "÷ fair share"] and head[-1] == "" and len(lines) == 5
    assert tables.heading(made) == "A CPU, 2 threads; torch 2.13; commit abc, 2026-11-01."


def test_scores_of_weights_of_8_bits():
    def found(dtype, bleu, disk):
        made = {"data": "val.en val.de", "search": "greedy", "dtype": dtype, "bleu": bleu, "bleu_signature": "nrefs:1"}
        return made | {"disk": disk, "held": 4e6, "read": 2e6}

    head, lines, footnote = tables.scores(report([found("float32", 34.4, 33e6), found("int8", 34.31, 9e6)]))
    assert lines[0][3:5] == ["34.40", ""] and lines[1][2:6] == ["int8", "34.31", "-0.09", "9"] and "nrefs:1" in footnote
    assert len(head) == len(lines[0])


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
    assert readme.part("slower-cpu", ROOT / "README.md", tmp_path) == "none of those that were measured"
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


def test_bleu_is_compared_by_one_tokenizer_alone():
    def record(bleu, tokenizer):
        found = {"data": "val", "count": 2, "references": "r", "bleu": bleu, "bleu_signature": f"tok:{tokenizer}"}
        return {"evaluations": [found]}

    records = {"a": record(30.0, "13a"), "b": record(20.0, "13a"), "c": record(40.0, "intl")}
    assert text_results.ratios(records) == "On val (2 pairs), a has 1.50 times the BLEU of b.\n\n"


@pytest.mark.parametrize(
    ("changes", "suite", "expected"),
    [
        ({"cpu_capability": "avx512_bf16"}, "cpu", "a-chip-avx512-bf16-2-cores"),
        ({"cpu_capability": "avx2"}, "busy", "a-chip-avx2-2-cores"),
        ({}, "cpu", "a-chip-2-cores"),
        ({"cpu": "Intel(R) Xeon(R) CPU @ 2.0GHz"}, "cpu", "intel-xeon-2.0ghz-2-cores"),
        ({"gpu": "NVIDIA H200"}, "gpu", "nvidia-h200"),
    ],
)
def test_results_of_other_processors_lie_in_other_folders(changes, suite, expected):
    """Two that a provider gives one name, too."""
    assert slug({"cpu": "A chip", "cores": 2, "gpu": None} | changes, suite) == expected
