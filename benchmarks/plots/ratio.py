"""Bars that begin at 1: to the right how many times as fast ours is, to the left what it loses."""

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from ..cases import FORWARD
from ..selection import OURS, SPREAD, disturbed, peers

COLOURS = {  # told apart by most eyes
    "eager": "#d55e00",
    "eager, CUDA graph": "#e69f00",
    "torch.compile": "#009e73",
    "nn.GRU": "#0072b2",
    "nn.LSTM": "#0072b2",
    "TorchRL scan": "#56b4e9",
    "JoeyNMT": "#cc79a7",
}
LEGEND = {
    "eager": "eager PyTorch",
    "eager, CUDA graph": "eager PyTorch in a CUDA graph",
    "nn.GRU": "nn.GRU, nn.LSTM",
    "nn.LSTM": "nn.GRU, nn.LSTM",
}
MARKS = [0.25, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 50, 100]
HOLLOW = {"marker": "o", "mfc": "none", "ls": "none"}
QUIET = {"color": "#555555", "fontsize": 8}


def ratios(cases, title):
    """A figure of {(op, case, dtype, ...): {implementation: row}}; None where there is none."""
    if not cases:
        return None
    height = sum(len(peers(case)) + 0.7 for case in cases.values())
    figure, axes = plt.subplots(figsize=(8.4, 1.5 + 0.24 * height), layout="constrained")
    bars(axes, list(cases.items()), len({key[2] for key in cases}) == 1)
    axes.set_ylim(height - 0.6, -0.9)
    rows = [(case[OURS], row) for case in cases.values() for row in peers(case)]
    known = [row["ratio"]["median"] for ours, row in rows if not disturbed(ours, row)]
    low, high = min([*known, 0.95]), max([*known, 1.5])
    axes.set_xlim(low / 1.08, high * 1.3)
    axes.xaxis.set_major_locator(FixedLocator([m for m in MARKS if low / 1.08 <= m <= high * 1.3]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    names = dict.fromkeys(row["implementation"] for _, row in rows)
    handles = {LEGEND.get(name, name): Patch(color=COLOURS[name]) for name in COLOURS if name in names}
    if any(disturbed(ours, row) for ours, row in rows):
        handles[f"disturbed: spread above {SPREAD:.0%}"] = Line2D([], [], color="#777777", **HOLLOW)
    figure.legend(handles.values(), handles, fontsize=9, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"Time of others ÷ time of s2s_kernels\n{title}", fontsize=11)
    return figure


def bars(axes, part, same_dtype):
    """Cases below one another, a bar for each peer; of a disturbed one only that there is one."""
    y, ticks = 0.0, []
    for (op, name, dtype, *_), case in part:
        rows = peers(case)
        for row in rows:
            r, colour = row["ratio"], COLOURS[row["implementation"]]
            if disturbed(case[OURS], row):
                axes.plot(1, y, color=colour, clip_on=False, **HOLLOW)
            else:
                axes.barh(y, r["median"] - 1, 0.85, left=1, color=colour)
                axes.plot([r["q1"], r["q3"]], [y, y], color="black", lw=1, solid_capstyle="butt")
                axes.annotate(
                    f"{r['median']:.2f}", (max(r["q3"], 1), y), (4, 0), textcoords="offset points", va="center", **QUIET
                )
            y += 1
        about = [name, *([] if same_dtype else [dtype]), *(["forward"] if rows[0]["pass"] == FORWARD else [])]
        ticks.append((y - (len(rows) + 1) / 2, f"{op}  {', '.join(about)}"))
        y += 0.7
    axes.set_xscale("log")
    axes.set_yticks([t for t, _ in ticks], [label for _, label in ticks], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.axvline(1, color="black", lw=1)
    axes.set_xlabel("right of 1: s2s_kernels is faster", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
