"""The cases of one source, compared: a process of its own, in the environment of its pins.

``python -m interop.rows SOURCE RESULT OPTIONS``
"""

import importlib
import json
import sys
from pathlib import Path

from . import compare
from .case import save


def row(case, version):
    """A dictionary of the table's numbers; ``wrong`` says why it is none."""
    found = {"version": version, "case": case.name, "outputs": None, "gradients": None, "wrong": ""}
    try:
        found["outputs"], found["gradients"] = compare.check(case)
    except Exception as error:
        return {**found, "wrong": f"{type(error).__name__}: {error}"}
    if not found["outputs"] <= compare.OUTPUTS:
        found["wrong"] = f"outputs differ by {found['outputs']:.2g}"
    elif found["gradients"] is not None and not found["gradients"] <= compare.GRADIENTS:
        found["wrong"] = f"gradients differ by {found['gradients']:.2g}"
    return found


def main(source, result, options="{}"):
    module = importlib.import_module(f"{__package__}.{source}")
    cases = list(module.cases())
    extra = list(module.checks()) if hasattr(module, "checks") else []  # (name, what is wrong or "")
    versions = getattr(module, "VERSIONS", {})  # of a file with several sources; "" is its first pin
    rows = [row(case, versions.get(case.source, "")) for case in cases]
    usual = next(iter(versions.values()), "")
    for name, wrong in extra:
        version = next((version for key, version in versions.items() if key in name.lower()), usual)
        rows.append({"version": version, "case": name, "outputs": None, "gradients": None, "wrong": wrong})
    kept = [case for case in cases if case.keep]
    if kept and not any(one["wrong"] for one in rows):
        save(source, kept)
    Path(result).write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
