"""Times beside busy processes."""

from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from ..busy.rows import disturbed, place, shares

COLOURS = {  # told apart by most eyes
    "s2s_kernels": "#0072b2",
    "torch.nn": "#d55e00",
    "jax.lax.scan": "#009e73",
    "onnxruntime": "#cc79a7",
    "openvino": "#e69f00",
    "torchrl": "#56b4e9",
}
NAMES = {"torch.nn": "torch.nn; of attention_gru the eager loop"}
MARKS = [0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]
HATCH = "////"


def panels(names, wide, height, **options):
    """A figure with a panel for each name, and the panels by their names."""
    wide, high = min(wide, len(names)), -(-len(names) // wide)
    figure, grid = plt.subplots(
        high, wide, figsize=(3.6 * wide, height * high + 0.9), layout="constrained", squeeze=False, **options
    )
    for axes in list(grid.flat)[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(name, fontsize=9)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, dict(zip(names, grid.flat, strict=False))


def share(report, heading):
    """By how much each implementation takes longer than its fair share of the machine; a panel for each row.

    What was disturbed has no bar, but a hatched foot. None where there is nothing to show.
    """
    cores, timed = report.data["machine"]["cores"], [row for row in report.rows if "seconds" in row]
    found = shares(timed, cores)
    if not found:
        return None
    everyone = [name for name in COLOURS if any(key[3] == name for key in found)]
    places = list(dict.fromkeys(key[1:3] for key in found))
    bad = {(*place(row), row["implementation"]) for row in timed if place(row)[1:] in places} - {*found}
    figure, axes = panels(list(dict.fromkeys(key[0] for key in found)), 4, 2.4, sharey=True)
    width = 0.84 / len(everyone)
    for (op, busy, together, name), ratio in found.items():
        x = places.index((busy, together)) + (everyone.index(name) - (len(everyone) - 1) / 2) * width
        axes[op].bar(x, ratio - 1, width, bottom=1, color=COLOURS[name])
    for op, busy, together, name in bad:
        if op in axes and name in everyone:
            x = places.index((busy, together)) + (everyone.index(name) - (len(everyone) - 1) / 2) * width
            axes[op].bar(x, 0.06, width, bottom=0.97, fc="none", ec=COLOURS[name], hatch=HATCH, lw=0)
    for op, panel in axes.items():
        mine = [i for i, (busy, together) in enumerate(places) if any((op, busy, together) == key[:3] for key in found)]
        panel.set_xticks(mine, ["one\nprocess" if places[i][1] else f"{places[i][0]} busy" for i in mine], fontsize=8)
        panel.set_xlim(-0.6, len(places) - 0.4)
        panel.axhline(1, color="black", lw=1)
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(FixedLocator(MARKS))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter("{x:g}")
    low, high = min(found.values()), max(found.values())
    panel.set_ylim(min(low, 0.7) / 1.1, max(high, 2) * 1.1)
    handles = {NAMES.get(name, name): Patch(color=COLOURS[name]) for name in everyone}
    if bad:
        handles["disturbed"] = Patch(fc="none", ec="#777777", hatch=HATCH, lw=0)
    figure.legend(handles.values(), handles, fontsize=9, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        f"Time ÷ fair share of the machine: own time alone × (busy + {cores}) / {cores}\n{heading}", fontsize=11
    )
    return figure


def beside(report, heading):
    """Our time and the peers', by the number of busy processes, and a fair share of ours; a panel for each row.

    What was disturbed is hollow.
    """
    rows = [row for row in report.rows if "seconds" in row and not row["one_process"]]
    if not rows:
        return None
    figure, axes = panels(list(dict.fromkeys(row["op"] for row in rows)), 4, 2.6)
    everyone = [name for name in COLOURS if any(row["implementation"] == name for row in rows)]
    cores = report.data["machine"]["cores"]
    for op, panel in axes.items():
        for name in everyone:
            points = [row for row in rows if (row["op"], row["implementation"]) == (op, name)]
            x, y = [row["busy"] for row in points], [row["seconds"]["median"] * 1e3 for row in points]
            panel.plot(x, y, color=COLOURS[name], label=NAMES.get(name, name))
            for row, a, b in zip(points, x, y, strict=True):
                panel.plot(a, b, "o", color=COLOURS[name], mfc="none" if disturbed(row) else COLOURS[name])
            if name == "s2s_kernels" and x and x[0] == 0:
                fair = [y[0] * (a + cores) / cores for a in x]
                panel.plot(x, fair, "k:", label="fair share of s2s_kernels")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter("{x:g}")
        panel.set_xticks(sorted({row["busy"] for row in rows}))
        panel.set_xlabel("busy processes", fontsize=8)
        panel.set_ylabel("ms", fontsize=8)
    handles = {l: h for panel in axes.values() for h, l in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), fontsize=9, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(heading, fontsize=11)
    return figure
