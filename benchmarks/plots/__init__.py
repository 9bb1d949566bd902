"""The pictures: how many times as fast, of the cases that matter and of all; growth with sizes and threads; beside
busy processes."""

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from .. import selection
from ..identity import processor
from .beside import beside, share
from .growth import growth
from .ratio import ratios


def draw(report, folder):
    """Writes what there is something to show of; returns the paths."""
    paths, suite = [], report.data["suite"]

    def save(name, figure):
        if figure is not None:
            paths.append(folder / f"{suite}-{name}.png")
            figure.savefig(paths[-1], dpi=120)
            plt.close(figure)

    if suite == "busy":
        save("share", share(report, f"{title(report)}, float32"))
        save("beside", beside(report, f"{title(report)}, float32"))
        return paths
    save("telling", ratios(selection.telling(report.rows), title(report)))
    found = selection.cases(report.rows)
    for dtype, device in dict.fromkeys(key[2:4] for key in found):
        chosen = {key: case for key, case in found.items() if key[2:4] == (dtype, device)}
        save(f"ratio-{device}-{dtype}", ratios(chosen, f"{title(report, device)}, {dtype}"))
    grown = [row for row in report.rows if row["op"] == "scaling" and "seconds" in row]
    for dtype, device in dict.fromkeys((row["dtype"], row["device"]) for row in grown):
        rows = [row for row in grown if (row["dtype"], row["device"]) == (dtype, device)]
        save(f"growth-{device}-{dtype}", growth(rows, f"attention_gru, {title(report, device)}, {dtype}"))
    return paths


def title(report, device="cpu"):
    described = report.data["machine"]
    if device == "cuda" or report.data["suite"] == "gpu":
        return described["gpu"]
    return f"{processor(described)}, {report.data['threads']} threads"
