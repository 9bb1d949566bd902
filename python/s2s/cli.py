"""The command ``s2s``: every file of ``commands/`` is one command."""

import os
import sys
from importlib import import_module

import typer

from .commands.options import say
from .errors import S2SError

COMMANDS = (
    "prepare",
    "train",
    "translate",
    "align",
    "chat",
    "evaluate",
    "presets",
    "info",
    "dates",
    "demo",
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Attention RNN sequence-to-sequence models: train, translate, evaluate.",
)
for name in COMMANDS:
    app.command(name)(getattr(import_module(f".commands.{name}", __package__), name))


def main(arguments=None):
    """Runs the command line; a user's error is one sentence on standard error and exit code 1."""
    # Read when torch is imported, which is later. Threads that spin while they wait gain nothing on idle
    # cores, and make a training step ten times slower as soon as another process wants one of them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")  # whatever the locale says; the texts are
    try:
        app(arguments)
    except S2SError as error:
        say(f"s2s: {error}")
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has gone, as head does; nothing more can be written, not even at exit.
        sys.stdout = None
        sys.exit(1)


if __name__ == "__main__":
    main()
