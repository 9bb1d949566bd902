"""``s2s average``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import say


def average(
    models: Annotated[
        list[Path], typer.Argument(help="A folder of s2s train --keep N, or the folders of two or more checkpoints.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the averaged model.")],
):
    """Average the weights of the best checkpoints of a training, which is often a better model than each."""
    from ..files import locked
    from ..model.checkpoint import save_checkpoint
    from ..training.kept import average as averaged
    from ..training.kept import kept
    from ..training.state import check_free

    folders = kept(models[0]) if len(models) == 1 else models
    model, *vocabularies = averaged(folders)
    with locked(out):
        check_free(out)
        save_checkpoint(out, model, *vocabularies)
    say(f"the average of {len(folders)} models ({', '.join(path.name for path in folders)}) is in {out}")
