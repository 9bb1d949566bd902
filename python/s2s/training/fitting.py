"""Options that give a good model for so much data; what a preset, a file or an option says goes first."""

import math
from collections import Counter
from typing import NamedTuple

from ..text.pairs import watched
from ..text.script import script

FEW = 1000  # pairs; of fewer, nothing general can be learnt
SAMPLE = 2000  # pairs that say which scripts are written


class Size(NamedTuple):
    """Of the pairs to train on."""

    pairs: int
    source_words: int  # what white space separates
    target_words: int
    one_script: bool  # whether both sides are written in the same


def measure(pairs) -> Size:
    """One walk over the pairs."""
    words, scripts = [0, 0], (Counter(), Counter())
    for number, pair in enumerate(watched(pairs, "measuring", len(pairs))):
        for side, text in enumerate(pair):
            words[side] += len(text.split())
            if number < SAMPLE:
                scripts[side][script([text])] += 1
    most = [max(side, key=side.get, default="") for side in scripts]
    return Size(len(pairs), *words, most[0] == most[1])


def pieces(words: int) -> int:
    """A size of a sentencepiece vocabulary that fits so many words: some 10 times their square root."""
    return 500 * min(max(round(math.sqrt(words) / 50), 1), 64)


def fitting(size: Size, config, chosen) -> dict:
    """Fields for a Config to be trained on so much data.

    Args:
        size: of the data.
        config: the Config so far.
        chosen: names of the fields that somebody has chosen, which stay as they are.
    """
    if size.pairs < FEW:
        return {}
    fields = {"tokens": "sentencepiece"}
    if "tokens" in chosen and config.tokens != "sentencepiece":
        fields = {}  # the size that fits words or characters is another matter
    else:
        fields["shared_vocab"] = size.one_script
        shared = config.shared_vocab if "shared_vocab" in chosen else size.one_script
        words = size.source_words + size.target_words if shared else max(size.source_words, size.target_words)
        fields["vocab_size"] = pieces(words)
    if config.features_size == config.embedding_size:
        fields["tied_embeddings"] = True
    fields |= {
        "dropout": 0.4 if size.pairs < 50_000 else 0.3 if size.pairs < 300_000 else 0.2,
        "label_smoothing": 0.1,
        "batch_size": 32 if size.pairs < 10_000 else 64,
        "lr": 2e-3,
        "warmup": 200,
        "ema": 0.99 if size.pairs < 10_000 else 0.998,
        "epochs": 100,  # patience ends it
        "patience": 4,
    }
    return {name: value for name, value in fields.items() if name not in chosen}


def said(fields) -> str:
    """The fields as options, to be repeated on a command line."""

    def option(name, value):
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            return f"--{'' if value else 'no-'}{flag}"
        return f"--{flag} {value}"

    return " ".join(option(name, value) for name, value in fields.items())
