"""``python -m benchmarks.readme``: writes the tables of README.md from the committed results.

A table stands between ``<!-- benchmarks:NAME -->`` and ``<!-- /benchmarks -->``; NAME is a table and a suite, such as
``speed-cpu``, ``memory-gpu`` or ``end-to-end-cpu``. Every machine that has results for the suite gets one.
"""

import argparse
import re
import sys
from pathlib import Path

from .cases import TRAINING
from .report import ROOT, Report, megabytes, milliseconds, number, pairs

MARKED = re.compile(r"(<!-- benchmarks:([a-z0-9-]+) -->\n).*?(<!-- /benchmarks -->)", re.DOTALL)
END_TO_END = ("train_step", "search")


def heading(report):
    data, described = report.data, report.data["machine"]
    name = described["gpu"] if data["suite"] == "gpu" else f"{described['cpu']}, {data['threads']} threads"
    rates = "; ".join(
        f"{r['dtype']} GEMM {r['gemm_gflops']:.0f} GFLOP/s, copy {r['copy_gbytes']:.0f} GB/s"
        for r in data["rates"]
        if r["threads"] == data["threads"]
    )
    return f"{name}; torch {described['torch']}; {rates}; commit {data['commit']}, {data['date']}."


def dims(row):
    return ", ".join(f"{name}={size}" for name, size in row["dims"].items())


def speed(report):
    """Forward and backward of every op: ours, eager PyTorch, and the best of the other peers."""
    head = ["op", "case", "dtype", "ms", "eager ÷ ours", "other peer ÷ ours", "× floor"]
    lines, rows = [], [row for row in report.rows if row["pass"] == TRAINING and "seconds" in row]
    for key, (ours, eager) in pairs(report.rows).items():
        if key[0] in (*END_TO_END, "scaling"):
            continue
        others = [row for row in rows if matches(row, key) and not row["implementation"].startswith("s2s_kernels")]
        others = [row for row in others if row["implementation"] != "eager" and "ratio" in row]
        best = min(others, key=lambda row: row["ratio"]["median"], default=None)
        other = "" if best is None else f"{best['ratio']['median']:.2f} {best['implementation']}"
        lines.append(
            [
                f"`{key[0]}`",
                f"{key[1]}: {dims(ours)}",
                key[2],
                milliseconds(ours["seconds"]),
                f"**{eager['ratio']['median']:.2f}**",
                other,
                number(ours["floor"]["times_above"]),
            ]
        )
    return head, lines


def memory(report):
    """Peak extra memory of a forward and backward pass, where it is more than a megabyte."""
    head, lines = ["op", "case", "dtype", "s2s_kernels, MB", "eager, MB"], []
    for key, (ours, eager) in pairs(report.rows).items():
        if key[0] != "scaling" and (eager.get("peak_extra_bytes") or 0) > 1e6 and megabytes(ours):
            lines.append([f"`{key[0]}`", f"{key[1]}: {dims(ours)}", key[2], megabytes(ours), megabytes(eager)])
    return head, lines


def end_to_end(report):
    """Training steps and searches: a line for each implementation."""
    head, lines = ["", "case", "dtype", "implementation", "ms", "tokens/s", "÷ ours"], []
    for row in report.rows:
        if row["op"] in END_TO_END and "seconds" in row:
            ours = "ratio" not in row or row["implementation"] == "s2s_kernels"
            ratio = "" if ours else f"**{row['ratio']['median']:.2f}**"
            rate = f"{row['tokens_per_second']:.0f}"
            what = row["op"].replace("_", " ")
            time = milliseconds(row["seconds"])
            lines.append([what, row["case"], row["dtype"], row["implementation"], time, rate, ratio])
    return head, lines


TABLES = {"speed": speed, "memory": memory, "end-to-end": end_to_end}


def matches(row, key):
    return (row["op"], row["case"], row["dtype"], row["device"], row["threads"]) == key


def markdown(head, lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def table(name, results):
    """The text between the markers of ``name``. Raises KeyError if there is no such table."""
    kind, _, suite = name.rpartition("-")
    make, parts = TABLES[kind], []
    for path in sorted(results.glob(f"*/{suite}.json")):
        report = Report.load(path)
        head, lines = make(report)
        if lines:
            parts.append(f"{heading(report)}\n\n{markdown(head, lines)}")
    return "\n\n".join(parts) or "Not yet measured."


def fill(text, results):
    return MARKED.sub(lambda m: f"{m[1]}\n{table(m[2], results)}\n\n{m[3]}", text)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__.split("\n\n")[0])
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--check", action="store_true", help="fail if a table is not what the results say")
    options = parser.parse_args(argv)
    before = options.readme.read_text(encoding="utf-8")
    try:
        after = fill(before, options.results)
    except KeyError as error:
        sys.exit(f"{options.readme.name} asks for the table {error}, expected one of {', '.join(TABLES)} with a suite.")
    if options.check:
        sys.exit("The tables are not up to date: run python -m benchmarks.readme" if after != before else 0)
    options.readme.write_text(after, encoding="utf-8")
    print(f"{len(MARKED.findall(before))} tables in {options.readme}")


if __name__ == "__main__":
    main()
