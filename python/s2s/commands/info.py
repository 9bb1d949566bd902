"""``s2s info``."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

# Those of the extra "s2s", and what works where it is there; torch is in the report already.
PACKAGES = ("babel", "matplotlib", "numpy", "sacrebleu", "safetensors", "sentencepiece", "tqdm", "typer", "tensorboard")


def info(as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False):
    """What was built, what will run here, and the versions of all that the model layer uses."""
    import s2s_kernels as sk
    from s2s_kernels.info import table

    report = sk.info() | {"packages": {name: installed(name) for name in PACKAGES}}
    print(json.dumps(report, indent=2) if as_json else table(report))


def installed(name):
    """The version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
