"""``s2s translate``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ..errors import S2SError
from .options import BeamOption, DeviceOption, ModelArgument, PenaltyOption, pick_device, say


def translate(
    model: ModelArgument,
    text: Annotated[list[str] | None, typer.Argument(help="What to translate.")] = None,
    file: Annotated[Path | None, typer.Option(help="Translate every line of a file.")] = None,
    beam: BeamOption = 5,
    length_penalty: PenaltyOption = 0.0,
    align: Annotated[
        Path | None,
        typer.Option(help="Write the attention of the first text as a picture (.png, .pdf, .svg)."),
    ] = None,
    device: DeviceOption = "auto",
):
    """Translate arguments, the lines of a file, or those of standard input: a line of output for each."""
    from ..pairs import read_lines
    from ..translator import Translator

    if text and file:
        raise S2SError("both texts and --file are given, expected one of them.")
    translator = Translator.load(model, pick_device(device))
    options = {"beam": beam, "length_penalty": length_penalty}
    first = None
    # Standard input is taken a screenful at a time, so that a pipe or a person soon sees output.
    for chunk in [text] if text else [read_lines(file)] if file else standard_input():
        first = first or chunk[0]
        with tqdm(total=len(chunk), disable=len(chunk) < 200 or None, unit="line", leave=False) as bar:
            for line in translator.translate(chunk, done=bar.update, **options):
                print(line)
        sys.stdout.flush()
    if align and first is not None:
        from ..plot import plot_alignment

        plot_alignment(align, translator.align([first], **options)[0])
        say(f"alignment: {align}")


def standard_input(size=64):
    """The lines of standard input in lists of up to ``size``, one line at a time from a terminal."""
    size = 1 if sys.stdin.isatty() else size
    chunk = []
    try:
        for line in sys.stdin:
            chunk.append(line.rstrip("\n"))
            if len(chunk) == size:
                yield chunk
                chunk = []
    except UnicodeDecodeError:
        raise S2SError("standard input is not UTF-8 text.") from None
    if chunk:
        yield chunk
