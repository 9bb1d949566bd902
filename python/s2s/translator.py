"""A trained model with its vocabularies: text in, text out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .checkpoint import load_checkpoint, save_checkpoint
from .config import Config
from .data import source_batch
from .evaluate import Scores, score
from .search import Hypothesis, beam_search, greedy
from .vocab import EOS, SPECIALS, normalize


class Translation(NamedTuple):
    text: str
    score: float  # log probability over the length penalty
    source_pieces: list[str]  # S of them
    target_pieces: list[str]  # T of them, </s> included
    weights: Tensor  # (T, S), where each output token looked


class Translator:
    """What ``s2s.load(path)`` returns.

    >>> translator = s2s.load("runs/demo/model")
    >>> translator.translate(["March 5, 2024"])
    ['५ मार्च, २०२४']
    >>> translator.align(["March 5, 2024"])[0].weights.shape  # (T, S), a row for </s> at the end
    torch.Size([14, 13])
    """

    def __init__(self, model, source_vocab, target_vocab):
        self.model = model.eval()
        self.source_vocab, self.target_vocab = source_vocab, target_vocab

    @classmethod
    def load(cls, path, device="cpu") -> "Translator":
        return cls(*load_checkpoint(path, device))

    def save(self, path, history=()):
        save_checkpoint(path, self.model, self.source_vocab, self.target_vocab, history)

    @property
    def config(self) -> Config:
        return self.model.config

    def search(
        self,
        texts: Sequence[str],
        *,
        beam: int = 1,
        length_penalty: float = 0.0,
        n_best: int = 1,
        max_length: int | None = None,
        batch: int = 64,
        done: Callable[[int], object] | None = None,
    ) -> list[list[Hypothesis]]:
        """Hypotheses, up to n_best a text, best first: beam = 1 is greedy.

        ``done(n)`` is called after every batch with its number of texts, for a progress bar.
        """
        rows = [self.source_vocab.encode(normalize(text, self.config.lowercase)) for text in texts]
        device = next(self.model.parameters()).device
        max_length = max_length or self.config.max_length
        results = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # like lengths together: little padding
        # Longest first, so that running out of memory shows at once.
        for start in range(0, len(order), batch):
            indices = order[::-1][start : start + batch]
            source, lengths = source_batch([rows[i] for i in indices])
            source, lengths = source.to(device), lengths.to(device)
            if beam == 1:
                found = [[best] for best in greedy(self.model, source, lengths, max_length)]
            else:
                found = beam_search(self.model, source, lengths, max_length, beam, length_penalty, n_best)
            for i, hypotheses in zip(indices, found, strict=True):
                results[i] = hypotheses
            if done:
                done(len(indices))
        return results

    def translate(self, texts: Sequence[str], **options) -> list[str]:
        """The best output for each text; options as ``search``."""
        return [self.target_vocab.decode(best.ids) for best, *_ in self.search(texts, **options)]

    def align(self, texts: Sequence[str], **options) -> list[Translation]:
        """As ``translate``, with scores and attention: a list of Translations."""
        results = []
        for text, (best, *_) in zip(texts, self.search(texts, **options), strict=True):
            source = self.source_vocab.encode(normalize(text, self.config.lowercase)) or [EOS]
            results.append(
                Translation(
                    self.target_vocab.decode(best.ids),
                    best.score,
                    self._pieces(text, source),
                    [*self.target_vocab.pieces(best.ids), SPECIALS[EOS]],
                    best.weights.cpu(),
                )
            )
        return results

    def _pieces(self, text, ids):
        if self.source_vocab.kind == "char" and text:  # the characters themselves, unknown ones too
            return list(normalize(text, self.config.lowercase)) or [SPECIALS[EOS]]
        return self.source_vocab.pieces(ids)

    @torch.no_grad()
    def evaluate(self, pairs: Sequence[tuple[str, str]], **options) -> Scores:
        """Scores of the outputs for [(source, target)]; options as ``search``."""
        outputs = self.translate([source for source, _ in pairs], **options)
        return score(outputs, [normalize(target) for _, target in pairs])
