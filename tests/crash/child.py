"""A command of ``s2s`` in a process of its own that is made to go wrong."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple

NONE, KILL, TORN, FULL, POWER = range(5)  # as in faults.c
CRASHED = 99  # exit code of a child with a traceback


class Call(NamedTuple):
    """A system call that changes the folder."""

    name: str
    file: str


class Result(NamedTuple):
    code: int  # the exit code, negative for a signal
    said: str  # on standard output and standard error
    calls: list[Call]


def warm(arguments):
    """``s2s arguments`` in this process, so that its forks need not import what it needs."""
    from s2s.cli import run as run_command

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        code = run_command([str(word) for word in arguments])
    assert code == 0, arguments


def run(arguments, folder, *, at=0, fault=NONE, largest=None, after=None) -> Result:
    """``s2s arguments`` in a fork of this process, which has all modules loaded.

    Args:
        folder: whose changes are counted.
        at, fault: which of them, counted from 1, goes wrong, and how.
        largest: bytes of a file (RLIMIT_FSIZE).
        after: seconds until kill -9.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as journal:
        child = os.fork()
        if child == 0:
            command(arguments, folder, at, fault, largest, said, journal)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        journal.seek(0)
        calls = [Call(*line.split(" ", 1)) for line in journal.read().decode().splitlines()]
        return Result(os.waitstatus_to_exitcode(status), said.read().decode(errors="replace"), calls)


def command(arguments, folder, at, fault, largest, said, journal):
    """The child; never returns."""
    code = CRASHED
    try:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        from tqdm import tqdm

        from s2s.cli import main

        tqdm.set_lock(threading.RLock())  # its own is shared with all forks, and a killed one keeps it

        sys.argv = ["s2s", *map(str, arguments)]
        path = os.fsencode(Path(folder).resolve())
        ctypes.CDLL(None).faults_arm(path, ctypes.c_long(at), fault, journal.fileno())
        main(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code if isinstance(code, int) else CRASHED)
