"""How well a model foretells given outputs."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import S2SError
from ..model.seq2seq import Seq2Seq
from ..text.cleaning import target_text
from ..text.data import Dataset
from ..text.pairs import counted
from ..text.vocab import UNK, AnyVocabulary
from ..training.trainer import validation_loss


class Perplexity(NamedTuple):
    """Of the targets given their sources. Models of other tokens compare by ``word``, if ``unknown`` is the same."""

    perplexity: float  # exp of the mean negative log likelihood of a token, </s> included
    word_perplexity: float  # the same likelihood spread over what white space separates, with one </s> a target
    unknown: float  # share of the tokens, </s> not counted, that are <unk>: their likelihood is that of <unk> itself

    def __str__(self) -> str:
        return (
            f"perplexity {self.perplexity:.3f} of a target token, {self.word_perplexity:.3f} of a word, </s> included; "
            f"{self.unknown:.2%} of the tokens are <unk>"
        )


def perplexity(
    model: Seq2Seq,
    pairs: Sequence[tuple[str, str]],
    source_vocab: AnyVocabulary,
    target_vocab: AnyVocabulary,
    max_length: int = 2**31 - 1,
    say: Callable[[str], object] = print,
) -> Perplexity:
    """Of a Seq2Seq with its vocabularies; pairs with more tokens than ``max_length`` on a side are left out, which is
    said. Raises S2SError if none is left."""
    config = model.config
    rows = Dataset(pairs, source_vocab, target_vocab, config, max_length)
    if long := rows.too_long:
        longer = f"{counted(len(long), 'pair')} longer than {max_length:,} tokens"
        say(f"perplexity: left out {longer} (--max-source-length)")
        lost = set(long)
        pairs = [pair for i, pair in enumerate(pairs) if i not in lost]
    if not pairs:
        raise S2SError(f"no pair is at most {max_length:,} tokens long, so there is no perplexity.")
    tokens = int(rows.lengths[:, 1].sum())
    unknown = sum(int((target == UNK).sum()) for _, target in (rows[i] for i in range(len(rows))))
    words = sum(len(target_text(target, config).split()) for _, target in pairs)
    nats = validation_loss(model, rows)  # of a token, one </s> a target among them
    return Perplexity(
        exponential(nats), exponential(nats * (tokens + len(rows)) / (words + len(rows))), unknown / max(tokens, 1)
    )


def exponential(x: float) -> float:
    """math.exp, and infinity where that is too large for a float."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
