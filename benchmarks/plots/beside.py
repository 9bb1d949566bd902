"""Times beside busy processes."""

from matplotlib import pyplot as plt


def busy(report, heading):
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
    figure.suptitle(heading, fontsize=10)
    return figure
