"""The suite busy: ops beside other busy processes, and in one process with other runtimes.

Each implementation runs in a process of its own, and they take turns; once more all of them in one process, as a
program that serves several models has them. The load is processes that compute without end, started and ended here.
"""

import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import torch

from . import parity, report
from .cases import TRAINING
from .runtimes import RUNTIMES, jax_attention_gru, layer_of

LEVELS = (0, 2, 4, 8)  # busy processes
SHAPES = ((16, 20, 128), (64, 50, 512), (1, 50, 256), (1, 50, 512))  # B, T and H, which is I too
LAYERS = [f"{op} {shape}" for op in ("gru", "lstm") for shape in SHAPES]
SCANS = ["attention_gru C1", "attention_gru C2", "attention_gru P"]
ROUNDS, SECONDS = 3, 0.25
LOAD = "while True: pass"


@contextmanager
def load(count):
    """So many processes that want a core each."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", LOAD]) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def layer_step(name, runtime):
    op, shape = name.split(" ", 1)
    batch, steps, hidden = json.loads(shape.replace("(", "[").replace(")", "]"))
    torch.manual_seed(1)
    x = torch.randn(batch, steps, hidden)
    with torch.no_grad():
        expected = layer_of(op, hidden)(x)[0]
    step = RUNTIMES[runtime](op, layer_of(op, hidden), x)
    found = torch.tensor(step()) if not isinstance(step(), torch.Tensor) else step()
    error = (found - expected).abs().max().item()
    if error > 1e-4:
        raise ValueError(f"differs from torch.nn by {error:.1g}")
    return step


def scan_step(name, implementation):
    from . import suites
    from .engine import make_step

    op, case = name.split()
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


def serve(pipe, threads):
    """Times what it is asked for: (row, implementation, seconds) -> seconds of every call, or why there are none."""
    torch.set_num_threads(threads)
    steps = {}
    while (asked := pipe.recv()) is not None:
        row, implementation, seconds = asked
        try:
            if asked[:2] not in steps:
                make = scan_step if row in SCANS else layer_step
                steps[asked[:2]] = make(row, implementation)
            step, taken = steps[asked[:2]], []
            step()
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(taken) < 3:
                begin = time.perf_counter()
                step()
                taken.append(time.perf_counter() - begin)
            pipe.send(taken)
        except Exception as error:  # a peer that is not installed, or cannot: it is said in the table
            pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


class Server:
    def __init__(self, threads):
        self.pipe, other = multiprocessing.get_context("spawn").Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(other, threads), daemon=True)
        self.process.start()

    def ask(self, *asked):
        self.pipe.send(asked)
        return self.pipe.recv()

    def close(self):
        self.pipe.send(None)
        self.process.join()


def measure(row, names, servers, busy, together):
    """Rows of the report: each implementation's times, in turn."""
    times, why = {name: [] for name in names}, {}
    for name in names:
        if isinstance(first := servers[name].ask(row, name, 0.0), str):
            why[name] = first
    order = [name for name in names if name not in why]
    others = report.OtherPrograms()
    with load(busy):
        for _ in range(ROUNDS):
            for name in order:
                times[name].append(servers[name].ask(row, name, SECONDS))
            order = order[1:] + order[:1]
    share = others.share()
    rows = []
    for name in names:
        found = {"op": row, "busy": busy, "one_process": together, "implementation": name, "load": LOAD}
        if name in why:
            rows.append(found | {"problem": why[name]})
            continue
        medians = [statistics.median(taken) for taken in times[name]]
        every = sorted(t for taken in times[name] for t in taken)
        q1, median, q3 = statistics.quantiles(every, n=4)
        # Rounds that differ so much were not measured beside the same load.
        unsteady = max(medians) > 2 * min(medians)
        rows.append(found | {"seconds": {"median": median, "q1": q1, "q3": q3}, "unsteady": unsteady, "others": share})
    return rows


def main(options):
    begin, found = time.monotonic(), report.Report("busy", options.threads)
    chosen = [row for row in SCANS + LAYERS if options.filter in row]
    if not chosen:
        sys.exit(f"No row of suite busy has {options.filter!r} in its name; --list shows all.")
    if options.list:
        return print(*chosen, sep="\n")
    out = options.out or report.ROOT / "benchmarks" / "results" / report.slug(found.data["machine"], "busy")
    found.data["notes"].append(f"The load: as many processes as said, each of them Python's {LOAD!r}.")
    servers = {name: Server(options.threads) for name in RUNTIMES}
    one = Server(options.threads)
    plan = [(row, busy, False) for busy in LEVELS for row in chosen]
    plan += [(row, 0, True) for row in chosen if row in LAYERS]
    done = 0
    try:
        for row, busy, together in plan:
            if options.max_seconds and time.monotonic() - begin > options.max_seconds:
                break
            names = list(RUNTIMES)[:3] if row in SCANS else list(RUNTIMES)
            where = dict.fromkeys(names, one) if together else servers
            found.rows.extend(measure(row, names, where, busy, together))
            done += 1
            found.data.update(seconds=time.monotonic() - begin, not_run=[f"{r}, busy={b}" for r, b, _ in plan[done:]])
            found.save(out)  # what is measured is not lost with the rest
            print("  ".join(lines(found.rows)[-1]).rstrip(), flush=True)
    finally:
        for server in (*servers.values(), one):
            server.close()
    print()
    print(report.aligned([HEAD, *lines(found.rows)]))
    print(*(f"wrote {path}" for path in found.write(out)), sep="\n")


HEAD = ["row", "beside", "ms", "÷ fair share", *(f"{name} ÷ ours" for name in list(RUNTIMES)[1:]), ""]


def lines(rows):
    """A line for each row and load: our time, and by how much it is more than a fair share of the machine explains."""
    cores, made = report.os.cpu_count(), []
    ours = {(r["op"], r["busy"], r["one_process"]): r for r in rows if r["implementation"] == "s2s_kernels"}
    for key, row in ours.items():
        if "seconds" not in row:
            made.append([key[0], str(key[1]), "NO TIME, " + row["problem"][:60], "", "", "", "", "", ""])
            continue
        median, idle = row["seconds"]["median"], ours.get((key[0], 0, False), {}).get("seconds", {}).get("median")
        fair = idle * (key[1] + cores) / cores if idle else None
        peers = [next((r for r in rows if same(r, key) and r["implementation"] == n), {}) for n in list(RUNTIMES)[1:]]
        ratios = [report.number(p["seconds"]["median"] / median) if "seconds" in p else "" for p in peers]
        mark = "unsteady" if any(p.get("unsteady") for p in (row, *peers)) else ""
        beside = "others, one process" if key[2] else f"{key[1]} busy"
        made.append(
            [key[0], beside, report.milliseconds(row["seconds"]), f"{median / fair:.2f}" if fair else "", *ratios, mark]
        )
    return made


def same(row, key):
    return (row["op"], row["busy"], row["one_process"]) == key
