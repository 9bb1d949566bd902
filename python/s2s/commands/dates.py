"""``s2s dates``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import say

MOST = 1_000_000  # there are hardly more, in all formats


def dates(
    source: Annotated[str, typer.Argument(help="A locale, such as en or pt_BR.")],
    target: Annotated[str, typer.Argument(help="The locale to translate to.")],
    out: Annotated[Path, typer.Option(help="Folder for train.tsv, valid.tsv and test.tsv.")] = Path("runs/dates"),
    train: Annotated[int, typer.Option(min=1, max=MOST, help="Most pairs to train on.")] = 64_000,
    valid: Annotated[int, typer.Option(min=1, max=MOST, help="Most pairs to validate on.")] = 500,
    test: Annotated[int, typer.Option(min=1, max=MOST, help="Most pairs to test on.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of dates and formats.")] = 1,
):
    """Write pairs of dates, in all the formats that CLDR has for both locales."""
    from ..text.dates import make_dates
    from ..text.pairs import write_pairs

    data = make_dates(train, valid, test, source, target, seed)
    for name in ("train", "valid", "test"):
        write_pairs(out / f"{name}.tsv", getattr(data, name))
    say(
        f"{len(data.formats)} formats; {len(data.train):,} pairs to train on, {len(data.valid):,} to validate, "
        f"{len(data.test):,} to test, no date and no source twice in two of them; in {out}"
    )
    if data.dropped:
        say(f"left out, as they contradict another format: {', '.join(data.dropped)}")
