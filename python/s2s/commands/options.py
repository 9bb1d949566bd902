"""What several commands share: their arguments, the options of a Config, the device."""

import functools
import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer

from ..config import Config
from ..errors import S2SError


def say(text):
    """Reports go to standard error; standard output holds results only."""
    print(text, file=sys.stderr, flush=True)


def with_config_options(command):
    """Gives a command one option per field of Config; it receives those that were set as ``options``."""
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.name != "options"]
    hints = get_type_hints(Config)

    def parameter(field):
        kind = hints[field.name]
        flag = "--" + field.name.replace("_", "-")
        names = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
        text = f"{field.metadata['help']} [{str(field.default).lower() if kind is bool else field.default}]"
        choices = "|".join(get_args(kind)) if get_origin(kind) is Literal else None
        info = typer.Option(*names, help=text, metavar=choices, show_default=False, rich_help_panel="Configuration")
        return inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[(str if get_origin(kind) is Literal else kind) | None, info],
        )

    added = [parameter(field) for field in fields(Config)]

    @functools.wraps(command)
    def wrapper(**arguments):
        options = {p.name: arguments.pop(p.name) for p in added}
        return command(**arguments, options={k: v for k, v in options.items() if v is not None})

    wrapper.__signature__ = signature.replace(parameters=kept + added)
    wrapper.__annotations__ = {p.name: p.annotation for p in kept + added}
    return wrapper


FilesArgument = Annotated[
    list[Path], typer.Argument(help="One tab-separated file, or two parallel files: source and target.")
]
ModelArgument = Annotated[Path, typer.Argument(help="A folder that s2s train wrote.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
BeamOption = Annotated[int, typer.Option(min=1, help="Width of the beam; 1 is greedy search.")]
PenaltyOption = Annotated[float, typer.Option(help="Exponent of the length penalty of beam search.")]


def pick_device(name):
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except Exception as error:
        raise S2SError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}).") from None
    return name
