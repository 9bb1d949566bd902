"""Pairs as ids, in batches of like lengths."""

from __future__ import annotations

import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..files import writing
from .cleaning import source_text, target_text
from .pairs import Pairs, watched
from .vocab import BOS, EOS, PAD, AnyVocabulary

if TYPE_CHECKING:  # the model's settings, of which a text reads a few
    from ..model.config import Config

CHUNK = 10_000  # pairs encoded at a time


class Batch(NamedTuple):
    source: Tensor  # (B, S)
    source_lengths: Tensor  # (B,)
    inputs: Tensor  # (B, T), <s> and the target
    outputs: Tensor  # (B, T), the target and </s>
    tokens: int  # in outputs, padding not counted; of all of a batch of which this is a part

    def to(self, device: torch.device | str) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Batch:
        """In memory from which a copy to a GPU need not be waited for."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        return self._replace(**{name: function(getattr(self, name)) for name in self._fields[:-1]})


def pad(rows: Iterable[Sequence[int]]) -> Tensor:
    """Lists of ids as one (B, longest) tensor."""
    rows = [torch.tensor(row, dtype=torch.long) for row in rows]
    if not rows:
        return torch.empty((0, 1), dtype=torch.long)
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


def source_batch(rows: Iterable[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """(ids (B, S), lengths (B,)) of encoded sources; an empty one is a single </s>."""
    rows = [row if len(row) else [EOS] for row in rows]
    return pad(rows), torch.tensor([len(row) for row in rows], dtype=torch.long)


def make_batch(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Batch:
    """A Batch of [(source ids, target ids)]."""
    source, lengths = source_batch([source for source, _ in rows])
    inputs = pad([[BOS, *target] for _, target in rows])
    outputs = pad([[*target, EOS] for _, target in rows])
    return Batch(source, lengths, inputs, outputs, sum(len(target) + 1 for _, target in rows))


class Dataset:
    """Pairs as ids, kept in a temporary file that the system maps into memory as needed.

    Args:
        pairs: a PairFile, a Selection or a list; it is walked over once.
        source_vocab, target_vocab: their vocabularies.
        config: a Config.
        max_length: longer pairs are left out, ``config.max_length`` if None; ``too_long`` has their indices.
    """

    def __init__(
        self,
        pairs: Pairs,
        source_vocab: AnyVocabulary,
        target_vocab: AnyVocabulary,
        config: Config,
        max_length: int | None = None,
    ) -> None:
        self.config, self.too_long, seen = config, [], 0
        self.vocabularies = source_vocab, target_vocab
        max_length = max_length or config.max_length
        lengths = [np.empty((0, 2), dtype=np.int32)]
        with writing(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
            pairs = iter(watched(pairs, "encoding", len(pairs)))
            while chunk := list(islice(pairs, CHUNK)):
                rows = [
                    (source_vocab.encode(source_text(source, config)), target_vocab.encode(target_text(target, config)))
                    for source, target in chunk
                ]
                long = [max(map(len, row)) > max_length for row in rows]
                kept = [row for row, out in zip(rows, long) if not out]
                self.too_long += [i for i, out in enumerate(long, seen) if out]
                seen += len(rows)
                lengths.append(
                    np.array([(len(source), len(target)) for source, target in kept], np.int32).reshape(-1, 2)
                )
                file.write(np.array([i for row in kept for side in row for i in side], dtype=np.int32).tobytes())
            file.flush()
            # A map stays when its file is closed; of an empty file there is none.
            self.ids = np.memmap(file, dtype=np.int32, mode="r") if file.tell() else np.empty(0, dtype=np.int32)
        self.lengths = np.concatenate(lengths)
        self.starts = np.zeros(len(self) + 1, dtype=np.int64)
        self.lengths.sum(1, out=self.starts[1:])
        self.starts.cumsum(out=self.starts)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        """(source ids, target ids) of one pair, without specials."""
        row = self.ids[self.starts[i] : self.starts[i + 1]]
        return row[: self.lengths[i, 0]], row[self.lengths[i, 0] :]

    def batches(self, epoch: int | None = None) -> list[np.ndarray]:
        """[[row index]], rows of like lengths together; in a new random order each epoch, fixed for None."""
        config = self.config
        random = np.random.default_rng((config.seed, epoch or 0))
        order = np.arange(len(self), dtype=np.int32)
        if epoch is not None:
            random.shuffle(order)
        # The sort is stable, so equal lengths stay shuffled and batches differ from epoch to epoch.
        order = order[np.lexsort(self.lengths[order].T)]
        batches, start = [], 0
        while start < len(order):
            size = min(config.batch_size, len(order) - start)
            if config.batch_tokens:
                widths = self.lengths[order[start : start + size], 1] + 1  # with </s>
                padded = np.arange(1, size + 1) * widths  # as the last of a batch is its longest
                size = max(1, int(np.searchsorted(padded, config.batch_tokens, "right")))
            batches.append(order[start : start + size])
            start += size
        if epoch is not None:
            random.shuffle(order := np.arange(len(batches)))
            batches = [batches[i] for i in order]
        return batches

    def load(self, indices: Iterable[int]) -> Batch:
        return make_batch([self[i] for i in indices])

    def load_part(self, indices: Sequence[int] | np.ndarray, part: Iterable[int]) -> Batch:
        """The Batch of ``part`` of the indices, maybe none of them, with the number of tokens of all of them."""
        return self.load(part)._replace(tokens=self.count_tokens(indices))

    def checksum(self) -> int:
        """The same where the ids of all pairs are, which several processes must share out."""
        return zlib.crc32(self.ids, zlib.crc32(self.lengths))

    def count_tokens(self, indices: Sequence[int] | np.ndarray) -> int:
        """Target tokens of these pairs, each with its </s>."""
        return int(self.lengths[indices, 1].sum()) + len(indices)


def prefetch(load: Callable[[Any], Any], items: Iterable[Any], ahead: int = 4) -> Iterator[Any]:
    """``map(load, items)`` with up to ``ahead`` results made in advance, in a thread beside the training step."""
    with ThreadPoolExecutor(1, "prefetch") as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
