"""Pairs of sentences from files, split, and in batches of like lengths."""

import random
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .errors import S2SError
from .vocab import BOS, EOS, PAD, normalize


def read_text(path) -> str:
    """The whole of a UTF-8 file."""
    path = Path(path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise S2SError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise S2SError(f"{path} is a folder, expected a file.") from None
    except OSError as error:
        raise S2SError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise S2SError(f"{path} is not UTF-8 text (line {line}); iconv can convert it.") from None


def read_lines(path) -> list[str]:
    """The lines of a UTF-8 file, which must have one."""
    # Not str.splitlines, which also breaks at U+2028, U+0085 and form feeds and so shifts parallel files.
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    if not any(line.strip() for line in lines):
        raise S2SError(f"{path} is empty.")
    return lines


def read_pairs(paths, say=print) -> list[tuple[str, str]]:
    """[(source, target)] from one tab-separated file or from two parallel ones.

    Further columns of a tab-separated file are ignored. A line where either side is missing is left out, and
    ``say`` is told how many there were and where.
    """
    paths = [Path(path) for path in paths]
    if len(paths) == 1:
        rows = [line.split("\t")[:2] for line in read_lines(paths[0])]
    elif len(paths) == 2:
        source, target = (read_lines(path) for path in paths)
        if len(source) != len(target):
            raise S2SError(f"{paths[0]} has {len(source)} lines but {paths[1]} has {len(target)}, expected as many.")
        rows = zip(source, target, strict=True)
    else:
        raise S2SError(f"{len(paths)} files given, expected one tab-separated file or two parallel ones.")
    pairs, bad = [], []
    for number, row in enumerate(rows, 1):
        row = [cell.strip() for cell in row]
        if len(row) == 2 and all(row):
            pairs.append(tuple(row))
        else:
            bad.append(number)
    name = " and ".join(str(path) for path in paths)
    if not pairs:
        raise S2SError(f"{name} has no line with a source, a tab and a target.")
    if bad:
        shown = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        say(f"{name}: left out {len(bad)} lines without a source or a target (line {shown})")
    return pairs


def split_pairs(pairs, fraction, by="source", seed=1, say=print):
    """(train, held out). ``by="source"`` keeps all pairs of one source on one side; ``"row"`` does not."""
    groups = sorted({source for source, _ in pairs}) if by == "source" else list(range(len(pairs)))
    count = round(fraction * len(groups))
    if fraction > 0 and len(groups) > 1:
        count = max(count, 1)
    held = set(random.Random(seed).sample(groups, count))
    keys = (source for source, _ in pairs) if by == "source" else range(len(pairs))
    train, valid = [], []
    for key, pair in zip(keys, pairs, strict=True):
        (valid if key in held else train).append(pair)
    if by == "row":
        seen = {source for source, _ in train}
        leaked = sum(source in seen for source, _ in valid)
        if leaked:
            say(f"split by row: {leaked} of {len(valid)} held-out sources are in the training data too")
    return train, valid


class Batch(NamedTuple):
    source: Tensor  # (B, S)
    source_lengths: Tensor  # (B,)
    inputs: Tensor  # (B, T), <s> and the target
    outputs: Tensor  # (B, T), the target and </s>
    tokens: int  # in outputs, padding not counted

    def to(self, device):
        return self._replace(**{name: getattr(self, name).to(device) for name in self._fields[:-1]})


def pad(rows):
    """Lists of ids as one (B, longest) tensor."""
    rows = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(rows, batch_first=True, padding_value=PAD)


def source_batch(rows):
    """(ids (B, S), lengths (B,)) of encoded sources; an empty one is a single </s>."""
    rows = [row or [EOS] for row in rows]
    return pad(rows), torch.tensor([len(row) for row in rows])


def make_batch(rows) -> Batch:
    """A Batch of [(source ids, target ids)]."""
    source, lengths = source_batch([source for source, _ in rows])
    inputs = pad([[BOS, *target] for _, target in rows])
    outputs = pad([[*target, EOS] for _, target in rows])
    return Batch(source, lengths, inputs, outputs, sum(len(target) + 1 for _, target in rows))


class Dataset:
    """Encoded pairs, those longer than ``config.max_length`` left out (and counted in ``too_long``)."""

    def __init__(self, pairs, source_vocab, target_vocab, config):
        self.config = config
        rows = [
            (source_vocab.encode(normalize(source, config.lowercase)), target_vocab.encode(normalize(target)))
            for source, target in pairs
        ]
        self.rows = [row for row in rows if max(map(len, row)) <= config.max_length]
        self.too_long = len(rows) - len(self.rows)

    def __len__(self):
        return len(self.rows)

    def batches(self, epoch: int | None = None) -> list[list[int]]:
        """[[row index]], rows of like lengths together; in a new random order each epoch, fixed for None."""
        config = self.config
        order = list(range(len(self.rows)))
        shuffle = random.Random(config.seed * 1_000_003 + (epoch or 0))
        if epoch is not None:
            shuffle.shuffle(order)
        # Sorting is stable, so equal lengths stay shuffled and batches differ from epoch to epoch.
        order.sort(key=lambda i: (len(self.rows[i][1]), len(self.rows[i][0])))
        batches, current = [], []
        for i in order:
            width = len(self.rows[i][1]) + 1  # the longest so far, as they are sorted
            full = config.batch_tokens and (len(current) + 1) * width > config.batch_tokens
            if current and (len(current) == config.batch_size or full):
                batches.append(current)
                current = []
            current.append(i)
        if current:
            batches.append(current)
        if epoch is not None:
            shuffle.shuffle(batches)
        return batches

    def load(self, indices) -> Batch:
        return make_batch([self.rows[i] for i in indices])
