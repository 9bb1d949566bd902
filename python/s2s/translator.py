"""A trained model with its vocabularies: text in, text out."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import S2SError, shown
from .model.checkpoint import load_checkpoint, save_checkpoint
from .model.config import Config
from .report.evaluate import Scores, score
from .search.dispatch import search, uniform
from .search.forced import force
from .search.hypothesis import Hypothesis
from .search.options import SearchOptions
from .text.cleaning import source_text, target_text
from .text.data import make_batch, source_batch
from .text.vocab import EOS, JOINER, SPECIALS, UNK, is_text, join_words

READ = 1000  # tokens of a text, if neither an option nor the training says more


def check_texts(name, texts):
    """TypeError for what is no text, S2SError for text that UTF-8 cannot write."""
    if not isinstance(texts, Iterable):
        raise TypeError(f"{name} is {type(texts).__name__}, expected texts.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{i}] is {type(text).__name__}, expected str.")
        if not is_text(text):
            raise S2SError(f"{name}[{i}] is {shown(text)}, which is not UTF-8 text.")


def warn_of_cut(index, tokens, limit):
    warnings.warn(f"texts[{index}] has {tokens:,} tokens, of which the first {limit:,} are read.", stacklevel=4)


class Translation(NamedTuple):
    text: str
    score: float  # log probability of the output and its end, with the penalties of a beam search
    source_pieces: list[str]  # S of them
    target_pieces: list[str]  # T of them, </s> included
    weights: Tensor | None  # (T, S), where each output token looked


class Translator:
    """What ``s2s.load(path)`` returns.

    >>> translator = s2s.load("runs/demo/model")
    >>> translator.translate(["March 5, 2024"])
    ['५ मार्च, २०२४']
    >>> translator.align(["March 5, 2024"])[0].weights.shape  # (T, S), a row for </s> at the end
    torch.Size([14, 13])

    A text of which nothing is left, as of an empty line, has the empty output. Every method takes the fields of
    ``SearchOptions`` by name (``beam=5, length_penalty=1.0``), and

    - one text instead of several, for which they return one result instead of a list;
    - ``batch``, how many texts are searched at once, which changes no result;
    - ``cut(index, tokens, limit)``, called for every text of more tokens than ``max_source_length``, of which only the
      first are read; by default it warns;
    - ``done(n)``, called after every batch with its number of texts, for a progress bar;
    - ``generator``, the torch.Generator of sampling, by default a new one of ``seed``.
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

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def search(
        self,
        texts: Sequence[str] | str,
        *,
        attention: bool = False,
        batch: int = 64,
        done: Callable[[int], object] | None = None,
        cut: Callable[[int, int, int], object] | None = None,
        generator: torch.Generator | None = None,
        **options,
    ) -> list[list[Hypothesis]] | list[Hypothesis]:
        """Hypotheses of ids, up to n_best a text, best first; with ``attention`` they have weights (T + 1, S)."""
        if isinstance(texts, str):
            arguments = {"attention": attention, "batch": batch, "done": done, "cut": cut, "generator": generator}
            return self.search([texts], **arguments, **options)[0]
        options = SearchOptions(**options)
        check_texts("texts", texts)
        rows = [self.source_vocab.encode(source_text(text, self.config)) for text in texts]
        limit = self.source_limit(options.max_source_length)
        for i, row in enumerate(rows):
            if len(row) > limit:
                (cut or warn_of_cut)(i, len(row), limit)
                rows[i] = row[:limit]
        random = None
        if options.sample:  # drawn in the order of the texts, so that batches do not matter
            max_length = options.max_length or self.config.max_length
            random = uniform(len(rows), options.n_best, max_length, generator or options.generator())
        results = [None] * len(rows)
        if not all(rows):
            empty = force(self.model, make_batch([([], [])]).to(self.device), attention)
            results = [results[i] if row else list(empty) for i, row in enumerate(rows)]
        for indices in self._batches(rows, batch, done):
            indices = [i for i in indices if rows[i]]
            if not indices:
                continue
            source, lengths = (x.to(self.device) for x in source_batch([rows[i] for i in indices]))
            drawn = None if random is None else random[indices]
            for i, found in zip(indices, search(self.model, source, lengths, options, drawn, attention)):
                results[i] = found
        return results

    def source_limit(self, max_source_length: int = 0) -> int:
        """How many tokens of a text are read, as the option says."""
        return max_source_length or max(READ, self.config.max_length)

    def translate(self, texts: Sequence[str] | str, **options) -> list[str] | str:
        """The best output for each text; options as ``candidates``."""
        if isinstance(texts, str):
            return self.translate([texts], **options)[0]
        return [best.text for best, *_ in self.candidates(texts, **options)]

    def align(self, texts: Sequence[str] | str, **options) -> list[Translation] | Translation:
        """As ``translate``, but Translations, which have scores, pieces and attention weights."""
        if isinstance(texts, str):
            return self.align([texts], **options)[0]
        return [best for best, *_ in self.candidates(texts, attention=True, **options)]

    def candidates(
        self,
        texts: Sequence[str] | str,
        *,
        replace_unknown: bool = False,
        dictionary: Mapping[str, str] | None = None,
        attention: bool = False,
        **options,
    ) -> list[list[Translation]] | list[Translation]:
        """Translations, up to n_best a text, best first.

        Args:
            texts: what to translate.
            replace_unknown: put the source word of the greatest attention weight in the place of every <unk>
                (Luong et al. 2015, "Addressing the rare word problem"); word vocabularies only.
            dictionary: what such a source word becomes; one that is not in it is copied.
            attention: whether the Translations get their weights.
            options: as the class says.

        Raises:
            S2SError: weights asked of a model without attention, or words of one without words.
            TypeError: a text that is none.
        """
        if isinstance(texts, str):
            arguments = {"replace_unknown": replace_unknown, "dictionary": dictionary, "attention": attention}
            return self.candidates([texts], **arguments, **options)[0]
        if replace_unknown and self.config.tokens != "word":
            raise S2SError(f"only words can be replaced, but this model's tokens are {self.config.tokens!r}.")
        if replace_unknown:
            options["allow_unknown"] = True
        found = self.search(texts, attention=attention or replace_unknown, **options)
        results, limit = [], self.source_limit(options.get("max_source_length", 0))
        for text, row in zip(texts, found):
            source = self.source_vocab.split(source_text(text, self.config))[:limit] or [SPECIALS[EOS]]
            results.append([])
            for best in row:
                target = self.target_vocab.pieces(best.ids)
                output = self.target_vocab.decode(best.ids)
                if replace_unknown and UNK in best.ids:
                    for t, token in enumerate(best.ids):
                        if token == UNK:
                            word = source[int(best.weights[t].argmax())].strip(JOINER)
                            target[t] = (dictionary or {}).get(word, word)
                    output = join_words(target)
                weights = best.weights if attention else None
                results[-1].append(Translation(output, best.score, source, [*target, SPECIALS[EOS]], weights))
        return results

    def force(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        attention: bool = True,
        batch: int = 64,
        done: Callable[[int], object] | None = None,
        max_length: int = 0,
    ) -> list[Translation]:
        """Scores of given outputs and where each of their tokens looked: a Translation for each (source, target).

        The score is log P(target, </s> | source), by teacher forcing.

        Raises:
            S2SError: a text of more tokens than ``max_length``, 0 for as many as are read of an input.
            TypeError: a text that is none.
        """
        for i, pair in enumerate(pairs):
            if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
                raise TypeError(f"pairs[{i}] is {pair!r}, expected a source and a target.")
            check_texts(f"pairs[{i}]", pair)
        texts = [(source_text(source, self.config), target_text(target, self.config)) for source, target in pairs]
        rows = [(self.source_vocab.encode(a) or [EOS], self.target_vocab.encode(b)) for a, b in texts]
        limit = self.source_limit(max_length)
        for number, row in enumerate(rows, 1):
            if (longest := max(map(len, row))) > limit:
                raise S2SError(f"pair {number} has {longest:,} tokens, expected at most {limit:,} (max_source_length).")
        results = [None] * len(rows)
        for indices in self._batches(rows, batch, done):
            found = force(self.model, make_batch([rows[i] for i in indices]).to(self.device), attention)
            for i, forced in zip(indices, found):
                source = self.source_vocab.split(texts[i][0]) or [SPECIALS[EOS]]
                target = [*self.target_vocab.split(texts[i][1]), SPECIALS[EOS]]
                results[i] = Translation(texts[i][1], forced.score, source, target, forced.weights)
        return results

    def evaluate(self, pairs: Sequence[tuple[str, str]], **options) -> Scores:
        """Scores of the outputs for [(source, target)]; options as ``candidates``."""
        outputs = self.translate([source for source, _ in pairs], **options)
        return score(outputs, [target_text(target, self.config) for _, target in pairs])

    def _batches(self, rows, size, done):
        """Lists of indices of rows of like lengths, the longest first so that too little memory shows at once."""
        if size < 1:
            raise S2SError(f"batch is {size}, expected 1 or more.")
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        for start in range(0, len(order), size):
            yield order[start : start + size]
            if done:
                done(len(order[start : start + size]))
