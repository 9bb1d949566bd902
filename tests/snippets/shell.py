"""Commands of a page, in its folder, with ``s2s``, ``python`` and ``torchrun`` those that the tests run on."""

import contextlib
import multiprocessing
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

from .pages import ROOT

# Loaded once; each command is a copy of the process that did it, so that it need not load them again.
LOADED = ["torch", "s2s_kernels", "s2s.cli", "s2s.translator", "s2s.training.trainer", "s2s.report.evaluate"]
PATH = [str(ROOT), str(ROOT / "python")]
SECONDS = 600  # for a command
ALLOWED = ("s2s", "python", "torchrun", "echo", "printf", "cat", "head", "tail", "wc", "ls", "mkdir", "cp")
PROGRAMS = {"s2s": "-m s2s", "python": "", "torchrun": "-m torch.distributed.run"}
MEANING = set("|&;<>$`(){}*?~'\"\\=!")  # what only a shell can read; plain quotes are shlex's


class Shell:
    """``run`` executes a command in ``folder``; what it has printed is ``output``."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.output, self.log = folder, "", programs / "log"
        for name, module in PROGRAMS.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
            program.chmod(0o755)
        self.environment = {
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join(PATH),
            "COLUMNS": "100",
        }
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(LOADED)

    def run(self, command: str) -> int:
        """Its exit status. ValueError for a program that is not among those that a page may run."""
        words = [word for word in shlex.split(command.split("|")[0]) if "=" not in word.split("/")[0] or word[0] == "-"]
        if not words or words[0] not in ALLOWED:
            raise ValueError(f"{command!r} is no command of {', '.join(ALLOWED)}, and not in the table of not_run.py")
        if words[0] == "s2s" and not set(command.replace('"', "").replace("'", "")) & MEANING:
            return self._copy(shlex.split(command))
        if words[:2] == ["python", "-m"] and not set(command) & MEANING:
            return self._copy(words)
        with self.log.open("w") as log:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()  # so that torchrun ends its processes
                status = process.wait(60)
        self.output = self.log.read_text(errors="replace")
        return status

    def _copy(self, words: list[str]) -> int:
        child = self.context.Process(target=act, args=(words, self.folder, self.environment, self.log))
        child.start()
        child.join(SECONDS)
        if child.is_alive():
            child.kill()
            child.join()
        self.output = self.log.read_text(errors="replace") if self.log.exists() else ""
        return child.exitcode


def act(words: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    """The life of a copy: ``s2s ARGUMENTS`` or ``python -m MODULE ARGUMENTS``."""
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[:0] = PATH
    with log.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", buffering=1) for number in (1, 2))
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: (sys.stdout.flush(), sys.stderr.flush()))
        if words[0] == "s2s":
            from s2s.cli import main

            sys.argv = words
            main(words[1:])
        sys.argv = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
