"""Curves of trainings as one picture: losses, speed, and BLEU where it is known."""

import io
from pathlib import Path
from typing import NamedTuple

from ..errors import S2SError
from ..files import read_json, write_output
from ..training.state_numbers import check_history

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # told apart by most eyes
PICTURES = (".png", ".pdf", ".svg")


class Run(NamedTuple):
    """What there is to draw of a training."""

    name: str
    history: list  # of its validations
    bleu: dict  # {"test.tsv, beam 5": BLEU}


def read_run(path) -> Run:
    """Of a folder of ``s2s train``, or of a record of ``s2s evaluate --record``. S2SError if it is neither."""
    path = Path(path)
    if path.is_dir():
        history, bleu = read_json(path / "history.json"), {}
    else:
        record = read_json(path)
        history = record.get("curve") if isinstance(record, dict) else None
        found = record.get("evaluations", []) if isinstance(record, dict) else []
        try:
            bleu = {f"{entry['data']}, {entry['search']}": float(entry["bleu"]) for entry in found}
        except (KeyError, TypeError, ValueError):
            raise S2SError(f"{path}: its evaluations are none.") from None
    try:
        check_history(history)
    except S2SError as error:
        raise S2SError(f"{path}: {error}") from None
    if not history:
        raise S2SError(f"{path} has no validation yet, so there is no curve.")
    return Run(path.stem if path.suffix == ".json" else path.resolve().name, history, bleu)


def draw_curves(path, runs) -> Path:
    """Writes the picture; its format is that of the path's ending.

    Raises:
        S2SError: the ending is of no picture, matplotlib is missing, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise S2SError(f"{path} ends in {path.suffix or 'nothing'!r}, expected one of {', '.join(PICTURES)}.")
    picture = io.BytesIO()
    figure(runs).savefig(picture, format=path.suffix[1:].lower(), dpi=150)
    write_output(path, picture.getvalue())
    return path


def figure(runs):
    """A matplotlib Figure of Runs: a colour each, the training loss dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    scored = any(run.bleu for run in runs)
    panels = 3 if scored else 2
    made = Figure(figsize=(4.6 * panels, 3.8), layout="constrained")
    FigureCanvasAgg(made)  # draws without a screen
    axes = made.subplots(1, panels)
    for number, run in enumerate(runs):
        colour, steps = COLOURS[number % len(COLOURS)], [record["step"] for record in run.history]
        mark = {"marker": "o", "markersize": 4} if len(steps) < 3 else {}
        valid = [record["valid_loss"] for record in run.history]
        axes[0].plot(steps, [record["train_loss"] for record in run.history], "--", color=colour, alpha=0.6, **mark)
        axes[0].plot(steps, valid, color=colour, label=run.name, **mark)
        best = min(range(len(steps)), key=valid.__getitem__)
        axes[0].plot(steps[best], valid[best], "*", color=colour, markersize=11, zorder=3)
        axes[1].plot(steps, [record["tokens_per_second"] for record in run.history], color=colour, **mark)
    axes[0].set_title("loss of a token, in nats: validation, and training (dashed)", fontsize="medium")
    axes[1].set_title("target tokens a second", fontsize="medium")
    axes[1].set_ylim(bottom=0)
    axes[1].yaxis.set_major_formatter("{x:,.0f}")
    for panel in axes[:2]:
        panel.set_xlabel("update")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if scored:
        _bars(axes[2], runs)
    for panel in axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, title="★ best")
    return made


def _bars(panel, runs):
    rows = [(COLOURS[n % len(COLOURS)], name, value) for n, run in enumerate(runs) for name, value in run.bleu.items()]
    places = range(len(rows), 0, -1)
    panel.barh(places, [value for _, _, value in rows], color=[colour for colour, _, _ in rows], alpha=0.45)
    for place, (_, name, value) in zip(places, rows):
        panel.annotate(f" {value:.1f}  {name}", (0, place), va="center", fontsize="small")
    panel.set_yticks([])
    panel.set_title("BLEU", fontsize="medium")
