"""make fuzz: random calls and wrong arguments of every op, on every backend that can run here.

    make fuzz ARGS="--cases 2000 --seed 7"
    PYTHONPATH=tests .venv/bin/python -m fuzz --backend cpp

A failing case is printed as Python: paste it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from tqdm import tqdm

from .backends import available, is_slow

TESTS = Path(__file__).parents[1]
JOB = 500  # cases of a process
PARTS = 4  # of the wrong arguments
MODULES = {"Case": "cases", "SearchCase": "searches", "Wrong": "wrong"}


def jobs(backends, cases, seed):
    """(kind, backend, seed, count): most of the cases go to fast kernels, a tenth of all are searches."""
    shares = {name: 0.06 if is_slow(name) else 0.1 if name == "reference" else 1.0 for name in backends}
    for name, share in shares.items():
        of_backend = round(cases * share / sum(shares.values()))
        searches = of_backend // 10
        for kind, count in (("calls", of_backend - searches), ("searches", searches)):
            for first in range(0, count, JOB):
                yield kind, name, seed + first, min(JOB, count - first)
        for part in range(PARTS if not is_slow(name) else 0):
            yield "wrong", name, part, PARTS


class Hunt:
    """All jobs, their progress and their faults."""

    def __init__(self, progress):
        self.progress, self.lock = progress, Lock()
        self.cases, self.faults = Counter(), []

    def run(self, job):
        kind, backend, *_ = job
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder) / "case"
            command = [sys.executable, "-m", "fuzz.worker", *map(str, job), str(at)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for line in process.stdout:
                said = json.loads(line)
                with self.lock:
                    self.cases[kind, backend] += said.get("done", 0)
                    self.progress.update(said.get("done", 0))
                    if "fault" in said:
                        self.fault(kind, backend, said["fault"], said["why"])
            errors = process.stderr.read()
            if process.wait():
                case = at.read_text() if at.exists() else f"job {job}"
                last = errors.strip().splitlines()[-1:] or [""]
                with self.lock:
                    self.fault(kind, backend, case, f"the process ended with {process.returncode}. {last[0]}")

    def fault(self, kind, backend, case, why):
        self.faults.append((kind, backend))
        module = MODULES.get(case.split("(")[0])
        tqdm.write(f"\n{why}\n")
        if module:
            call = f"from fuzz.{module} import *; nan = float('nan'); inf = float('inf'); {case}.run()"
            tqdm.write(f"PYTHONPATH=tests:. OMP_NUM_THREADS=2 {sys.executable} -c {shlex.quote(call)}\n")
        else:
            tqdm.write(f"{case}\n")


def total(all_jobs):
    from .wrong import all_wrong

    count = sum(job[3] for job in all_jobs if job[0] != "wrong")
    return count + sum(len(list(all_wrong(name))) for name in {job[1] for job in all_jobs if job[0] == "wrong"})


def main():
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.split("\n\n")[0])
    parser.add_argument("--cases", type=int, default=20_000, help="random calls, besides the wrong ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--backend", choices=["cpp", "cuda", "triton", "reference"], action="append")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    # Several threads in each process, so that parallel code runs as such.
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    can = available()
    backends = options.backend or can
    if missing := [name for name in backends if name not in can]:
        sys.exit(f"fuzz: backend {missing[0]} cannot run here; these can: {', '.join(can)}")
    if "cuda" in backends and is_slow("cuda"):
        from cuda_emulation import build

        build()  # once, before every process would wait for it
    all_jobs = sorted(jobs(backends, options.cases, options.seed), key=lambda job: not is_slow(job[1]))
    print(f"fuzz: seed {options.seed}, {options.cases} random calls and all wrong ones on {', '.join(backends)}")
    with tqdm(total=total(all_jobs), unit=" cases", smoothing=0.1) as progress:
        hunt = Hunt(progress)
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(hunt.run, all_jobs))
    head = ["backend", "random calls", "searches", "wrong arguments", "faults"]
    rows = []
    for name in backends:
        counts = [hunt.cases[kind, name] for kind in ("calls", "searches", "wrong")]
        rows.append(
            [f"`{name}`", *(f"{n:,}" if n else "" for n in counts), str(sum(f[1] == name for f in hunt.faults))]
        )
    print("\n".join(" ".join(f"{cell:>16}" for cell in row) for row in [head, *rows]))
    if options.write:
        from reliability import write

        write("fuzz", f"`make fuzz`, seed {options.seed}.", head, rows)
    if hunt.faults:
        sys.exit(f"fuzz: {len(hunt.faults)} faults; what fails is above, as a command to paste.")


if __name__ == "__main__":
    main()
