"""The rows as a table."""

import os

from .. import report
from ..runtimes import RUNTIMES
from .rows import OTHERS, place

OURS, *PEERS = RUNTIMES


HEAD = ["row", "beside", "ms", "÷ fair share", *(f"{name} ÷ ours" for name in PEERS), ""]


def lines(rows, cores=None):
    """A line for each row and load: our time, and by how much it is more than a fair share of the machine explains."""
    found = {}
    for row in rows:
        found.setdefault(place(row), {})[row["implementation"]] = row
    return [line(key, found, cores or os.cpu_count()) for key in found if OURS in found[key]]


def line(key, found, cores):
    """One of them; ``found``: {place: {implementation: row}}."""
    row, beside = found[key][OURS], "others, one process" if key[2] else f"{key[1]} busy"
    if "seconds" not in row:
        return [key[0], beside, "NO TIME, " + row["problem"][:60], *[""] * (len(HEAD) - 3)]
    median = row["seconds"]["median"]
    idle = found.get((key[0], 0, False), {}).get(OURS, {}).get("seconds")
    share = f"{median / (idle['median'] * (key[1] + cores) / cores):.2f}" if idle else ""
    peers = [found[key].get(name, {}) for name in PEERS]
    ratios = [report.number(p["seconds"]["median"] / median) if "seconds" in p else "" for p in peers]
    return [key[0], beside, report.milliseconds(row["seconds"]), share, *ratios, mark((row, *peers))]


def mark(found):
    """What is to be said of rows that were measured in turn."""
    others = max((row.get("others") or 0 for row in found), default=0)
    said = ["unsteady"] if any(row.get("unsteady") for row in found) else []
    return ", ".join(said + ([f"others used {others:.0%}"] if others > OTHERS else []))
