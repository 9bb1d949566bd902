"""What several commands share: their arguments, the options of a Config, the device."""

import functools
import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape

from ..errors import S2SError
from ..model.config import Config
from ..search.options import SearchOptions

BEAM = 5


def say(text):
    """Reports go to standard error; standard output holds results only."""
    print(text, file=sys.stderr, flush=True)


def with_options(kind, panel, **defaults):
    """Gives a command one option per field of a dataclass; it receives those that were set as ``options``.

    ``defaults`` are said in the help in the place of the fields' own; the command has to fill them in.
    """
    hints = get_type_hints(kind)

    def parameter(field):
        hint = hints[field.name]
        flag = "--" + field.name.replace("_", "-")
        names = [f"{flag}/--no-{flag[2:]}"] if hint is bool else [flag]
        default = defaults.get(field.name, field.default)
        text = f"{field.metadata['help']} [{str(default).lower() if hint is bool else default}]"
        choices = "|".join(get_args(hint)) if get_origin(hint) is Literal else None
        # escape: rich takes [s;c] for markup and leaves it out
        info = typer.Option(*names, help=escape(text), metavar=choices, show_default=False, rich_help_panel=panel)
        return inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[(str if get_origin(hint) is Literal else hint) | None, info],
        )

    added = [parameter(field) for field in fields(kind)]

    def decorate(command):
        signature = inspect.signature(command)
        kept = [p for p in signature.parameters.values() if p.name != "options"]

        @functools.wraps(command)
        def wrapper(**arguments):
            options = {p.name: arguments.pop(p.name) for p in added}
            return command(**arguments, options={k: v for k, v in options.items() if v is not None})

        wrapper.__signature__ = signature.replace(parameters=kept + added)
        wrapper.__annotations__ = {p.name: p.annotation for p in kept + added}
        return wrapper

    return decorate


with_config_options = with_options(Config, "Configuration")


def with_search_options(command):
    """One option per field of SearchOptions, which it receives as ``options``; a beam of 5 unless it samples."""

    @functools.wraps(command)
    def wrapper(options, **arguments):
        if not options.get("sample"):
            options.setdefault("beam", max(BEAM, options.get("n_best", 1)))
        return command(options=SearchOptions(**options), **arguments)

    return with_options(SearchOptions, "Search", beam=f"{BEAM}, or 1 to sample")(wrapper)


FilesArgument = Annotated[
    list[Path], typer.Argument(help="One tab-separated file, or two parallel files: source and target.")
]
ModelArgument = Annotated[Path, typer.Argument(help="A folder that s2s train wrote.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
BatchOption = Annotated[int, typer.Option(min=1, max=100_000, help="How many lines are searched at once.")]


def pick_device(name):
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # "meta" has no numbers to compute with
    except Exception as error:
        raise S2SError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}).") from None
    return name
