"""What a type checker sees: right calls pass, wrong ones are refused, and the public names are annotated."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

import s2s
import s2s_kernels as sk

ROOT = Path(__file__).parent.parent
RIGHT, WRONG = (ROOT / "tests" / "typing" / name for name in ("right.py", "wrong.py"))
CHECKERS = {"mypy": ["mypy"], "pyright": ["pyright", "--pythonpath", sys.executable]}
PLACE = re.compile(r"^\s*\S*wrong\.py:(\d+)(?::\d+)?(?: -|:) error", re.M)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKERS)
def test_type_checkers(name):
    """Both at once: a checker reads torch for a good part of its time."""
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    module, *options = CHECKERS[name]
    command = [sys.executable, "-m", module, *options, RIGHT, WRONG]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert "right.py:" not in done.stdout, done.stdout
    expected = {i for i, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("# wrong")}
    assert set(map(int, PLACE.findall(done.stdout))) == expected, done.stdout + done.stderr


def functions(value):
    """(name, function) of a public function, of a class its constructor and public methods, of our bases too."""
    if inspect.isfunction(value):
        yield value.__qualname__, value
    elif inspect.isclass(value):
        for base in value.__mro__:
            if base.__module__.split(".")[0] not in ("s2s", "s2s_kernels"):
                continue
            for name, member in vars(base).items():
                member = getattr(member, "__func__", getattr(member, "fget", member))
                own = inspect.isfunction(member) and member.__module__ == base.__module__
                if own and (name in ("__init__", "__len__", "__iter__", "__getitem__") or name[0] != "_"):
                    yield member.__qualname__, member


def unannotated(value):
    """What a checker would take for Any: the parameters and results without an annotation."""
    for name, function in functions(value):
        signature = inspect.signature(inspect.unwrap(function))
        for parameter in signature.parameters.values():
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls"):
                yield f"{name}({parameter.name})"
        if signature.return_annotation is signature.empty:
            yield f"{name} ->"


INTEGRATIONS = sorted(path.stem for path in (ROOT / "s2s_kernels" / "integrations").glob("*.py") if path.stem[0] != "_")
PUBLIC = {
    **{f"s2s_kernels.{name}": getattr(sk, name) for name in sk.__all__},
    **{f"s2s_kernels.nn.{name}": getattr(sk.nn, name) for name in sk.nn.__all__},
    **{f"s2s_kernels.weights.{name}": getattr(sk.weights, name) for name in sk.weights.__all__},
    **{f"s2s.{name}": getattr(s2s, name) for name in s2s.__all__},
    **{
        f"s2s.{package}.{name}": getattr(import_module(f"s2s.{package}"), name)
        for package in ("model", "search", "training")
        for name in import_module(f"s2s.{package}").__all__
    },
    **{
        f"s2s_kernels.integrations.{package}.{name}": getattr(
            import_module(f"s2s_kernels.integrations.{package}"), name
        )
        for package in INTEGRATIONS
        if package not in ("loop", "speech")
        for name in ("convert", "revert")
    },
}


def test_public_names_are_annotated():
    missing = [f"{public}: {what}" for public, value in PUBLIC.items() for what in unannotated(value)]
    assert missing == []


def test_a_missing_annotation_is_found():
    def f(x, y: torch.Tensor, *, z: int = 0): ...

    class Module(nn.Module):
        __module__ = "s2s_kernels.nn"

        def forward(self, x: torch.Tensor): ...

    Module.forward.__module__ = "s2s_kernels.nn"
    found = [what.rpartition(".")[2] for value in (f, Module) for what in unannotated(value)]
    assert found == ["f(x)", "f ->", "forward ->"]
