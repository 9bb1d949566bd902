"""What each suite runs."""

import torch

from . import (
    bench_additive_attention,
    bench_attention_gru,
    bench_attention_lstm,
    bench_gru,
    bench_gru_step,
    bench_linear_cross_entropy,
    bench_lstm,
    bench_lstm_step,
    bench_scaling,
    bench_search,
    bench_train_step,
    goals,
)
from .cases import Run

MODULES = (
    bench_attention_gru,
    bench_additive_attention,
    bench_gru,
    bench_linear_cross_entropy,
    bench_train_step,
    bench_search,
    bench_attention_lstm,
    bench_lstm,
    bench_gru_step,
    bench_lstm_step,
    bench_scaling,
)
SUITES = ("quick", "cpu", "gpu", "goals", "full", "busy")


def native_bfloat16():
    """Whether this CPU computes in bfloat16; where it is emulated its speed means nothing."""
    from pathlib import Path

    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def runs(suite, threads):
    """The Runs of a suite, the most telling first."""
    found = []
    if suite in ("quick", "cpu", "full"):
        found += cpu_runs(suite, threads)
    if suite in ("gpu", "goals") or (suite == "full" and torch.cuda.is_available()):
        found += gpu_runs(suite, threads)
    return [run for run in found if run.implementations()]


def cpu_runs(suite, threads):
    tag, found = "quick" if suite == "quick" else "cpu", []
    dtypes = (torch.float32, torch.bfloat16) if tag == "cpu" and native_bfloat16() else (torch.float32,)
    for dtype in dtypes:
        for module in MODULES:
            scaling = module is bench_scaling
            for case in module.CASES:
                if scaling and dtype != torch.float32 and not case.name.startswith(bench_scaling.BOTH_DTYPES):
                    continue
                if tag in case.suites:
                    counts = sorted({1, threads}, reverse=True) if scaling and tag == "cpu" else [threads]
                    found += [Run(case, "cpu", dtype, n, suite) for n in counts]
    return found


def gpu_runs(suite, threads):
    """First what the goals for a GPU are about (goals.py): a suite that stops early has that."""
    found = []
    for dtype in (torch.bfloat16, torch.float32, torch.float16):
        for module in MODULES:
            if module is bench_scaling and dtype != torch.bfloat16:
                continue
            found += [Run(case, "cuda", dtype, threads, suite) for case in module.CASES if "gpu" in case.suites]
    first = sorted((run for run in found if goals.place(run) is not None), key=goals.place)
    return first if suite == "goals" else first + [run for run in found if run not in first]
