"""A process that times what it is asked for."""

import json
import multiprocessing
import signal
import time
from contextlib import suppress

import torch

from .. import parity
from ..cases import TRAINING
from ..runtimes import RUNTIMES, jax_attention_gru, layer_of
from .rows import SCANS

LEAST = 3  # calls in a round


def layer_step(row, runtime):
    op, shape = row.split(" ", 1)
    batch, steps, hidden = json.loads(shape.replace("(", "[").replace(")", "]"))
    torch.manual_seed(1)
    x = torch.randn(batch, steps, hidden)
    with torch.no_grad():
        expected = layer_of(op, hidden)(x)[0]
    step = RUNTIMES[runtime](op, layer_of(op, hidden), x)
    found = step()
    found = found if isinstance(found, torch.Tensor) else torch.tensor(found)
    error = (found - expected).abs().max().item()
    if error > 1e-4:
        raise ValueError(f"differs from torch.nn by {error:.1g}")
    return step


def scan_step(row, implementation):
    from .. import suites
    from ..engine import make_step

    op, case = row.split()
    run = next(r for r in suites.runs("cpu", torch.get_num_threads()) if r.key.startswith(f"{op}/{case}/float32"))
    found = {i.name: i for i in run.case.implementations}
    if implementation != "jax.lax.scan":
        return make_step(run, found["eager" if implementation == "torch.nn" else implementation], TRAINING)
    outputs, grads = make_step(run, found["eager"], TRAINING)()
    step = jax_attention_gru(run.inputs(), parity.cotangents(run.case, outputs))
    made = step()
    for name, expected in zip(found["eager"].prepare(run.inputs()).leaves, grads, strict=True):
        error = (torch.tensor(made[name].__array__()) - expected).norm() / expected.norm()
        if error > 1e-4:
            raise ValueError(f"the gradient of {name} differs from eager PyTorch's by {error:.1g} of its size")
    return step


def timed(step, seconds, usual):
    """Seconds of every call, LEAST of them at the least; one before that is not counted, unless calls are so long
    (``usual``, if it is known) that it would tell nothing."""
    taken, end = [], time.perf_counter() + seconds
    if usual is None or usual < seconds / LEAST:
        step()
        end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < LEAST:
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return taken


def serve(pipe, threads):
    """Answers (row, implementation, seconds): (the times of its calls, this process's processor time so far), or why
    not.

    With no seconds it only makes the step, checks it and calls it once.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    torch.set_num_threads(threads)
    steps, usual = {}, {}
    while True:
        try:
            asked = pipe.recv()
        except EOFError:  # who asked has ended
            return
        if asked is None:
            return
        row, implementation, seconds = asked
        key, taken = (row, implementation), []
        try:
            if key not in steps:
                steps[key] = (scan_step if row in SCANS else layer_step)(row, implementation)
            if seconds:
                taken = timed(steps[key], seconds, usual.get(key))
                usual[key] = min(taken)
            else:
                steps[key]()
            pipe.send((taken, time.process_time()))
        except Exception as error:  # a peer that is not installed, or cannot: it is said in the table
            pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


class Server:
    def __init__(self, threads):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, threads), daemon=True)
        self.process.start()
        other.close()  # else nobody would hear that the process has ended

    def ask(self, *asked):
        try:
            self.pipe.send(asked)
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return f"its process ended, exit code {self.process.exitcode}"

    def close(self):
        with suppress(OSError):  # it may have ended
            self.pipe.send(None)
        self.process.join()
