"""Imports point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# The floors of the model layer, the ground first; a floor imports itself and what is under it.
FLOORS = (
    ("errors", "files", "launch", "lazy"),
    ("text",),
    ("model",),
    ("search",),
    ("training",),
    ("report",),
    ("translator",),
    ("importing", "tensorflow_weights"),
    ("commands", "demo", "cli", "__main__"),
)
APART = {("training", "search")}  # on one floor, and strangers to each other


def imported(path, package):
    """Dotted names of the modules that a file imports, wherever in it, but not for type checkers only."""
    found = []
    tree = ast.parse(path.read_text())
    typing = [
        node.body for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    skipped = {id(inner) for body in typing for statement in body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")]
            found += [".".join([*filter(None, base), alias.name]) for alias in node.names]
    return found


def upward(folder):
    """Sentences about imports in a folder ``s2s`` that do not point down."""
    level = {name: number for number, names in enumerate(FLOORS) for name in names}
    found = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts == ("__init__",):
            continue  # the front door: names of all floors, on first use
        for name in imported(path, ["s2s", *parts[:-1]]):
            package, _, rest = name.partition(".")
            to = rest.split(".")[0]
            if package == "s2s" and (level[to] > level[parts[0]] or (parts[0], to) in APART):
                found.append(f"{'/'.join(parts)}.py imports s2s.{rest}")
    return found


def test_the_model_layer_imports_downwards_only():
    assert upward(ROOT / "python" / "s2s") == []


@pytest.mark.parametrize(
    "where, line",
    [
        ("text/pairs.py", "from ..model.config import Config"),
        ("model/decoder.py", "from s2s.search import beam_search"),
        ("training/trainer.py", "def f():\n    from ..search.beam import beam_search"),
        ("report/plot.py", "from .. import translator"),
    ],
)
def test_an_import_upwards_is_found(where, line, tmp_path):
    path = tmp_path / "s2s" / where
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert len(upward(tmp_path / "s2s")) == 1
