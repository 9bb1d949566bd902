"""What no implementation of the same matrix products can beat: this machine's measured GEMM and copy rates.

A floor is the larger of two times: the floating-point operations of the matrix products at the rate of one large
square GEMM, and the bytes that must be read or written once at the rate of one large copy. It leaves out tanh, exp
and everything else that is not a matrix product. Data that stay in the cache can move faster than the copy rate,
so a row bound by bytes may come out below 1.
"""

from functools import cache
from typing import NamedTuple

import torch

from .measure import best


class Rates(NamedTuple):
    gemm: float  # FLOP/s
    copy: float  # bytes/s, read and written


class Floor(NamedTuple):
    flops: int
    bytes: int
    gemm_seconds: float
    copy_seconds: float

    @property
    def seconds(self):
        return max(self.gemm_seconds, self.copy_seconds)


@cache
def rates(device, dtype, threads):
    """Measured once a process. ``threads`` is the number in force; it is only what the result is kept under."""
    n = 2048 if device == "cpu" else 8192
    a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
    gemm = 2 * n**3 / best(lambda: torch.mm(a, b, out=out), device, 0.6)
    size = 2**26 if device == "cpu" else 2**30
    source, target = torch.ones(size // 4, device=device), torch.empty(size // 4, device=device)
    copy = 2 * size / best(lambda: target.copy_(source), device)
    return Rates(gemm, copy)


def floor(run, direction, elements):
    """The Floor of a run; ``elements``: read and written at least once."""
    found = rates(run.device, run.dtype, run.threads)
    flops = run.case.flops * (1 if direction == "forward" else 3)
    moved = (elements if run.case.bytes is None else run.case.bytes) * run.dtype.itemsize
    return Floor(flops, moved, flops / found.gemm, moved / found.copy)
