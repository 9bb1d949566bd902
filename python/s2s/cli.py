"""The command ``s2s``: every file of ``commands/`` is one command."""

import os
import sys
import time
from importlib import import_module
from typing import NoReturn

import typer

from .commands.options import say
from .errors import PeerError, S2SError
from .launch import launched, rank

COMMANDS = (
    "prepare",
    "train",
    "translate",
    "align",
    "chat",
    "evaluate",
    "average",
    "quantize",
    "curves",
    "presets",
    "info",
    "dates",
    "demo",
)

FIRST_SPEAKS = 30.0  # seconds in which the first process, as busy as its machine may be, says what all have found

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Attention RNN sequence-to-sequence models: train, translate, evaluate.",
)
for name in COMMANDS:
    app.command(name)(getattr(import_module(f".commands.{name}", __package__), name))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line and exits: with 0, or with one sentence on standard error and 1, 2 for wrong usage, 130
    for Ctrl-C."""
    # Read when torch is imported, which is later. Threads that spin while they wait gain nothing on idle
    # cores, and make a training step ten times slower as soon as another process wants one of them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if launched():  # else each process says that all its parameters are used, which may change from step to step
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Whatever the locale says; the texts are UTF-8, and a file name that is not can still be reported.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="strict" if stream is sys.stdin else "backslashreplace")
    sys.exit(run(arguments))


def run(arguments: list[str] | None) -> int:
    """The exit code of the command; every error that is not a fault of the program is said in one sentence."""
    try:
        if sys.stdout is None:
            raise S2SError("standard output is closed.")
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except S2SError as error:
        say_once(str(error), everybody=isinstance(error, PeerError))
    except BrokenPipeError:
        # The reader of our output has gone, as head does; nothing more can be written, not even at exit.
        sys.stdout = None
    except OSError as error:
        say(f"s2s: {error.filename or 'standard output'} cannot be used ({error.strerror or error}).")
        sys.stdout = None
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        say("s2s: there is not enough memory; a smaller --batch-size, --batch, --beam or --n-best needs less.")
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for wrong usage
            raise
        if message := error.format_message():  # none where help was printed instead
            say_once(message)
        return error.exit_code
    return 1


def say_once(error: str, everybody: bool = False):
    """Says what all processes of a training have found, in the first of them; with ``everybody`` in each what it found.

    torchrun ends all of them as soon as one is gone, so that the others wait until it does: one that left earlier
    would end the first before it has spoken. One that is not ended has found what the first has not, and says so.
    """
    if not everybody and rank() > 0:
        time.sleep(FIRST_SPEAKS)
        error = f"process {rank()}: {error}"
    say(sentence(error))


def sentence(text: str, most: int = 1000) -> str:
    """One line, cut in the middle where a user's own words make it long."""
    text = " ".join(text.split())
    return "s2s: " + (text if len(text) <= most else f"{text[: most - 300]} ... {text[-300:]}")


def out_of_memory(error: Exception) -> bool:
    """Whether Python, numpy, torch on the CPU or torch on a GPU has found no memory."""
    return isinstance(error, MemoryError) or any(
        text in str(error) for text in ("allocate memory", "out of memory", "bad_alloc")
    )


if __name__ == "__main__":
    main()
