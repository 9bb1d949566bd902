"""Execution of a page, from top to bottom."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from . import world
from .not_run import reason
from .pages import Snippet, commands, snippets
from .shell import Shell


class Result:
    """What came of a page: how many commands and blocks ran, and what did not, with the reasons."""

    def __init__(self) -> None:
        self.ran, self.left = 0, []  # [(where, what, reason)]


def run(page: str, folder: Path, text: str | None = None) -> Result:
    """Runs ``page`` in ``folder``, which is empty. AssertionError names the snippet that failed."""
    there, programs = folder / "work", folder / "programs"
    there.mkdir()
    programs.mkdir()
    world.fill(there)
    shell, names, result = Shell(there, programs), {"__name__": "__main__"}, Result()
    torch.manual_seed(0)
    eager = None
    for snippet in snippets(page, text):
        if snippet.language == "sh":
            shell_block(snippet, shell, result)
        elif (why := reason(page, snippet.code, snippet.language)) is not None:
            result.left.append((str(snippet), snippet.code.split("\n")[0], why))
        else:
            before, old = dict(names), eager
            eager = None
            if snippet.code.startswith("# eager\n"):
                eager = (before, execute(snippet, dict(names), there))
            else:
                execute(snippet, names, there)
            if snippet.code.startswith("# fused\n"):
                assert old is not None, f"{snippet} has no block before it that begins with # eager"
                compare(snippet, *old, names)
            result.ran += not snippet.given
    return result


def shell_block(snippet: Snippet, shell: Shell, result: Result) -> None:
    for command in commands(snippet.code):
        if (why := reason(snippet.page, command)) is not None:
            result.left.append((str(snippet), command, why))
            continue
        status = shell.run(command)
        assert status == 0, f"{snippet}: {command!r} ended with {status} and said:\n{shell.output}"
        result.ran += not snippet.given


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """``contextlib.chdir``, which Python 3.10 lacks."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def execute(snippet: Snippet, names: dict, folder: Path) -> dict:
    """``names`` after the snippet has run. AssertionError from whatever it raised."""
    code = compile("\n" * (snippet.line - 1) + snippet.code, snippet.page, "exec")
    with inside(folder):
        try:
            exec(code, names)
        except Exception as error:
            raise AssertionError(f"{snippet} ended with {type(error).__name__}: {error}") from error
    return names


def compare(snippet: Snippet, before: dict, eager: dict, fused: dict) -> None:
    """Tensors that both blocks have made, under the same name, are the same."""
    made = [
        name
        for name, x in eager.items()
        if isinstance(x, torch.Tensor) and x is not before.get(name) and fused.get(name) is not before.get(name)
    ]
    made = [name for name in made if isinstance(fused.get(name), torch.Tensor)]
    assert made, f"{snippet} makes no tensor of a name that the eager block makes too"
    for name in made:
        message = lambda text, name=name: f"{snippet}: {name} is another than the eager block's: {text}"
        torch.testing.assert_close(fused[name], eager[name], rtol=1e-4, atol=1e-5, msg=message)
