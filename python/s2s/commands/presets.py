"""``s2s presets``."""

import json
from typing import Annotated

import typer

from ..presets import PRESETS, preset_fields


def presets(
    name: Annotated[str | None, typer.Argument(help="Print this one as a file for --config.")] = None,
):
    """List the named systems of the literature, one a line; with a NAME, the options that it sets."""
    if name:
        for field, value in preset_fields(name).items():
            print(f"{field} = {json.dumps(value)}")
        return
    width = max(map(len, PRESETS))
    for key, preset in PRESETS.items():
        print(f"{key:<{width}}  {preset.summary}")
