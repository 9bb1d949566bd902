"""``python -m benchmarks --suite busy``: measure what is not yet in the results."""

import importlib.metadata
import json
import signal
import sys
import time

from .. import report
from ..identity import sources
from .load import LOAD
from .measure import ROUNDS, SECONDS, Servers, measure
from .rows import LAYERS, SCANS, described, place, plan
from .server import LEAST
from .table import HEAD, lines

OVERHEAD = 2.0  # seconds: to start the load, and to make and check the steps
MEASURED = (  # what a result is of
    "csrc",
    "s2s_kernels",
    *(f"benchmarks/busy/{name}.py" for name in ("load", "measure", "rows", "server")),
    "benchmarks/peers.py",
    "benchmarks/runtimes.py",
    "benchmarks/torchrl_scan.py",
)
PACKAGES = ("torch", "jax", "onnx", "onnxruntime", "openvino", "torchrl", "hoptorch")


def build():
    """What results must have in common to stand in one table: the sources and the peers' versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {"sources": sources(places=MEASURED), "versions": versions}


def seconds_left(where, rows, cores):
    """What the rows of ``where`` will take, by those that are measured; a call lasts longer the more processes are
    busy, and there are LEAST calls in a round."""
    usual = [row["took"] for row in rows if "took" in row]
    usual, found = sum(usual) / len(usual) if usual else ROUNDS * SECONDS * 5 + OVERHEAD, 0.0
    for op, busy, _ in where:
        known = [row for row in rows if row["op"] == op and not row["one_process"] and "seconds" in row]
        if not known:
            found += usual
            continue
        level = max(row["busy"] for row in known)
        slower = (busy + cores) / (level + cores)
        calls = [row["seconds"]["median"] * slower for row in known if row["busy"] == level]
        found += OVERHEAD + sum(ROUNDS * max(SECONDS, LEAST * call) for call in calls)
    return found


def known(out, found, fresh):
    """The report to go on with: the one in ``out``, if it was made with this machine and build, else ``found``."""
    path = out / f"{found.data['suite']}.json"
    if not path.exists():
        return found
    try:
        before, now = report.Report.load(path), json.loads(json.dumps(found.data))
        same = {name: before.data.get(name) == now[name] for name in ("suite", "machine", "threads", "build")}
        rows = [row for row in before.rows if place(row) not in fresh]
    except (ValueError, KeyError, TypeError, AttributeError):
        sys.exit(f"{path} is no report of this suite: move it away, or measure into another folder with --out.")
    if all(same.values()):
        found.data.update(rows=rows, seconds=before.data["seconds"])
        if rows:
            print(f"Going on from {path}; --fresh begins anew.")
    else:
        differs = ", ".join(name for name, equal in same.items() if not equal)
        print(f"Beginning anew: {path} is of another {differs}.")
    return found


def stop(number, _):
    signal.signal(number, signal.SIG_IGN)  # a second one would come while the first is obeyed
    raise KeyboardInterrupt  # as Ctrl-C: the load is ended, and what is measured is written


def main(options):
    found = report.Report("busy", options.threads)
    chosen = [row for row in SCANS + LAYERS if options.filter in row]
    if not chosen:
        sys.exit(f"No row of suite busy has {options.filter!r} in its name; --list shows all.")
    if options.list:
        return print(*chosen, sep="\n")
    out = options.out or report.ROOT / "benchmarks" / "results" / report.slug(found.data["machine"], "busy")
    found.data["build"] = build()
    found.data["notes"].append(f"The load: as many processes as said, each of them Python's {LOAD!r}.")
    wanted = plan(chosen)
    found = known(out, found, wanted if options.fresh else ())
    interrupted = run(found, wanted, out, options)
    print()
    print(report.aligned([HEAD, *lines(found.rows, found.data["machine"]["cores"])]))
    print(*(f"wrote {path}" for path in found.write(out)), sep="\n")
    if left := len(missing(found, wanted)):
        said = f"{left} of {len(wanted)} rows are left, with which the same command goes on."
        sys.exit(f"Interrupted: {said}") if interrupted else print(said)


def missing(found, wanted):
    done = {place(row) for row in found.rows}
    return [where for where in wanted if where not in done]


def run(found, wanted, out, options):
    """Measures what is missing, and writes each row when it is whole; returns whether it was interrupted."""
    begin, before, cores = time.monotonic(), found.data["seconds"] or 0.0, found.data["machine"]["cores"]
    order = {where: n for n, where in enumerate(plan())}
    servers, handler = Servers(options.threads), signal.signal(signal.SIGTERM, stop)
    try:
        while left := missing(found, wanted):
            if options.max_seconds and time.monotonic() - begin > options.max_seconds:
                break
            minutes = max(1, round(seconds_left(left, found.rows, cores) / 60))
            number = len(wanted) - len(left) + 1
            print(f"row {number} of {len(wanted)}, about {minutes} min left: {described(left[0])}", flush=True)
            made = measure(*left[0], servers)
            found.data["rows"] = sorted([*found.rows, *made], key=lambda row: order[place(row)])
            found.data.update(seconds=before + time.monotonic() - begin)
            found.data.update(not_run=[described(where) for where in missing(found, plan())])
            found.save(out)  # what is measured is not lost with the rest
    except KeyboardInterrupt:
        return True
    finally:
        servers.close()
        signal.signal(signal.SIGTERM, handler)
    return False
