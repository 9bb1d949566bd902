"""All faults of all trainings, their progress and their table."""

import random
import sys
import time
from collections import Counter
from functools import partial

from tqdm import tqdm

from .. import pages
from . import child
from .trial import KINDS, Broken, Trial

FAULTS = {"killed": child.KILL, "half a write, killed": child.TORN, "power cut": child.POWER, "disk full": child.FULL}
FEW = 3  # faults of each kind in the quick profile


def cases(trial, quick):
    """(name of the fault, number of the call) of every fault at every call."""
    for name, fault in FAULTS.items():
        where = range(1, len(trial.reference.calls) + 1)
        if fault == child.TORN:
            where = [k for k in where if trial.reference.calls[k - 1].name == "write"]
        if quick:
            where = random.sample(where, min(FEW, len(where)))
        yield from ((name, k) for k in where)


def at_call(trial, name, k):
    """One fault at one call, and what must hold after it."""
    fault, what = FAULTS[name], f"{name} at call {k} ({' '.join(trial.reference.calls[k - 1])})"
    result = trial.train(at=k, fault=fault)
    if fault == child.FULL:
        if result.code:
            trial.one_sentence(result, what)
    else:
        trial.require(result.code == -9, result, what)
    trial.survived(what, result.calls[: k - 1])


def too_large(trial, largest):
    """No file may become larger than so many bytes: what was whole before stays so."""
    result = trial.train(largest=largest)
    if result.code:
        trial.one_sentence(result, f"ulimit -f of {largest} bytes")
    trial.survived(f"ulimit -f of {largest} bytes")


def at_random(trial, kills, length):
    """A training that is killed again and again until it has lived through ``kills``; then it ends to the bit."""
    trial.train(after=random.uniform(0, length))
    for _ in range(kills - 1):
        if (trial.out / "training.json").exists():
            trial.resume(after=random.uniform(0, length))
        else:
            trial.train(after=random.uniform(0, length))
    trial.survived(f"{kills} kills at random moments")


def report(options, place) -> int:
    random.seed(options.seed)
    tqdm.monitor_interval = 0  # no thread may hold a lock when this process forks
    began, rows, failures = time.monotonic(), [], []
    for number, name in enumerate(KINDS):
        if options.only not in (None, name):
            continue
        if options.quick and number % 2:
            continue
        try:
            trial = Trial(name, place / str(number))
        except Broken as error:
            failures.append(str(error))
            continue
        start = time.monotonic()
        trial.train()
        length = time.monotonic() - start
        jobs = [(fault, partial(at_call, trial, fault, k)) for fault, k in cases(trial, options.quick)]
        sizes = sorted({(trial.out / file).stat().st_size for file in trial.expected})
        for size in sizes[:: len(sizes) - 1] if options.quick else sizes:
            jobs.append(("ulimit -f", partial(too_large, trial, size - 1)))
        chains = 1 if options.quick else max(1, options.kills // (5 * len(KINDS)))
        for _ in range(chains):
            jobs.append(("random kills", partial(at_random, trial, 5, length)))
        tried, lived = Counter(), Counter()
        for fault, job in tqdm(jobs, name, disable=None, file=sys.stderr):
            tried[fault] += 5 if fault == "random kills" else 1
            try:
                job()
            except Broken as error:
                failures.append(str(error))
                tqdm.write(f"crash: {error}", file=sys.stderr)
            else:
                lived[fault] += 5 if fault == "random kills" else 1
        rows.append((name, len(trial.reference.calls), tried, lived))
        print(f"{name}: {sum(lived.values())} of {sum(tried.values())} faults survived", file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    print(f"{time.monotonic() - began:.0f} s")
    if options.write and not failures:
        pages.write("reliability.md", "crash", f"\n{text}\n\n")
    if failures:
        print(f"crash: {len(failures)} faults were not survived; the first: {failures[0]}", file=sys.stderr)
    return 1 if failures else 0


def table(rows):
    names = [*FAULTS, "ulimit -f", "random kills"]
    lines = ["| training | calls | " + " | ".join(names) + " |", "| --- |" + " --- |" * (len(names) + 1)]
    for name, calls, tried, lived in rows:
        cells = [f"{lived[fault]} of {tried[fault]}" for fault in names]
        lines.append(f"| {name} | {calls} | " + " | ".join(cells) + " |")
    tries, lives = (sum(sum(row[i].values()) for row in rows) for i in (2, 3))
    return "\n".join([*lines, "", f"{lives:,} of {tries:,} faults survived."])
