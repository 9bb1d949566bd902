"""``s2s presets``."""

import json
import shutil
import textwrap
from typing import Annotated

import typer

from ..model.presets import PRESETS, preset_fields, recipe_path, recipes
from ..text.pairs import read_text


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this one as a file for --config.")] = None,
):
    """List the named systems of the literature and the recipes; with the NAME of one, the options that it sets."""
    if name in recipes():
        print(read_text(recipe_path(name)), end="")
        return
    if name:
        for field, value in preset_fields(name).items():
            print(f"{field} = {json.dumps(value)}")
        return
    for option, table in (("preset", {key: preset.summary for key, preset in PRESETS.items()}), ("config", recipes())):
        print(f"--{option}")
        width = max(map(len, table))
        for key, text in table.items():
            lines = textwrap.wrap(text, max(shutil.get_terminal_size().columns - width - 4, 30))
            for number, line in enumerate(lines):
                print(f"  {'' if number else key:<{width}}  {line}")
