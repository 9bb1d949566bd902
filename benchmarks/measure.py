"""Time: alternating in one process, so that what the machine does meanwhile meets everyone alike."""

import gc
import math
import statistics
import time
from contextlib import nullcontext
from typing import NamedTuple

import torch


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    q1: float
    q3: float
    samples: int

    @classmethod
    def of(cls, values):
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, q1, q3, len(values))


def seconds(step, device, calls=1):
    """Time of one of ``calls`` calls. On a GPU from an empty queue to the end of the last kernel.

    What ``step.within`` enters, if there is one, is entered before.
    """
    with getattr(step, "within", nullcontext)():
        return _seconds(step, device, calls)


def _seconds(step, device, calls):
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            step()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / calls
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - begin) / calls


def alternate(steps, device, budget, least=5, most=60, sample=4e-3):
    """Seconds of each of the named ``steps``, round by round; entry i of all lists was taken in round i.

    budget: seconds for all of it, kept unless ``least`` rounds take longer; sample: shortest time of one sample.
    """
    calls = {}
    for name, step in steps.items():
        seconds(step, device)
        calls[name] = max(1, math.ceil(sample / max(seconds(step, device), 1e-7)))
    times = {name: [] for name in steps}
    order = list(steps)
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + budget
        for n in range(most):
            if n >= least and time.perf_counter() > end:
                break
            for name in order:
                times[name].append(seconds(steps[name], device, calls[name]))
            order = order[1:] + order[:1]
    finally:
        gc.enable()
    return times


def ratios(peer, ours):
    """How many times longer the peer takes: a Spread over the rounds, each compared within itself."""
    return Spread.of([p / o for p, o in zip(peer, ours, strict=True)])


def best(step, device, budget=0.3):
    """The shortest time of a call within the budget: for rates, where anything slower was disturbed."""
    step()
    shortest, end = math.inf, time.perf_counter() + budget
    while time.perf_counter() < end:
        shortest = min(shortest, seconds(step, device, 3))
    return shortest


def graphed(step):
    """``step`` captured in a CUDA graph; calling the result replays it over the same memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()

    def replay(keep=results):
        graph.replay()

    return replay
