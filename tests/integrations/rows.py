"""The rows of a package's table: ``python -m integrations.rows PACKAGE RESULT [OPTIONS]`` in its environment."""

import importlib
import json
import sys
import traceback
from pathlib import Path

import torch

from . import checks, vision  # noqa: F401  vision before any package
from .compare import Failed


def guilty(error, package):
    """Where the package's own code was when this was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if f"/site-packages/{package}/" in frame.filename]
    frame = (inside or frames)[-1]
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"


def check(function, argument, package):
    """(passed, text) of one cell."""
    try:
        return True, function(argument)
    except Failed as error:
        return False, str(error)
    except Exception as error:  # whatever a package or convert raises is the finding
        traceback.print_exc()
        (message, *_) = [*str(error).splitlines(), ""]
        return False, f"{type(error).__name__}: {message} ({guilty(error, package)})"


def row(name, make, package, times=True):
    """The cells of one case, (passed, text) by the name of their column; ``package``: the name it is imported by."""
    print(f"--- {name}", flush=True)
    case = checks.build(make)
    cells = {}
    if case.refused:
        cells["converts"] = check(checks.refuses, make, package)
        return {"case": name, "note": case.note, "cells": cells}
    runs, text = check(checks.alone, make, package)
    if not runs:
        cells["converts"] = False, f"unconverted: {text}"
        return {"case": name, "note": case.note, "cells": cells}
    built, pair = check(checks.Pair, make, package)
    if not built:
        cells["converts"] = False, pair
        return {"case": name, "note": case.note, "cells": cells}
    columns = dict(checks.COLUMNS)
    for column, there in {"initializes": case.initialize, "decodes": case.decode, "time": times}.items():
        if not there:
            del columns[column]
    for column, (function, takes_pair) in columns.items():
        cells[column] = check(function, pair if takes_pair else make, package)
    return {"case": name, "note": case.note, "cells": cells}


def main(package, result, options="{}"):
    options = json.loads(options)
    torch.use_deterministic_algorithms(True, warn_only=True)  # for fresh memory to hold NaN
    module = importlib.import_module(f"{__package__}.{package}")
    wanted = options.get("cases") or module.CASES
    imported = getattr(module, "PACKAGE", package)
    rows = [row(name, module.CASES[name], imported, options.get("times", True)) for name in wanted]
    Path(result).write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
