"""Imports point one way, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
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


def modules_of(folder):
    """{module: file} of a package."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def circle(folder):
    """Modules of a package that import each other, the first one once more at the end; None if there are none."""
    modules, graph = modules_of(folder), {}
    for module, path in modules.items():
        package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
        names = [name for name in imported(path, package) if not name.endswith("._C")]  # which is compiled
        names = (name if name in modules else name.rpartition(".")[0] for name in names)
        graph[module] = {name for name in names if name in modules and name != module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]


@pytest.mark.parametrize("folder", ["s2s_kernels", "python/s2s", "benchmarks"])
def test_no_modules_import_each_other(folder):
    assert circle(ROOT / folder) is None


def test_a_circle_is_found(tmp_path):
    files = {"__init__.py": "", "a.py": "from . import b", "b.py": "def f():\n    from .c import x", "c.py": ""}
    package = tmp_path / "package"
    package.mkdir()
    for name, text in files.items():
        (package / name).write_text(text)
    assert circle(package) is None
    (package / "c.py").write_text("import package.a as a")
    assert set(circle(package)) == {"package.a", "package.b", "package.c"}
