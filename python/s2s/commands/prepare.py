"""``s2s prepare``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import S2SError
from ..files import check_output
from .options import FilesArgument, say


def prepare(
    files: FilesArgument,
    cleaning: Annotated[
        Literal["none", "seed", "fixed", "detokenize"],
        typer.Option(help="As the English to Marathi seed; its mistake fixed; no spaces around punctuation."),
    ] = "none",
    split: Annotated[
        Literal["source", "row"] | None, typer.Option(help="By distinct source, or by row; row if cleaning is seed.")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0, max=1, help="Share of the sources or rows in test.tsv.")] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write all.tsv, train.tsv and test.tsv to this folder.")] = None,
):
    """Clean pairs of sentences, count their words and split them in two."""
    from ..text.cleaning import clean, normalize
    from ..text.pairs import PairFile, counted, split_pairs, write_pairs

    if not 0 <= held_out <= 1:  # NaN is in every range of typer's
        raise S2SError(f"held_out is {held_out}, expected from 0 to 1.")
    parts = {name: out / f"{name}.tsv" for name in ("all", "train", "test")} if out else {}
    for path in parts.values():
        check_output(path, files)
    pairs = PairFile(files, say, quotes=cleaning == "seed")
    cleaned, lost = Cleaned(pairs, lambda text, side: clean(normalize(text), cleaning, side)), []
    words, longest = {"source": set(), "target": {"START_", "_END"}}, {"source": 0, "target": 0}
    for i, pair in enumerate(cleaned.all()):
        if not all(pair):
            lost.append(i)
            continue
        for side, text in zip(words, pair):
            tokens = text.split()
            words[side].update(tokens)
            longest[side] = max(longest[side], len(tokens) + (2 if side == "target" else 0))
    if lost:
        emptied = f"{counted(len(lost), 'pair')} of which cleaning left nothing"
        say(f"{pairs.name}: left out {emptied} (line {pairs.shown(lost)})")
    cleaned.count = len(pairs) - len(lost)
    if not cleaned.count:
        raise S2SError("cleaning left no pair.")
    print(f"pairs        {cleaned.count:,}, {distinct(source for source, _ in pairs):,} distinct sources")
    print(f"cleaning     {cleaning}, {distinct(source for source, _ in cleaned):,} distinct sources after it")
    for side in words:
        note = ", with START_ and _END" if side == "target" else ""
        print(f"{side}       {len(words[side]):,} different words, the longest has {longest[side]}{note}")
    split = split or ("row" if cleaning == "seed" else "source")
    train, test = split_pairs(cleaned, held_out, split, seed, print)
    print(f"split        by {split}: {len(train):,} to train on, {len(test):,} held out")
    if out:
        for path, part in zip(parts.values(), (cleaned, train, test)):
            write_pairs(path, part)
        print(f"written      all.tsv, train.tsv and test.tsv in {out}")


class Cleaned:
    """Pairs cleaned anew at each walk, without those of which nothing is left on one side."""

    def __init__(self, pairs, clean):
        self.pairs, self.clean, self.count = pairs, clean, len(pairs)

    def all(self):
        return ((self.clean(source, "source"), self.clean(target, "target")) for source, target in self.pairs)

    def __len__(self):
        return self.count

    def __iter__(self):
        return (pair for pair in self.all() if all(pair))


def distinct(texts):
    from ..text.pairs import fingerprint

    return len({fingerprint(text) for text in texts})
