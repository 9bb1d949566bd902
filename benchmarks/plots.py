"""The plots: how many times faster per case, and growth with every size and with threads."""

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter

from .cases import FORWARD, TRAINING

COLOURS = {"s2s_kernels": "tab:blue", "eager": "tab:orange"}
AXES = {"B": "batch size B", "S": "source length S", "T": "target length T", "H": "state size H"}


def draw(report, folder):
    """Writes what there is something to show of; returns the paths."""
    paths, suite = [], report.data["suite"]
    if suite == "busy":
        return [busy(report, folder)]
    timed = [row for row in report.rows if "seconds" in row]
    for dtype, device in dict.fromkeys((row["dtype"], row["device"]) for row in timed):
        rows = [row for row in timed if (row["dtype"], row["device"]) == (dtype, device)]
        for name, figure in (("ratio", ratios(rows)), ("growth", growth(rows))):
            if figure is not None:
                figure.suptitle(f"{title(report, device)}, {dtype}", fontsize=10)
                path = folder / f"{suite}-{name}-{device}-{dtype}.png"
                figure.savefig(path, dpi=110)
                plt.close(figure)
                paths.append(path)
    return paths


def busy(report, folder):
    """Our time and the peers', by the number of busy processes, and a fair share of the machine; a panel for each row.

    What was measured beside an unsteady load is hollow.
    """
    rows = [row for row in report.rows if "seconds" in row and not row["one_process"]]
    names = list(dict.fromkeys(row["op"] for row in rows))
    wide = min(4, len(names))
    figure, grid = plt.subplots(
        -(-len(names) // wide),
        wide,
        figsize=(3.6 * wide, 3 * -(-len(names) // wide)),
        layout="constrained",
        squeeze=False,
    )
    peers = list(dict.fromkeys(row["implementation"] for row in rows))
    for axes, name in zip(grid.flat, names, strict=False):
        for i, peer in enumerate(peers):
            points = [row for row in rows if (row["op"], row["implementation"]) == (name, peer)]
            if not points:
                continue
            x, y = [row["busy"] for row in points], [row["seconds"]["median"] * 1e3 for row in points]
            axes.plot(x, y, color=f"C{i}", label=peer)
            for row, a, b in zip(points, x, y, strict=True):
                axes.plot(a, b, "o", color=f"C{i}", mfc="none" if row["unsteady"] else f"C{i}")
            if peer == "s2s_kernels":
                fair = [y[0] * (a + report.data["machine"]["cores"]) / report.data["machine"]["cores"] for a in x]
                axes.plot(x, fair, "k:", label="fair share of s2s_kernels")
        axes.set_yscale("log")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("busy processes", fontsize=8)
        axes.set_ylabel("ms", fontsize=8)
        axes.grid(alpha=0.3)
    for axes in list(grid.flat)[len(names) :]:
        axes.axis("off")
    handles = {l: h for axes in grid.flat for h, l in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), fontsize=8, loc="outside lower center", ncols=6)
    figure.suptitle(f"{title(report, 'cpu')}, float32", fontsize=10)
    path = folder / "busy.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def title(report, device):
    described = report.data["machine"]
    if device == "cuda":
        return described["gpu"]
    return f"{described['cpu']}, {report.data['threads']} threads"


def ratios(rows):
    """A bar for every peer of every case: how many times longer it takes, with the quartiles; log scale."""
    groups = {}
    for row in rows:
        if row["op"] != "scaling" and row["implementation"] != "s2s_kernels" and "ratio" in row:
            groups.setdefault((row["op"], row["case"], row["pass"]), []).append(row)
    # Where a case trains, the forward pass alone is in the table only.
    groups = {k: v for k, v in groups.items() if k[2] == TRAINING or (*k[:2], TRAINING) not in groups}
    if not groups:
        return None
    ops = list(dict.fromkeys(op for op, _, _ in groups))
    columns = in_columns(sorted(groups.items(), key=lambda group: ops.index(group[0][0])))
    height = max(sum(len(group) + 1 for _, group in column) for column in columns)
    figure, grid = plt.subplots(
        1,
        len(columns),
        figsize=(9 * len(columns), 1.6 + 0.17 * height),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    names = list(dict.fromkeys(row["implementation"] for group in groups.values() for row in group))
    colours = {name: f"C{1 + i}" for i, name in enumerate(names)}
    for axes, column in zip(grid[0], columns, strict=True):
        bars(axes, column, colours)
        axes.set_ylim(height - 0.5, -1)
        axes.set_xlabel(
            "time of the peer ÷ time of s2s_kernels, forward + backward (right of 1: s2s_kernels is faster)"
        )
    marks = [0.25, 0.5, 1, 2, 3, 5, 10, 20, 50, 100]
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator([m for m in marks if low / 1.5 <= m <= high * 1.5]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
    figure.legend(handles, names, fontsize=8, loc="outside lower center", ncols=4 * len(columns))
    return figure


def in_columns(groups, most=90):
    """The groups, one after another, in as few columns of about the same number of bars as keep it under ``most``."""
    total = sum(len(group) + 1 for _, group in groups)
    count, before = -(-total // most), 0
    columns = [[] for _ in range(count)]
    for item in groups:
        columns[before * count // total].append(item)
        before += len(item[1]) + 1
    return [column for column in columns if column]


def bars(axes, groups, colours):
    """The groups below one another."""
    y, ticks = 0.0, []
    for (op, case, direction), group in groups:
        start = y
        for row in group:
            r = row["ratio"]
            error = [[r["median"] - r["q1"]], [r["q3"] - r["median"]]]
            axes.barh(y, r["median"], 0.9, xerr=error, color=colours[row["implementation"]], error_kw={"lw": 0.8})
            y += 1
        suffix = " (forward)" if direction == FORWARD else ""
        ticks.append(((start + y - 1) / 2, f"{op} {case}{suffix}"))
        y += 1
    axes.set_xscale("log")
    axes.set_yticks([t for t, _ in ticks], [label for _, label in ticks], fontsize=8)
    axes.axvline(1, color="black", lw=1)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def growth(rows):
    """Time and ratio against each size, a line for each implementation and number of threads."""
    rows = [row for row in rows if row["op"] == "scaling" and "quick" not in row["case"]]
    panels = [axis for axis in AXES if any(row["case"].startswith(f"{axis}=") for row in rows)]
    if not panels:
        return None
    figure, grid = plt.subplots(
        2, len(panels), figsize=(3.4 * len(panels), 6), layout="constrained", squeeze=False, sharex="col"
    )
    threads = sorted({row["threads"] for row in rows}, reverse=True)
    styles = dict(zip(threads, ("-", "--", ":"), strict=False))
    for column, axis in enumerate(panels):
        lines, sizes = {}, set()
        for row in rows:
            name, size = row["case"].split("=")
            if name == axis:
                sizes.add(int(size))
                lines.setdefault((row["implementation"], row["threads"]), []).append((int(size), row))
        top, bottom = grid[0][column], grid[1][column]
        for (name, count), points in lines.items():
            points.sort(key=lambda p: p[0])
            x = [size for size, _ in points]
            label = f"{name}, {count} thread{'s' if count > 1 else ''}"
            look = {"ls": styles[count], "color": COLOURS.get(name), "marker": ".", "label": label}
            top.plot(x, [row["seconds"]["median"] * 1e3 for _, row in points], **look)
            if name != "s2s_kernels":
                found = [(size, row["ratio"]) for size, row in points if "ratio" in row]
                x = [size for size, _ in found]
                bottom.plot(x, [r["median"] for _, r in found], **look)
                bottom.fill_between(
                    x, [r["q1"] for _, r in found], [r["q3"] for _, r in found], color=look["color"], alpha=0.15
                )
        for panel in (top, bottom):
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(ScalarFormatter())
            panel.tick_params(axis="x", labelrotation=60, labelsize=8)
            panel.grid(alpha=0.3)
        top.set_yscale("log")
        top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        top.yaxis.set_major_formatter("{x:g}")
        top.yaxis.set_minor_locator(NullLocator())
        bottom.axhline(1, color="black", lw=1)
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel(AXES[axis])
    grid[0][0].set_ylabel("ms, forward + backward")
    grid[1][0].set_ylabel("eager ÷ s2s_kernels")
    grid[0][0].legend(fontsize=7)
    return figure
