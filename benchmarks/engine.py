"""One run: parity, then time, memory and floor, as rows for the report."""

import gc

import torch

from s2s_kernels.backend import resolve

from . import floors, measure, memory, parity
from .steps import make_step


def as_chosen(implementation, step):
    """``step``, to be timed on the implementation's backend, if it has one."""
    if implementation.backend is not None:
        step.within = implementation.chosen  # changing it takes longer than a small op
    return step


def measure_run(run, budget, processes=None):
    """Rows of one run, a dictionary for each implementation and pass.

    budget: seconds for the timing of one pass; processes: a memory.Process, None to leave memory out.
    """
    torch.set_num_threads(run.threads)
    floors.ensure_rates(run)
    case, implementations = run.case, run.implementations()
    gc.collect()
    checked = parity.check(run, implementations)
    rows = []
    for direction in case.passes:
        right, steps = [], {}
        for implementation in implementations:
            if direction not in implementation.passes:
                continue
            problem = checked.problems[implementation.name]
            if problem is None:
                try:
                    with implementation.chosen():
                        step = as_chosen(implementation, make_step(run, implementation, direction))
                        steps[implementation.name] = measure.graphed(step) if implementation.graph else step
                        steps[implementation.name]()
                except Exception as error:  # a peer that cannot run here is reported, not fatal
                    steps.pop(implementation.name, None)
                    problem = f"did not run: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            right.append((implementation, problem))
        times = measure.alternate(steps, run.device, budget)
        ours = times.get(case.implementations[0].name)
        work = floors.work(run, direction, checked.elements[direction])
        for implementation, problem in right:
            row = _row(run, implementation, direction, problem)
            row["floor"] = dict(work)
            rows.append(row)
            if problem is not None:
                continue
            taken = times[implementation.name]
            spread = measure.Spread.of(taken)
            row["seconds"] = spread._asdict()
            if case.tokens:
                row["tokens_per_second"] = case.tokens / spread.median
            if ours is not None:
                row["ratio"] = measure.ratios(taken, ours)._asdict()
            if processes is not None and direction == case.passes[-1] and not implementation.graph:
                if run.device == "cuda":
                    with implementation.chosen():
                        row["peak_extra_bytes"] = memory.peak_cuda(steps[implementation.name])
                elif "compile" not in implementation.name:
                    row["peak_extra_bytes"] = processes.peak(run, implementation.name)
        steps.clear()
        gc.collect()
    return rows


def _row(run, implementation, direction, problem):
    case = run.case
    row = {
        "op": case.op,
        "case": case.name,
        "dims": case.dims,
        "dtype": str(run.dtype).removeprefix("torch."),
        "device": run.device,
        "threads": run.threads,
        "pass": direction,
        "implementation": implementation.name,
        "parity": problem or ("passed" if implementation.same_function else "not compared"),
    }
    if implementation is case.implementations[0] or implementation.backend:
        with implementation.chosen():
            row["backend"] = resolve(run.device)
    return row
