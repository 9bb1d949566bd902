"""Time, and how many times as fast as eager PyTorch, against every size of the attention decoder."""

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter

from ..selection import OURS, SPREAD, disturbed, relative

COLOURS = {OURS: "#0072b2", "eager": "#d55e00"}
AXES = {"B": "batch size B", "S": "source length S", "T": "target length T", "H": "state size H"}


def growth(rows, title):
    """A figure of the rows of ``bench_scaling``: a line for each implementation and number of threads; else None."""
    rows = [row for row in rows if "quick" not in row["case"]]
    panels = [axis for axis in AXES if any(row["case"].startswith(f"{axis}=") for row in rows)]
    if not panels:
        return None
    figure, grid = plt.subplots(
        2, len(panels), figsize=(3.2 * len(panels), 5.6), layout="constrained", squeeze=False, sharex="col"
    )
    threads = sorted({row["threads"] for row in rows}, reverse=True)
    styles = dict(zip(threads, ("-", "--", ":"), strict=False))
    ours = {(row["case"], row["threads"]): row for row in rows if row["implementation"] == OURS}
    for column, axis in enumerate(panels):
        top, bottom, lines = grid[0][column], grid[1][column], {}
        for row in rows:
            name, size = row["case"].split("=")
            if name == axis and row["threads"] in styles:
                lines.setdefault((row["implementation"], row["threads"]), []).append((int(size), row))
        for (name, count), points in lines.items():
            points.sort(key=lambda p: p[0])
            look = {"ls": styles[count], "color": COLOURS[name]}
            curve(top, [(x, row["seconds"], relative(row["seconds"]) > SPREAD) for x, row in points], 1e3, **look)
            if name != OURS:
                found = [(x, row, ours.get((row["case"], count))) for x, row in points if "ratio" in row]
                ratios = [(x, row["ratio"], disturbed(own, row)) for x, row, own in found if own]
                curve(bottom, ratios, 1, **look)
        scales(top, bottom, sorted({x for points in lines.values() for x, _ in points}))
        bottom.set_xlabel(AXES[axis])
    grid[0][0].set_ylabel("ms, forward + backward")
    grid[1][0].set_ylabel("times as fast as eager")
    legend(figure, styles)
    figure.suptitle(title, fontsize=11)
    return figure


def curve(axes, points, unit, **look):
    """A line through (x, spread, whether disturbed); what was disturbed is a hollow mark beside it."""
    kept = [(x, spread) for x, spread, bad in points if not bad]
    x = [x for x, _ in kept]
    axes.plot(x, [s["median"] * unit for _, s in kept], marker=".", **look)
    axes.fill_between(
        x, [s["q1"] * unit for _, s in kept], [s["q3"] * unit for _, s in kept], alpha=0.15, color=look["color"]
    )
    bad = [(x, spread["median"] * unit) for x, spread, bad in points if bad]
    axes.plot([x for x, _ in bad], [y for _, y in bad], "o", mfc="none", color=look["color"], ls="none", ms=5)


def scales(top, bottom, sizes):
    for panel in (top, bottom):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(FixedLocator(sizes))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.tick_params(axis="x", labelrotation=60, labelsize=8)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    top.set_yscale("log")
    top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    top.yaxis.set_major_formatter("{x:g}")
    top.yaxis.set_minor_locator(NullLocator())
    bottom.axhline(1, color="black", lw=1)
    low, high = bottom.get_ylim()
    bottom.set_ylim(min(low, 0.9), max(high, 1.5))


def legend(figure, styles):
    handles = {
        f"{'eager PyTorch' if name == 'eager' else name}, {count} thread{'s' * (count > 1)}": Line2D(
            [], [], color=colour, ls=style
        )
        for count, style in styles.items()
        for name, colour in COLOURS.items()
    }
    handles[f"disturbed: spread above {SPREAD:.0%}"] = Line2D(
        [], [], color="#777777", marker="o", mfc="none", ls="none"
    )
    figure.legend(handles.values(), handles, fontsize=9, loc="outside lower center", ncols=3, frameon=False)
