"""What the build wrote down, and why its extension cannot be used here. Imports nothing of ours."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def built() -> dict[str, Any]:
    """What the build wrote down; empty where nothing was ever built."""
    try:
        return json.loads(Path(__file__).with_name("_build_info.json").read_text())
    except (OSError, ValueError):
        return {}


def build_mismatch() -> str | None:
    """One sentence if the extension was built against another torch than the one that runs, else None."""
    import torch

    torch_built, running = built().get("torch"), str(torch.__version__)
    if not torch_built or torch_built.split(".")[:2] == running.split(".")[:2]:
        return None
    return (
        f"s2s_kernels was built against torch {torch_built} but runs with torch {running}: rebuild it from "
        "its sources with pip install --no-build-isolation --no-deps --force-reinstall ."
    )


def extension_problem(error: ImportError) -> str:
    """Why the extension cannot be imported: the build's note, another torch, or the loader's own words."""
    lines = str(error).splitlines() or [""]
    unbuilt = "it is not built" if "cannot import name" in lines[0] or "No module" in lines[0] else None
    return built().get("problem") or build_mismatch() or unbuilt or lines[0]
