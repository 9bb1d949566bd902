"""The tables of README.md and the pages of docs/, from a report."""

from .busy import table as busy
from .busy.rows import OTHERS
from .identity import processor
from .report import megabytes, milliseconds, number
from .selection import OURS, SPREAD, cases, disturbed, peers, telling

MARK = "†"
FOOTNOTE = (
    f"{MARK} disturbed: the quartiles of a time or of the ratio are further apart than {SPREAD:.0%} of its median, so "
    "that nothing follows from the row."
)


def heading(report):
    data, described = report.data, report.data["machine"]
    name = described["gpu"] if data["suite"] == "gpu" else f"{processor(described)}, {data['threads']} threads"
    rates = "; ".join(
        f"{r['dtype']} GEMM {r['gemm_gflops']:.0f} GFLOP/s, copy {r['copy_gbytes']:.0f} GB/s"
        for r in data["rates"]
        if r["threads"] == data["threads"]
    )
    torch = f"torch {described['torch']}"
    return f"{'; '.join(filter(None, [name, torch, rates]))}; commit {data['commit']}, {data['date']}."


def what(key):
    """The first cell of a case: an op in code, an end-to-end case in words."""
    return key[0].replace("_", " ") if key[0] in ("train_step", "search") else f"`{key[0]}`"


def dims(row):
    return ", ".join(f"{name}={size}" for name, size in row["dims"].items())


def ratio(ours, row):
    """How many times as long the peer takes."""
    bad = disturbed(ours, row)
    text = f"{row['ratio']['median']:.2f}"
    return f"{text} {MARK}" if bad else text


def eager_and_others(case):
    """(eager ÷ ours, the fastest of the other peers ÷ ours), as text."""
    rows = {row["implementation"]: row for row in peers(case)}
    eager = f"**{ratio(case[OURS], rows.pop('eager'))}**" if "eager" in rows else ""
    best = min(rows.values(), key=lambda row: row["ratio"]["median"], default=None)
    return eager, "" if best is None else f"{ratio(case[OURS], best)} {best['implementation']}"


def short(report):
    """The cases that matter, undisturbed: one line each."""
    head = ["", "case", "dtype", "ms", "eager ÷ ours", "other ÷ ours"]
    lines = []
    for key, case in telling(report.rows).items():
        ours = case[OURS]
        lines.append(
            [what(key), f"{key[1]}: {dims(ours)}", key[2], milliseconds(ours["seconds"]), *eager_and_others(case)]
        )
    return head, lines, ""


def speed(report):
    """Everything that was compared."""
    head = ["", "case", "dtype", "ms", "eager ÷ ours", "other ÷ ours", "× floor"]
    lines = []
    for key, case in cases(report.rows).items():
        ours = case[OURS]
        cells = [what(key), f"{key[1]}: {dims(ours)}", key[2], milliseconds(ours["seconds"]), *eager_and_others(case)]
        lines.append([*cells, number(ours["floor"]["times_above"])])
    marked = any(MARK in cell for line in lines for cell in line)
    return head, lines, FOOTNOTE if marked else ""


def memory(report):
    """Peak extra memory of a forward and backward pass, where it is more than a megabyte."""
    head, lines = ["", "case", "dtype", "s2s_kernels, MB", "eager, MB"], []
    for key, case in cases(report.rows).items():
        ours, eager = case[OURS], case.get("eager", {})
        if (eager.get("peak_extra_bytes") or 0) > 1e6 and megabytes(ours):
            lines.append([what(key), f"{key[1]}: {dims(ours)}", key[2], megabytes(ours), megabytes(eager)])
    return head, lines, ""


def end_to_end(report):
    """Training steps and searches: a line for each implementation, other forms of ours too."""
    head, lines = ["", "case", "dtype", "implementation", "ms", "tokens/s", "÷ ours"], []
    own = {}
    for row in report.rows:
        if row["op"] in ("train_step", "search") and "seconds" in row:
            key = (row["op"], row["case"], row["dtype"])
            if row["implementation"] == OURS:
                own[key] = row
            times = "" if "ratio" not in row or row is own.get(key) else f"**{ratio(own[key], row)}**"
            rate = f"{row['tokens_per_second']:.0f}"
            lines.append([what(key), *key[1:], row["implementation"], milliseconds(row["seconds"]), rate, times])
    marked = any(MARK in line[-1] for line in lines)
    return head, lines, FOOTNOTE if marked else ""


def beside(report):
    """The suite busy: a line for each row and load."""
    head, lines = [*busy.HEAD], busy.lines(report.rows, report.data["machine"]["cores"])
    kept = [i for i, name in enumerate(head) if i in (0, len(head) - 1) or any(line[i] for line in lines)]
    said = any(line[-1] for line in lines)
    footnote = (
        f"unsteady: the rounds differ by more than twice; others: they used more than {OTHERS:.0%} of the machine."
    )
    kept = kept if said else kept[:-1]
    lines = [[line[i] for i in kept] for line in lines]
    return [head[i] for i in kept], lines, footnote if said else ""


def scores(report):
    """Of weights in 32, 16 and 8 bits: BLEU, its distance from float32, and sizes."""
    head = ["data", "search", "weights", "BLEU", "− float32", "on disk, MB", "in memory, MB", "read in a step, MB"]
    wide = {(row["data"], row["search"]): row["bleu"] for row in report.rows if row["dtype"] == "float32"}
    lines = []
    for row in report.rows:
        away = (
            ""
            if row["dtype"] == "float32"
            else f"{round(row['bleu'] - wide[row['data'], row['search']], 2) + 0.0:+.2f}"
        )
        sizes = (number(row[name] / 1e6) for name in ("disk", "held", "read"))
        lines.append([row["data"], row["search"], row["dtype"], f"{row['bleu']:.2f}", away, *sizes])
    return head, lines, "sacrebleu: " + ", ".join(sorted({row["bleu_signature"] for row in report.rows})) + "."


TABLES = {
    "short": short,
    "speed": speed,
    "memory": memory,
    "end-to-end": end_to_end,
    "beside": beside,
    "scores": scores,
}


def markdown(head, lines):
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def table(kind, report):
    """Heading, table and footnote; empty where there is no row."""
    head, lines, footnote = TABLES[kind](report)
    if not lines:
        return ""
    return "\n\n".join(filter(None, [heading(report), markdown(head, lines), footnote]))
