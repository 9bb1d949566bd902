"""Lines of text for the commands that answer line by line, and their progress."""

import os
import sys
from itertools import islice

from tqdm import tqdm

from ..errors import S2SError
from ..text.pairs import check_not_empty, decoded, lines_of
from .options import say

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
        for text in texts:
            if is_file(text):
                say(f"{text} is a file, but is taken as the text itself; --file {text} takes its lines")
        return chunks(texts, len(texts)), len(texts)
    if not file:
        return chunks(standard_input(), 1 if at_terminal() else batch), None
    total = None
    if file.is_file():  # not a pipe, which can be read once only
        check_not_empty(file)
        total = sum(1 for _ in lines_of(file))
    return chunks(lines_of(file), 16 * batch), total


def is_file(text):
    """Whether a text is the name of a file, as a user may have meant."""
    try:
        return os.path.isfile(text)
    except ValueError:  # a NUL
        return False


def chunks(lines, size):
    lines = iter(lines)
    return iter(lambda: list(islice(lines, size)), [])


def standard_input():
    """Its lines one by one, as they come."""
    at_terminal()  # whether there is one at all
    return decoded(sys.stdin.buffer, "standard input")


def at_terminal():
    """Whether a person types the input."""
    if sys.stdin is None:
        raise S2SError("standard input is closed.")
    return sys.stdin.isatty()


def progress(total):
    """A bar on standard error with lines a second: for long input, where that is a terminal."""
    short = at_terminal() if total is None else total < LONG
    return tqdm(total=total, disable=short or None, unit="line", leave=False)


def report_cuts(first):
    """For ``cut`` of a Translator: says which line had more tokens than are read; the first text is line ``first``."""

    def report(index, tokens, limit):
        say(f"line {first + index} has {tokens:,} tokens, of which the first {limit:,} are read (--max-source-length)")

    return report
