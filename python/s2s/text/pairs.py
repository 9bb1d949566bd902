"""Pairs of sentences from files, never all in memory, and their split in two."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, islice, zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from ..errors import S2SError
from ..files import AnyPath, cannot, check_regular, open_file, write_output
from ..launch import rank


class Pairs(Protocol):
    """(source, target) texts that may be counted, and walked over more than once."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[str, str]]: ...


LONGEST_LINE = 1 << 26  # bytes; what never ends, such as /dev/zero, must not fill the memory
SHOWN = 5  # numbers of bad lines in a report
TURN = "⏎"  # between the turns of a dialogue; no cleaning takes it out, and it is a token of its own


def lines_of(path):
    """The lines of a UTF-8 file one by one, without their ends, the way one sees them in an editor."""
    with open_file(path) as file:
        try:
            yield from decoded(file, path)
        except OSError as error:
            raise cannot("read", path, error) from None


def decoded(file, name):
    """The lines of a file of bytes as ``lines_of`` gives them."""
    # In bytes: reading text would also break lines at a lone carriage return, and str.splitlines at U+2028, U+0085
    # and form feeds, which shifts parallel files.
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
        if len(line) > LONGEST_LINE:
            raise S2SError(f"line {number} of {name} has more than {LONGEST_LINE >> 20} MiB, which is no sentence.")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise S2SError(f"{name} is not UTF-8 text (line {number}); iconv can convert it.") from None
        yield text.removesuffix("\n").removesuffix("\r")


def read_text(path: AnyPath) -> str:
    """The whole of a UTF-8 file, its lines ending in a newline."""
    return "".join(line + "\n" for line in lines_of(path))


def read_lines(path: AnyPath) -> list[str]:
    """The lines of a UTF-8 file, which must have one."""
    check_not_empty(path)
    return list(lines_of(path))


def check_not_empty(path: AnyPath) -> None:
    if not any(line.strip() for line in lines_of(path)):
        raise S2SError(f"{path} is empty.")


def join_turns(said: Sequence[str], turns: int) -> str:
    """The last ``turns`` of what was said, as one source."""
    return f" {TURN} ".join(said[-turns:])


class PairFile:
    """The pairs (source, target) of one tab-separated file, or of two parallel ones.

    Every walk over it reads the files anew, so they may be larger than memory. Further columns of a tab-separated
    file are ignored, and lines where either side is missing are left out.

    Args:
        paths: one path or two.
        say: told how many lines are left out, and which.
        quotes: read the tab-separated file as spreadsheets write it (and pandas reads it): a field within double
            quotes may hold tabs and newlines, and a double quote when it is doubled.
        columns: where source and target are in the tab-separated file, counted from 1.
        turns: above 1 the lines are dialogues, an utterance and its reply each, one line after the other, and what
            parts two dialogues is an empty line. A source is then that many turns at most, the last ones, as
            ``join_turns`` joins them.

    Raises:
        S2SError: a file is missing, empty or not UTF-8, the two have not as many lines, or there is no pair at all.
    """

    def __init__(
        self,
        paths: Sequence[AnyPath],
        say: Callable[[str], object] = print,
        quotes: bool = False,
        columns: tuple[int, int] = (1, 2),
        turns: int = 1,
    ) -> None:
        self.paths, self.quotes, self.columns, self.turns = [Path(path) for path in paths], quotes, columns, turns
        if len(self.paths) not in (1, 2):
            raise S2SError(f"{len(paths)} files given, expected one tab-separated file or two parallel ones.")
        if len(self.paths) == 2:
            self.columns = (1, 2)
        for path in self.paths:
            check_regular(path)
            check_not_empty(path)
        self.name = " and ".join(map(str, self.paths))
        self.count, bad, several = 0, [], []
        for first, last, row in watched(self._rows(), "reading"):
            if self._pair(row):
                self.count += 1
            elif turns == 1 or any(field.strip() for field in row):
                bad.append(first)
            if last > first:
                several.append(first)
        if not self.count:
            where = "" if self.columns == (1, 2) else f" in columns {self.columns[0]} and {self.columns[1]}"
            raise S2SError(f"{self.name} has no line with a source, a tab and a target{where}.")
        if bad:
            say(f"{self.name}: left out {counted(len(bad), 'line')} without a source or a target (line {shown(bad)})")
        if several:
            quoted = f"{counted(len(several), 'pair')} over several lines, by the quotes"
            say(f"{self.name}: {quoted} (line {shown(several)})")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[str, str]]:
        pairs = (self._pair(row) for _, _, row in self._rows())
        return filter(None, pairs) if self.turns == 1 else self._dialogues(pairs)

    def shown(self, indices: Sequence[int]) -> str:
        """The lines of the file where pairs begin, the first few of them, for a report; indices ascend."""
        wanted = [int(i) for i in indices[: SHOWN + 1]]
        firsts = (first for first, _, row in self._rows() if self._pair(row))
        return shown([first for i, first in enumerate(islice(firsts, wanted[-1] + 1)) if i in wanted])

    def _dialogues(self, pairs):
        """Of each pair what was said before it too; None ends a dialogue."""
        said = []
        for pair in pairs:
            if pair is None:
                said.clear()
                continue
            source, target = pair
            if said[-1:] != [source]:  # else it is the reply of the line before
                said.append(source)
            yield join_turns(said, self.turns), target
            said.append(target)
            del said[: -self.turns]

    def _pair(self, row):
        """(source, target) of a row's fields, or None if either is missing."""
        if len(row) < max(self.columns):
            return None
        source, target = (row[column - 1].strip() for column in self.columns)
        return (source, target) if source and target else None

    def _rows(self):
        """(first line, last line, fields) of every row."""
        if len(self.paths) == 2:
            yield from self._parallel_rows()
        elif self.quotes:
            yield from self._quoted_rows()
        else:
            for number, line in enumerate(lines_of(self.paths[0]), 1):
                yield number, number, line.split("\t")

    def _parallel_rows(self):
        lengths, missing = [0, 0], object()
        for number, row in enumerate(zip_longest(*map(lines_of, self.paths), fillvalue=missing), 1):
            lengths = [number if text is not missing else length for text, length in zip(row, lengths)]
            if missing not in row:
                yield number, number, list(row)
        if lengths[0] != lengths[1]:
            (a, b), (n, m) = self.paths, lengths
            raise S2SError(f"{a} has {n} lines but {b} has {m}, expected as many.")

    def _quoted_rows(self):
        reader = csv.reader((line + "\n" for line in lines_of(self.paths[0])), csv.excel_tab)
        before = 0
        try:
            for row in reader:
                yield before + 1, reader.line_num, row
                before = reader.line_num
        except csv.Error as error:
            raise S2SError(f"{self.paths[0]}, line {before + 1}: its quotes do not match ({error}).") from None


