"""What the pages say of the results within their sentences."""

from .busy.rows import disturbed as unsteady
from .busy.rows import place, shares
from .busy.table import OURS as OUR_RUNTIME
from .identity import processor
from .selection import OURS, cases, disturbed, peers


def span(values, digits=2):
    """The least and the most; "0.97 to 1.20"."""
    return " to ".join(dict.fromkeys(f"{x:.{digits}f}" for x in (min(values), max(values))))


def quiet(report):
    """(key, our row, a peer's row) of all that was compared and not disturbed."""
    for key, case in cases(report.rows).items():
        for row in peers(case):
            if not disturbed(case[OURS], row):
                yield key, case[OURS], row


def decoder(report):
    """By how much the attention decoder is faster than eager code, and where."""
    found = [
        row["ratio"]["median"]
        for key, _, row in quiet(report)
        if key[0] in ("attention_gru", "attention_lstm") and row["implementation"] == "eager"
    ]
    if not found:
        return ""
    described, threads = report.data["machine"], report.data["threads"]
    where = described["gpu"] or f"{threads} thread{'s' * (threads > 1)} ({processor(described)})"
    return f"on {where} {span(found, 1)} times as fast"


def slower(report):
    """The cases that a peer runs faster, with the peer's time over ours; the README has them among what is missing."""
    every = list(quiet(report))
    found = [
        f"`{key[0]}` {key[1]} in {key[2]}, {row['ratio']['median']:.2f} ({row['implementation']})"
        for key, _, row in every
        if row["ratio"]["median"] < 0.995
    ]
    return "; ".join(found) or ("none of those that were measured" if every else "")


def beside(report):
    """What the suite busy found, undisturbed: our share of the machine, and the others' times over ours."""
    cores, rows = report.data["machine"]["cores"], [row for row in report.rows if "seconds" in row]
    rows = [row for row in rows if not unsteady(row)]
    ours = {place(row): row["seconds"]["median"] for row in rows if row["implementation"] == OUR_RUNTIME}
    shared = {key: x for key, x in shares(rows, cores).items() if key[3] == OUR_RUNTIME and not key[2]}
    taken = list(shared.values())
    if not taken:
        return ""
    others, together = {}, {}
    for row in rows:
        if row["implementation"] != OUR_RUNTIME and place(row) in ours:
            ratio = row["seconds"]["median"] / ours[place(row)]
            if row["one_process"]:
                together.setdefault(place(row), []).append(ratio)
            elif row["busy"]:
                others.setdefault(row["implementation"], []).append(ratio)
    *levels, last = sorted({key[1] for key in shared})
    busy = ", ".join(map(str, levels)) + f" and {last}" if levels else last
    said = f"Beside {busy} busy processes a call takes {span(taken)} times its fair share of the machine, which is its "
    said += f"time alone times (busy + {cores}) / {cores}. Others take times as long: "
    said += ", ".join(f"{name} {span(found, 1)}" for name, found in others.items()) + "."
    if together:
        fastest = [min(found) for found in together.values()]
        said += " In one process with all of them, a GRU or LSTM forward, the fastest of them takes "
        said += f"{span(fastest)} times as long."
    return said
