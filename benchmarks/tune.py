"""``make tune``: the tiles in which this GPU runs the Triton kernels of additive attention fastest.

Each kernel is timed alone, at the named shapes, for one query, a beam of five and all T. Tiles that beat the default at
every shape of a class, and in which the op is right, become a row of s2s_kernels/triton/tiles.json.
"""

import argparse
import json
import sys
import time
from functools import partial
from types import SimpleNamespace
from unittest import mock

import torch

import s2s_kernels as sk
from s2s_kernels import triton
from s2s_kernels.triton import tiles

from . import bench_additive_attention, gpu, measure, parity, report
from .__main__ import RESULTS, progress
from .cases import SHAPES, Implementation, Run, functional

WIN, BEAM = 1.03, 5
REPEATS, BUDGET = 20, 0.3  # launches in one CUDA graph, so that the host is not timed; seconds for a kernel at a shape
# T, S, A = D and warps, beside the default. Registers hold 2048 elements a warp; a product needs 16 of each.
LISTED = {
    tiles.ONE_QUERY: [(1, 16, 64, 2), (1, 16, 256, 8), (1, 32, 64, 4), (1, 32, 128, 4), (1, 32, 256, 8)],
    tiles.MANY_SCORES: [(4, 16, 32, 2), (4, 16, 64, 4), (8, 32, 32, 4), (16, 16, 32, 4), (8, 32, 64, 8)],
    tiles.MANY_CONTEXTS: [(16, 16, 64, 2), (16, 32, 128, 4), (16, 64, 64, 4), (32, 32, 128, 8), (32, 64, 64, 8)],
}


def groups():
    """A kernel and the runs at all shapes of a class: together they decide on one row of the table."""
    from s2s_kernels.triton.additive_attention import one_at_a_time

    found = {}
    for dtype in (torch.bfloat16, torch.float32):  # float16 shares the rows of bfloat16
        for name, shape in SHAPES.items():
            for T in (1, BEAM, shape.T):
                dims = shape.pick("BSAD") if T == 1 else shape.pick("BSAD", T=T)
                run = Run(bench_additive_attention.case(name, set(), **dims), "cuda", dtype, 1, "gpu")
                forward = tiles.KERNELS[:1] if one_at_a_time(shape.B, T, shape.S) else tiles.KERNELS[1:3]
                for kernel in (*forward, *tiles.KERNELS[3:]):
                    like = tiles.shape_class(T, shape.S, shape.A, shape.D, dtype)
                    group = SimpleNamespace(key=f"{kernel}: {like}", kernel=kernel, shape=like, runs=[])
                    found.setdefault(group.key, group).runs.append(run)
    return list(found.values())


def candidates(kernel, T):
    """Tiles to try, the default first."""
    default = tiles.default(kernel, T, torch.float32)
    return [default, *(tiles.Tiles(T, S, X, X, warps) for T, S, X, warps in LISTED[default])]


def chooser(kernel, candidate):
    """`tiles.choose` with these tiles for one kernel, and for all others the default's."""
    return lambda name, _, *shape: (
        tiles.fit(candidate, *shape[2:]) if name == kernel else tiles.choose(name, None, *shape)
    )


def launches(run, kernel, tried):
    """By tiles: the kernel's launch, and what is wrong with the op in them, or None."""
    from s2s_kernels.triton import additive_attention, attention_kernels, language

    found, now, wanted = {}, None, getattr(attention_kernels, f"{kernel}_kernel")

    def launch(function, *args, **constants):
        start = partial(language.launch, function, *args, **constants)
        start()
        if function is wanted:
            found[now] = start

    def prepare(inputs, candidate):
        nonlocal now
        now, additive_attention.choose = candidate, chooser(kernel, candidate)
        return functional(sk.additive_attention)(inputs)

    trials = [Implementation(str(t), partial(prepare, candidate=t), backend="triton") for t in tried]
    with mock.patch.multiple(additive_attention, choose=None, launch=launch):
        problems = parity.check(run, trials).problems
    return found, {t: problems[str(t)] for t in tried}


