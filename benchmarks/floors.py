"""What no implementation of the same matrix products can beat: this machine's measured GEMM and copy rates.

A floor is the larger of two times: the floating-point operations of the matrix products at the rate of one large
square GEMM, and the bytes that must be read or written once at the rate of one large copy. It leaves out tanh, exp
and everything else that is not a matrix product. Data that stay in the cache can move faster than the copy rate,
so a row bound by bytes may come out below 1.
"""

from typing import NamedTuple

import torch

from .measure import best


class Rates(NamedTuple):
    gemm: float  # FLOP/s
    copy: float  # bytes/s, read and written


_measured: dict[tuple, Rates] = {}


def measure_rates(device, dtype, threads):
    """Measures, and keeps the fastest that was seen for ``threads``, which is the number in force."""
    n = 2048 if device == "cpu" else 8192
    a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
    gemm = 2 * n**3 / best(lambda: torch.mm(a, b, out=out), device, 0.6)
    size = 2**26 if device == "cpu" else 2**30
    source, target = torch.ones(size // 4, device=device), torch.empty(size // 4, device=device)
    copy = 2 * size / best(lambda: target.copy_(source), device)
    key = (device, dtype, threads)
    before = _measured.get(key, Rates(0, 0))
    _measured[key] = Rates(max(gemm, before.gemm), max(copy, before.copy))


def rates():
    """{(device, dtype, threads): Rates} of all that was measured."""
    return dict(_measured)


def ensure_rates(run):
    """Measures the rates that a run's floor needs, unless they are known."""
    if (run.device, run.dtype, run.threads) not in _measured:
        measure_rates(run.device, run.dtype, run.threads)


def measure_again():
    """Every rate once more: what another program slowed down the first time must not lower a floor."""
    for device, dtype, threads in rates():
        torch.set_num_threads(threads)
        measure_rates(device, dtype, threads)


def work(run, direction, elements):
    """FLOPs and bytes of a run; ``elements``: read and written at least once."""
    moved = elements if run.case.bytes is None else run.case.bytes
    return {
        "flops": run.case.flops * (1 if direction == "forward" else 3),
        "bytes": moved * run.dtype.itemsize,
    }


def fill(rows):
    """Completes the ``floor`` of each row: the two times, the larger of them, and how far the row is above it."""
    known = {(device, str(dtype).removeprefix("torch."), n): r for (device, dtype, n), r in rates().items()}
    for row in rows:
        floor, found = row["floor"], known[row["device"], row["dtype"], row["threads"]]
        floor["gemm_seconds"] = floor["flops"] / found.gemm
        floor["copy_seconds"] = floor["bytes"] / found.copy
        floor["seconds"] = max(floor["gemm_seconds"], floor["copy_seconds"])
        if "seconds" in row:
            floor["times_above"] = row["seconds"]["median"] / floor["seconds"]
