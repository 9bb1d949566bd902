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
from ..launch import local_rank
from ..model.config import Config
from ..search.options import SearchOptions

BEAM = 5
LENGTH_PENALTY = 1.0  # of a beam, which else prefers short outputs


def say(text):
    """Reports go to standard error; standard output holds results only."""
    print(text, file=sys.stderr, flush=True)


# The first field of each group of a Config's fields; the others of a group follow it.
GROUPS = {"tokens": "Text", "cell": "Encoder", "hidden_size": "Decoder", "dropout": "Training"}
OUTPUT = "Output"  # the group of what is written


def with_options(kind, groups, **defaults):
    """Gives a command one option per field of a dataclass; it receives those that were set as ``options``.

    ``groups``: the titles in the help, by the field that begins each. ``defaults`` are said in the help in the place
    of the fields' own; the command has to fill them in. A field that is true or false also has an option --no-..., not
    shown as one, for which the help has no room beside the others.
    """
    hints, panel = get_type_hints(kind), None

    def parameter(name, hint, flag, **about):
        info = typer.Option(flag, show_default=False, rich_help_panel=panel, **about)
        kinds = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, kinds, default=None, annotation=Annotated[hint | None, info])

    added = []
    for field in fields(kind):
        panel, hint, flag = groups.get(field.name, panel), hints[field.name], "--" + field.name.replace("_", "-")
        default, text, metavar = defaults.get(field.name, field.default), field.metadata["help"], None
        if get_origin(hint) is Literal:
            text, hint, metavar = f"{', '.join(get_args(hint))}: {text}", str, "<choice>"
        elif hint is bool:
            text, default = f"{text} Or --no-{flag[2:]}.", str(default).lower()
            added.append(parameter(f"no_{field.name}", bool, f"--no-{flag[2:]}", hidden=True))
        # escape: rich takes [s;c] for markup and leaves it out
        added.append(parameter(field.name, hint, flag, help=escape(f"{text} [{default}]"), metavar=metavar))

    def decorate(command):
        signature = inspect.signature(command)
        kept = [p for p in signature.parameters.values() if p.name != "options"]

        @functools.wraps(command)
        def wrapper(**arguments):
            options = {p.name: arguments.pop(p.name) for p in added}
            options = {name: value for name, value in options.items() if value is not None}
            for name in [name for name in options if name.startswith("no_") and name[3:] in hints]:
                if name[3:] in options:
                    flag = name[3:].replace("_", "-")
                    raise S2SError(f"both --{flag} and --no-{flag} are given, expected one of them.")
                options[name[3:]] = not options.pop(name)
            return command(**arguments, options=options)

        written = [p for p in kept if getattr(p.annotation.__metadata__[0], "rich_help_panel", None) == OUTPUT]
        last = [p.replace(kind=p.KEYWORD_ONLY) for p in written]
        shown = [*(p for p in kept if p not in written), *added, *last]  # the groups are shown in this order
        wrapper.__signature__ = signature.replace(parameters=shown)
        wrapper.__annotations__ = {p.name: p.annotation for p in shown}
        return wrapper

    return decorate


with_config_options = with_options(Config, GROUPS)


def with_search_options(command):
    """One option per field of SearchOptions, which it receives as ``options``; unless it samples, a beam of 5, and of
    every beam a length penalty of 1."""

    @functools.wraps(command)
    def wrapper(options, **arguments):
        if not options.get("sample"):
            options.setdefault("beam", max(BEAM, options.get("n_best", 1)))
            if options["beam"] > 1:
                options.setdefault("length_penalty", LENGTH_PENALTY)
        return command(options=SearchOptions(**options), **arguments)

    said = {"beam": f"{BEAM}, or 1 to sample", "length_penalty": f"{LENGTH_PENALTY:g} of a beam"}
    return with_options(SearchOptions, {"beam": "Search"}, **said)(wrapper)


def say_of_8_bits(translator, options):
    """Where 8 bits are asked for, but the search is none that has them."""
    from ..search.fused_search import step_reason

    if options.quantize == "int8" and (why := step_reason(translator.model, translator.device.type, options)):
        say(f"s2s: the weights stay float32, not int8: {why}.")


FilesArgument = Annotated[
    list[Path], typer.Argument(help="One tab-separated file, or two parallel files: source and target.")
]
ModelArgument = Annotated[Path, typer.Argument(help="A folder that s2s train wrote.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
BatchOption = Annotated[int, typer.Option(min=1, max=100_000, help="How many lines are searched at once.")]


def pick_device(name):
    import torch

    if name == "auto":
        return f"cuda:{local_rank()}" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # "meta" has no numbers to compute with
    except Exception as error:
        raise S2SError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}).") from None
    return name
