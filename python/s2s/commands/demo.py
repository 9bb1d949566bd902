"""``s2s demo``."""

import functools
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the model and the picture.")] = Path("runs/demo"),
    seconds: Annotated[float | None, typer.Option(min=1, help="Most seconds of training.")] = None,
):
    """Learn English to Marathi dates, and measure the kernels."""
    from ..demo import run_demo

    if not run_demo(out, seconds, say=functools.partial(print, flush=True)):
        raise typer.Exit(1)
