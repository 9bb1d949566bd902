"""``s2s align``."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import S2SError
from ..files import check_output, write_output
from ..report.curves import PICTURES
from .lines import progress, read_chunks, report_cuts
from .options import BatchOption, DeviceOption, ModelArgument, pick_device, say, with_search_options

PAGES, TABLES = (".html", ".htm"), ("", ".txt", ".tsv")


@with_search_options
def align(
    model: ModelArgument,
    text: Annotated[list[str] | None, typer.Argument(help="What to translate and align.")] = None,
    file: Annotated[Path | None, typer.Option(help="Align every line of a file.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="A given output to score and align instead of a search, one for each text."),
    ] = None,
    format: Annotated[
        Literal["text", "png", "html"] | None,
        typer.Option(help="Tables, a picture each, or one page for the browser; by default by the ending of --out."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; several pictures are numbered.")] = None,
    batch: BatchOption = 64,
    device: DeviceOption = "auto",
    options=None,
):
    """Show where each output token looked, of arguments, the lines of a file, or those of standard input.

    A line with a tab is a source and its output, which is scored and aligned as it is: no search is made.
    """
    format = format or format_of(out)
    if format == "png" and not out:
        raise S2SError("a picture cannot be printed; give --out.")
    if format == "png" and out.suffix.lower() not in PICTURES:
        raise S2SError(f"--out ends in {out.suffix!r}, expected one of {', '.join(PICTURES)} for a picture.")
    if out:
        check_output(out, [file] if file else [])
    chunks, _ = read_chunks(text, file, batch)
    lines = [line for chunk in chunks for line in chunk]
    pairs = given_targets(lines, target)
    from ..report.alignment import to_html, to_text
    from ..report.plot import plot_alignment
    from ..translator import Translator

    translator = Translator.load(model, pick_device(device))
    with progress(len(lines)) as bar:
        if pairs:
            found = translator.force(pairs, batch=batch, done=bar.update, max_length=options.max_source_length)
        else:
            found = translator.align(lines, batch=batch, done=bar.update, cut=report_cuts(1), **asdict(options))
    if format == "png":
        for number, alignment in enumerate(found, 1):
            path = out if len(found) == 1 else out.with_stem(f"{out.stem}-{number}")
            say(f"alignment: {plot_alignment(path, alignment)}")
        return
    result = {"text": to_text, "html": to_html}[format](found)
    if out:
        write_output(out, result.encode())
        say(f"alignments: {out}")
    else:
        sys.stdout.write(result)


def format_of(out):
    """The format that a file's ending stands for. S2SError if it stands for none."""
    ending = out.suffix.lower() if out else ""
    if ending in TABLES:
        return "text"
    if ending in PICTURES or ending in PAGES:
        return "png" if ending in PICTURES else "html"
    known = ", ".join([*PICTURES, *PAGES, *filter(None, TABLES)])
    raise S2SError(f"--out ends in {ending!r}, expected one of {known}, or a --format.")


def given_targets(lines, targets):
    """[(source, target)] where targets are given by an option or after tabs, else None."""
    if targets:
        if len(targets) != len(lines):
            raise S2SError(f"{len(targets)} targets for {len(lines)} texts, expected one for each.")
        return list(zip(lines, targets))
    rows = [line.split("\t") for line in lines]
    without = [number for number, row in enumerate(rows, 1) if len(row) == 1]
    if without and len(without) < len(rows):
        raise S2SError(f"line {without[0]} has no tab and target, but others have.")
    return None if without else [(row[0], row[1]) for row in rows]
