"""What the suite measures."""

import statistics

from ..runtimes import RUNTIMES

LEVELS = (0, 2, 4, 8)  # busy processes
SHAPES = ((16, 20, 128), (64, 50, 512), (1, 50, 256), (1, 50, 512))  # B, T and H, which is I too
LAYERS = [f"{op} {shape}" for op in ("gru", "lstm") for shape in SHAPES]
SCANS = ["attention_gru C1", "attention_gru C2", "attention_gru P"]
OTHERS = 0.1  # a larger share of the machine used by others marks a row


def plan(chosen=(*SCANS, *LAYERS)):
    """(row, busy processes, whether all runtimes share a process), in the order of measuring."""
    alone = [(row, busy, False) for busy in LEVELS for row in chosen]
    return alone + [(row, 0, True) for row in chosen if row in LAYERS]


def place(row):
    """Which entry of the plan a row of the report is of."""
    return row["op"], row["busy"], row["one_process"]


def names(row):
    """The implementations of a row: nobody's runtime but ours, eager PyTorch and JAX has the attention decoder."""
    return list(RUNTIMES)[:3] if row in SCANS else list(RUNTIMES)


def described(where):
    row, busy, together = where
    return f"{row}, {'all in one process' if together else f'{busy} busy'}"


def spread_of(rounds):
    """Of the times of all rounds; and whether the rounds differ so much that they were not beside the same load."""
    medians = [statistics.median(taken) for taken in rounds]
    q1, median, q3 = statistics.quantiles(sorted(t for taken in rounds for t in taken), n=4)
    return {"median": median, "q1": q1, "q3": q3}, max(medians) > 2 * min(medians)


def disturbed(row):
    """Whether nothing follows from a row: its rounds differ, or somebody else had the machine."""
    return "seconds" in row and (row["unsteady"] or (row.get("others") or 0) > OTHERS)


def shares(rows, cores):
    """{(row, busy, one process, implementation): its time over its fair share}, which is its own time alone, times
    (busy + cores) / cores. What was disturbed, or was alone, is left out."""
    timed = {(*place(row), row["implementation"]): row for row in rows if "seconds" in row and not disturbed(row)}
    found = {}
    for (op, busy, together, name), row in timed.items():
        idle = timed.get((op, 0, False, name))
        if idle and (busy or together):
            fair = idle["seconds"]["median"] * (busy + cores) / cores
            found[op, busy, together, name] = row["seconds"]["median"] / fair
    return found
