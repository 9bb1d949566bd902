"""The named shapes, and what a benchmark case is."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

import s2s_kernels as sk

from .parity import helpers


class Shape(NamedTuple):
    """Batch, source and target length; widths of embedding, state, attention and memory (both directions)."""

    B: int
    S: int
    T: int
    E: int
    H: int
    A: int
    D: int

    def pick(self, names, **changes):
        """A dictionary of the sizes in ``names``, such as ``"BSAD"``."""
        return {**{name: getattr(self, name) for name in names}, **changes}


SHAPES = {
    "C1": Shape(16, 20, 20, 128, 128, 128, 256),
    "C2": Shape(32, 25, 25, 256, 256, 256, 512),
    "C3": Shape(128, 30, 30, 256, 512, 512, 1024),
    "P": Shape(64, 50, 50, 512, 512, 512, 1024),
    "Q": Shape(128, 50, 50, 512, 1024, 1024, 2048),
}
FORWARD, TRAINING = "forward", "forward+backward"


def suites_of(name):
    """Where a case with a named shape belongs."""
    return {"C1": {"quick", "cpu", "gpu"}, "Q": {"gpu"}}.get(name, {"cpu", "gpu"})


class Prepared(NamedTuple):
    """An implementation with its inputs in place."""

    run: Callable[[], tuple[Tensor, ...]]  # the forward pass
    leaves: dict[str, Tensor]  # what gradients are taken of, by the names of the inputs
    update: Callable[[tuple[Tensor, ...]], None] | None = None  # what a training step does with the gradients


@dataclass(frozen=True)
class Implementation:
    """Ours or a peer: ``prepare(inputs)`` puts it over a dictionary of tensors."""

    name: str
    prepare: Callable[[dict], Prepared]
    devices: tuple[str, ...] = ("cpu", "cuda")
    suites: frozenset | None = None  # None: all
    passes: tuple[str, ...] = (FORWARD, TRAINING)
    graph: bool = False  # captured in a CUDA graph before it is timed
    backend: str | None = None  # of ours; None: the one that "auto" takes
    environment: tuple[tuple[str, str], ...] = ()  # what is set while it runs
    dtypes: tuple[torch.dtype, ...] | None = None  # None: all
    foreign: bool = False  # another program, whose parameters may have other shapes
    same_function: bool = True  # False: it does the same job, with numbers of its own: another program or precision

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """Its backend and its environment, in force."""
        before = {name: os.environ.get(name) for name, _ in self.environment}
        with sk.backend(self.backend or "auto"):
            os.environ.update(self.environment)
            try:
                yield
            finally:
                for name, value in before.items():
                    os.environ.pop(name)
                    if value is not None:
                        os.environ[name] = value


@dataclass(frozen=True)
class Case:
    """One computation at one size, whatever the device and dtype."""

    op: str
    name: str
    dims: dict[str, int]
    inputs: Callable[[], dict]  # float64, on the CPU
    reference: Callable[[dict], Prepared]
    implementations: tuple[Implementation, ...]  # ours first
    outputs: tuple[str, ...]
    used: tuple[str, ...]  # the outputs that the loss reads
    flops: int  # of the matrix products of a forward pass
    bytes: int | None = None  # per element of the dtype, where not just the inputs, outputs and gradients
    tokens: int | None = None  # what a run makes, to report a rate
    passes: tuple[str, ...] = (FORWARD, TRAINING)
    suites: set = field(default_factory=lambda: {"cpu", "gpu"})


@dataclass(frozen=True)
class Run:
    """A case on one device, in one dtype, with so many threads."""

    case: Case
    device: str
    dtype: torch.dtype
    threads: int
    suite: str

    @property
    def key(self):
        case = self.case
        return f"{case.op}/{case.name}/{str(self.dtype).removeprefix('torch.')}/{self.device}/threads={self.threads}"

    def implementations(self):
        return [
            i
            for i in self.case.implementations
            if self.device in i.devices
            and (i.suites is None or self.suite in i.suites)
            and (i.dtypes is None or self.dtype in i.dtypes)
        ]

    def inputs(self):
        """The inputs in place: values that the dtype can hold."""
        return dict(_placed(self.case.inputs, self.device, self.dtype))


@lru_cache(maxsize=1)  # every implementation asks for the same, and random numbers take longer than most runs
def _placed(inputs, device, dtype):
    torch.manual_seed(0)
    return helpers.place(inputs(), device, dtype)


def functional(function):
    """``prepare`` of a function that takes the inputs by name and returns an output or a tuple of them."""

    def prepare(inputs):
        made = helpers.leaves(inputs)

        def run():
            outputs = function(**made)
            return outputs if isinstance(outputs, tuple) else (outputs,)

        return Prepared(run, {name: x for name, x in made.items() if helpers.is_float(x)})

    return prepare


def scaled(inputs):
    """Score vectors of the size that training starts from: larger ones make the softmax choose one position."""
    inputs["v"] = inputs["v"] * inputs["v"].shape[-1] ** -0.5
    return inputs
