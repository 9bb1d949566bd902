"""Lines of text for the commands that answer line by line, and their progress."""

import sys
from itertools import islice

from tqdm import tqdm

from ..errors import S2SError
from ..pairs import check_not_empty, lines_of

LONG = 200  # lines from which on progress is shown


def read_chunks(texts, file, batch):
    """Lines in lists: of the arguments, of a file, or of standard input as they come.

    Returns:
        (an iterator of lists, how many lines there are or None). The lists of a file are many batches long, so that
        each batch has lines of like lengths; those of standard input one, so that its writer soon sees output.
    """
    if texts and file:
        raise S2SError("both texts and --file are given, expected one of them.")
    if texts:
        return chunks(texts, len(texts)), len(texts)
    if not file:
        return chunks(standard_input(), 1 if sys.stdin.isatty() else batch), None
    total = None
    if file.is_file():  # not a pipe, which can be read once only
        check_not_empty(file)
        total = sum(1 for _ in lines_of(file))
    return chunks(lines_of(file), 16 * batch), total


def chunks(lines, size):
    lines = iter(lines)
    return iter(lambda: list(islice(lines, size)), [])


def standard_input():
    try:
        for line in sys.stdin:
            yield line.rstrip("\n")
    except UnicodeDecodeError:
        raise S2SError("standard input is not UTF-8 text.") from None


def progress(total):
    """A bar on standard error with lines a second: for long input, where that is a terminal."""
    short = sys.stdin.isatty() if total is None else total < LONG
    return tqdm(total=total, disable=short or None, unit="line", leave=False)
