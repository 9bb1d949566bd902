"""``s2s curves``."""

from pathlib import Path
from typing import Annotated

import typer

from ..files import check_output
from .options import say


def curves(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of s2s train, or records of s2s evaluate --record, which have BLEU.")
    ],
    out: Annotated[Path, typer.Option(help="The picture: .png, .pdf or .svg.")] = Path("curves.png"),
):
    """Draw losses, tokens a second and BLEU of one or several trainings as one picture."""
    from ..report.curves import draw_curves, read_run

    check_output(out, runs)
    say(f"curves: {draw_curves(out, [read_run(path) for path in runs])}")