def shown(numbers):
    """The first few, for a report."""
    return ", ".join(map(str, numbers[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")


def counted(number: int, noun: str) -> str:
    """``1 pair``, ``2,000 pairs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def watched(items, what, total=None):
    """The items, with a bar on a terminal when they take more than a moment."""
    quiet = True if rank() else None  # None: unless there is a terminal
    return tqdm(items, what, total, leave=False, unit=" pairs", delay=2, disable=quiet, dynamic_ncols=True)


def read_pairs(paths: Sequence[AnyPath], say: Callable[[str], object] = print, **reading: Any) -> list[tuple[str, str]]:
    """All of a PairFile at once."""
    return list(PairFile(paths, say, **reading))


class Selection:
    """The pairs for which ``mask`` holds, walked over as often as one likes."""

    def __init__(self, pairs: Pairs, mask: np.ndarray) -> None:
        self.pairs, self.mask = pairs, mask

    @property
    def name(self):
        return self.pairs.name

    def shown(self, indices: Sequence[int]) -> str:
        """As that of a PairFile."""
        return self.pairs.shown(np.flatnonzero(self.mask)[indices[: SHOWN + 1]])

    def __len__(self) -> int:
        return int(self.mask.sum())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return compress(self.pairs, self.mask)


def split_pairs(
    pairs: Pairs,
    fraction: float,
    by: str = "source",
    seed: int = 1,
    say: Callable[[str], object] = print,
    key: Callable[[str], str] = str,
) -> tuple[Selection, Selection]:
    """(train, held out), two Selections. ``by="source"`` keeps all pairs of one source on one side; with ``"row"``
    a source may be on both, and ``say`` is told how many are.

    ``key`` makes of a source what the model will see of it: "Run!" and "run" may become one.
    """
    # Eight bytes a pair, however long the texts are.
    walk = watched(pairs, "splitting", len(pairs))
    sources = np.fromiter((fingerprint(key(source)) for source, _ in walk), np.uint64, len(pairs))
    groups, group = np.unique(sources, return_inverse=True) if by == "source" else (sources, np.arange(len(sources)))
    count = round(fraction * len(groups))
    if fraction > 0 and len(groups) > 1:
        count = max(count, 1)
    chosen = np.zeros(len(groups), dtype=bool)
    chosen[np.random.default_rng(seed).choice(len(groups), count, replace=False)] = True
    held = chosen[group]
    leaked = np.isin(sources[held], sources[~held])
    if leaked.any():
        say(
            f"split by row: {len(np.unique(sources[held][leaked])):,} sources are in both parts, "
            f"those of {leaked.sum():,} of the {held.sum():,} held-out pairs"
        )
    return Selection(pairs, ~held), Selection(pairs, held)


def fingerprint(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def write_pairs(path: AnyPath, pairs: Iterable[tuple[str, str]]) -> None:
    """A tab-separated file."""
    write_output(path, (f"{source}\t{target}\n".encode() for source, target in pairs))
