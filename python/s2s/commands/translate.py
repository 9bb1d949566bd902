"""``s2s translate``."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..errors import S2SError
from ..text.pairs import read_pairs
from .lines import progress, read_chunks, report_cuts
from .options import BatchOption, DeviceOption, ModelArgument, pick_device, say, say_of_8_bits, with_search_options


@with_search_options
def translate(
    model: ModelArgument,
    text: Annotated[list[str] | None, typer.Argument(help="What to translate.")] = None,
    file: Annotated[Path | None, typer.Option(help="Translate every line of a file.")] = None,
    replace_unknown: Annotated[
        bool, typer.Option("--replace-unknown", help="For <unk>, the source word that had most of the attention.")
    ] = False,
    dictionary: Annotated[
        Path | None, typer.Option(help="Tab-separated words: what a source word becomes in the place of <unk>.")
    ] = None,
    batch: BatchOption = 64,
    device: DeviceOption = "auto",
    options=None,
):
    """Translate arguments, the lines of a file, or those of standard input: a line of output for each.

    With --n-best N it is up to N lines for each: number of the input line, score and output, tab-separated.
    """
    chunks, total = read_chunks(text, file, batch)
    if dictionary and not replace_unknown:
        raise S2SError("--dictionary is given without --replace-unknown, which it is for.")
    words = dict(read_pairs([dictionary], say)) if dictionary else None
    from ..translator import Translator

    how = {"replace_unknown": replace_unknown, "dictionary": words, "batch": batch, "generator": options.generator()}
    translator = Translator.load(model, pick_device(device))
    say_of_8_bits(translator, options)
    number = 0
    with progress(total) as bar:
        for chunk in chunks:
            how["cut"] = report_cuts(number + 1)
            found = translator.candidates(chunk, done=bar.update, **how, **asdict(options))
            with bar.external_write_mode():  # takes the bar away for as long
                for outputs in found:
                    number += 1
                    for best in outputs:
                        print(f"{number}\t{best.score:.4f}\t{best.text}" if options.n_best > 1 else best.text)
                sys.stdout.flush()
