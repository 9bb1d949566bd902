"""An environment for each package: the running interpreter's packages and this repository, and its own pins before.

The packages are those that the files of a folder have pins of.
"""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = 900


class NotInstalled(Exception):
    """pip could not install the pins; the message is its last line."""


def pins(package, folder=HERE):
    """``PINS`` of the package's file, read without importing it, since it imports the package; None without any.
    ``PINS = "FOLDER/NAME"`` are those of another file."""
    tree = ast.parse((folder / f"{package}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "PINS":
            found = ast.literal_eval(node.value)
            return pins(Path(found).name, folder.parent / Path(found).parent) if isinstance(found, str) else found
    return None


def packages(folder=HERE):
    """The names of all its files that have ``PINS``."""
    return sorted(file.stem for file in folder.glob("*.py") if pins(file.stem, folder))


def build(package, folder=HERE):
    return ROOT / "build" / folder.name / package


def prepare(package, folder=HERE):
    """The environment's Python, made anew where the pins or the interpreter have changed."""
    wanted, place = pins(package, folder), build(package, folder)
    python, stamp = place / "bin" / "python", place / "stamp"
    mark = hashlib.sha256(repr((wanted, sys.version, sys.prefix)).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == mark:
        return python
    print(f"  installing {len(wanted)} packages in {place.relative_to(ROOT)}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, symlinks=True)
    # pip runs before the environment sees the packages beside it, so that it touches none of them.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--retries", "1"]
    try:
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip took more than {SECONDS} s") from None
    if done.returncode:
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR: ")] or said or [f"exit {done.returncode}"]
        raise NotInstalled(errors[-1])
    config = {"base": str(place), "platbase": str(place)}
    beside = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    paths = dict.fromkeys([str(ROOT), str(ROOT / "python"), str(ROOT / "tests"), *beside])
    Path(sysconfig.get_path("purelib", vars=config), "beside.pth").write_text("\n".join(paths) + "\n")
    stamp.write_text(mark)
    return python


def run(package, options, seconds, folder=HERE):
    """Run the checks of ``package`` in its environment: the file of its rows, or None and the reason."""
    python, place = prepare(package, folder), build(package, folder)
    result, log = place / "result.json", place / "log"
    result.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environment.update(MPLBACKEND="agg", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    if not options.get("times"):  # which it would make up to twice as long, of both sides
        environment["OMP_WAIT_POLICY"] = "passive"
    command = [python, "-m", f"{folder.name}.rows", package, result, json.dumps(options)]
    with log.open("w") as file:
        try:
            done = subprocess.run(
                command, cwd=place, env=environment, stdout=file, stderr=subprocess.STDOUT, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return None, f"stopped after {seconds} s"
    if done.returncode or not result.exists():
        lines = [line for line in log.read_text().splitlines() if line.strip()]
        return None, f"exit {done.returncode}: {lines[-1].strip() if lines else 'no output'}"
    return result, ""