def measured(run, kernel, tried):
    """Of each of the tiles in which the op is right: seconds of a launch. And a row of the report."""
    found, problems = launches(run, kernel, tried)
    steps = {}
    for t in (t for t in tried if problems[t] is None):
        step = lambda start=found[t]: [start() for _ in range(REPEATS)]
        steps[t] = measure.graphed(step) if run.device == "cuda" else step
    times = measure.alternate(steps, run.device, BUDGET)
    seconds = {t: measure.Spread.of(samples).median / REPEATS for t, samples in times.items()}
    rows = [{**t._asdict(), "seconds": seconds.get(t), "wrong": problems[t]} for t in tried]
    dtype = str(run.dtype).removeprefix("torch.")
    return seconds, {"case": run.case.name, "dims": run.case.dims, "dtype": dtype, "kernel": kernel, "tiles": rows}


def winner(times, tried):
    """Tiles that beat the default, the first tried, by WIN at every shape; None where there are none.

    times: {tiles: seconds} of each shape.
    """
    if any(tried[0] not in seconds for seconds in times):
        return None
    gains = {t: min(seconds[tried[0]] / seconds.get(t, torch.inf) for seconds in times) for t in tried}
    best = max(gains, key=gains.get)
    return best if gains[best] >= WIN else None


def table(rows):
    lines = [["shape", "dtype", "kernel", "default µs", "best µs", "T", "S", "A", "D", "warps"]]
    for row in rows:
        right = [t for t in row["tiles"] if t["seconds"]]
        best = min(right, key=lambda t: t["seconds"], default=row["tiles"][0])
        times = [report.number(t["seconds"] * 1e6) if t["seconds"] else "wrong" for t in (row["tiles"][0], best)]
        shape = f"{row['case']}, T={row['dims'].get('T', 1)}"
        lines.append([shape, row["dtype"], row["kernel"], *times, *(str(best[x]) for x in tiles.Tiles._fields)])
    return report.aligned(lines) + "\n"


def problem():
    if why := gpu.problem("make tune"):
        return why
    if not triton.runs_on("cuda"):
        return "make tune needs Triton, on a GPU of compute capability 8.0 or newer and without TRITON_INTERPRET."
    return None


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("--max-seconds", type=float, default=0, help="stop after this time; 0 for no limit")
    options, begin, broken = parser.parse_args(argv), time.monotonic(), None
    if why := problem():
        sys.exit(why)
    architecture = tiles.architecture_of(torch.device("cuda", torch.cuda.current_device()))
    try:
        chosen = tiles.read(tiles.TABLE)
    except ValueError as error:
        sys.exit(str(error))
    left, found = groups(), report.Report("tune", torch.get_num_threads())
    bar, show = progress(left.copy())
    try:
        for group in bar:
            if options.max_seconds and time.monotonic() - begin > options.max_seconds:
                break
            show(group)
            tried = candidates(group.kernel, group.runs[0].case.dims.get("T", 1))
            try:
                times, rows = zip(*(measured(run, group.kernel, tried) for run in group.runs), strict=True)
            except torch.OutOfMemoryError:  # eager PyTorch's; others may fit, and the report names what was left out
                continue
            key, best = (architecture, group.kernel, group.shape), winner(times, tried)
            chosen.pop(key, None)
            chosen.update({key: best} if best else {})
            found.rows.extend(rows)
            left.remove(group)
    except (Exception, KeyboardInterrupt) as error:  # what is measured is kept
        broken = f"Broke off: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        found.data["notes"].append(broken)
    found.data.update(seconds=time.monotonic() - begin, not_run=[group.key for group in left])
    folder = RESULTS / report.slug(found.data["machine"], "gpu")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tune.json").write_text(json.dumps(report.rounded(found.data), indent=1) + "\n", encoding="utf-8")
    (folder / "tune.txt").write_text(table(found.rows), encoding="utf-8")
    tiles.write(chosen, tiles.TABLE)
    print(table(found.rows), f"{len(left)} kernels were not measured; wrote {tiles.TABLE} and {folder}.", sep="\n")
    sys.exit(broken)


if __name__ == "__main__":
    main()
