"""``make gpu``: everything that a machine with a GPU can say about this checkout, in ten minutes and one folder.

Builds, runs the tests on the GPU, looks for bad memory accesses and races, measures. A stage that fails or runs out
of time stops no other; at the end the exit status says whether one did. Needs no network and no virtual environment,
only a Python whose torch has CUDA.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

BEGUN = time.monotonic()  # before torch is imported, which takes long on a fresh machine
ROOT = Path(__file__).parents[1]
WHOLE, BUILD = 570, 120  # seconds, at most, for all stages together and for the first of them
FORMS = [  # tiny, yet every kernel: several blocks, wide loads and single ones, a split source, odd ends
    ("additive_attention", {"A": 64, "D": 40, "lengths": "int64", "mask": True}),
    ("additive_attention", {"T": 6, "N": 2, "bias": 3}),
    ("additive_attention", {"B": 1, "S": 200, "lengths": "int64"}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": "int64", "reverse": True}),
    ("lstm", {}),
    ("attention_gru", {"A": 64, "D": 40, "F": 9, "first": True, "lengths": "int64"}),
    ("attention_lstm", {"N": 2, "mask": True}),
]
SEARCHES = ("bahdanau", "luong, made feed, lstm")  # of tests/search_tests.py


@dataclass
class Stage:
    name: str
    command: list[str]
    seconds: float  # at most, and no more than is left of the whole
    environment: dict[str, str] = field(default_factory=dict)
    status: str = "not run"
    took: float = 0.0

    @property
    def passed(self):
        return self.status == "passed"


def run(stage, folder, deadline):
    """Runs one stage, on the terminal and into its log."""
    limit = min(stage.seconds, deadline - time.monotonic())
    if limit <= 1:
        stage.status = "not run: no time was left"
        return
    print(f"\n== {stage.name}, at most {limit:.0f} s: {' '.join(stage.command)}", flush=True)
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
    begin, late = time.monotonic(), threading.Event()

    def stop():
        late.set()
        for sign, patience in ((signal.SIGINT, 10), (signal.SIGKILL, 0)):  # pytest reports what it has on SIGINT
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                return
            time.sleep(patience)

    with open(folder / f"{stage.name}.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            stage.command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **stage.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        timer = threading.Timer(limit, stop)
        timer.daemon = True
        timer.start()
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
        process.wait()
        timer.cancel()
    stage.took = time.monotonic() - begin
    if late.is_set():
        stage.status = f"stopped after {limit:.0f} s"
    else:
        stage.status = "passed" if process.returncode == 0 else f"failed with status {process.returncode}"


def processes():
    """Of the tests: a core each, and a gigabyte of the GPU's memory."""
    import torch

    room = torch.cuda.mem_get_info()[0] >> 30 if torch.cuda.is_available() else 16
    return max(1, min(16, os.cpu_count() or 1, room))


def stages(sanitizer):
    """What comes after the build, the most telling first. ``sanitizer``: its command and options, or an empty list."""
    python = [sys.executable, "-m"]
    # By name (-v): what failed is known of a stage that is stopped, too.
    tests = [*python, "pytest", "-v", "-m", "gpu", "--tb=short", "-p", "no:cacheprovider"]
    alone = {}
    if find_spec("xdist"):
        # A thread for each process: together they would otherwise start cores x cores of them.
        tests, alone = [*tests, "-n", str(processes())], {"OMP_NUM_THREADS": "1"}
    # Triton compiles some 2,000 forms of its kernels.
    found = [
        Stage("tests", [*tests, "-k", "not triton"], 140, alone),
        Stage("triton", [*tests, "-k", "triton"], 130, alone),
    ]
    for tool in ("memcheck", "racecheck"):
        check = [*(sanitizer or ["compute-sanitizer"]), "--tool", tool, "--error-exitcode", "1"]
        # Every allocation by itself, so that reading past the end of one is seen.
        memory = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        found.append(Stage(tool, [*check, *python, "benchmarks.gpu", "--exercise"], 40, memory))
        if not sanitizer:
            found[-1].status = "not run: no compute-sanitizer"
    return found


def benchmarks(folder, left):
    command = [sys.executable, "-m", "benchmarks", "--suite", "gpu", "--out", str(folder)]
    return Stage("benchmarks", [*command, "--max-seconds", f"{max(1, left - 45):.0f}"], left)


def exercise():
    """Forward and backward of every op of the compiled CUDA backend on tiny shapes."""
    import torch

    import s2s_kernels as sk

    from .parity import helpers

    with sk.backend("cuda"):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for op, form in FORMS:
                form = {name: getattr(torch, x) if name == "lengths" else x for name, x in form.items()}
                inputs = helpers.place(helpers.example(op, **form), "cuda", dtype)
                cotangents = [torch.ones_like(y) for y in helpers.call(sk, op, inputs)]
                helpers.outputs_and_gradients(sk, op, inputs, cotangents)
                torch.cuda.synchronize()
                print(op, form, str(dtype))
            for form in SEARCHES:
                exercise_search(form, dtype, "cuda")
                print("beam_search", form, str(dtype))


def exercise_search(form, dtype, device):
    """A beam search of several slices of the vocabulary and several warps of lists; too short for a CUDA graph, which
    memory without a cache forbids."""
    sys.path.insert(0, str(ROOT / "tests"))
    import search_tests

    import s2s_kernels as sk

    search_tests.under_test["device"] = device
    inputs = search_tests.search_inputs(B=2, V=700, **search_tests.FORMS[form])
    inputs = search_tests.cast(inputs, lambda x: x.to(dtype))
    search_tests.run(sk.beam_search, inputs, beam=20, max_length=3, coverage_penalty=0.4, return_weights=True)


def problem(who="make gpu"):
    """Why this machine cannot run ``who``, in one sentence; None where it can."""
    try:
        import torch
    except ImportError:
        return f"{who} needs a torch with CUDA, and {sys.executable} has no torch."
    if torch.version.cuda is None:
        return f"{who} needs a torch with CUDA, and torch {torch.__version__} of {sys.executable} is built without."
    if not torch.cuda.is_available():
        return f"{who} needs an NVIDIA GPU, and torch finds none here."
    return None


def architecture():
    import torch

    return "{}.{}".format(*torch.cuda.get_device_capability())


def find_sanitizer():
    """Its command and options, or an empty list."""
    from torch.utils.cpp_extension import CUDA_HOME

    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=f"{CUDA_HOME}/bin")
    if not found:
        return []
    # Kernels of torch and cuBLAS would take all the time there is; with calls that fail libraries ask what there is.
    said = subprocess.run([found, "--help"], capture_output=True, text=True).stdout
    ours = [[option, "kns=s2s"] for option in ("--kernel-name", "--kernel-regex") if option in said][:1]
    return [found, "--report-api-errors", "no", *(ours[0] if ours else [])]


def summary(done):
    width = max(len(stage.name) for stage in done)
    return "\n".join(f"{stage.name:<{width}}  {stage.took:6.1f} s  {stage.status}" for stage in done)


def finish(folder, done):
    """Writes what became of each stage; the exit status."""
    rows = [
        {"stage": s.name, "status": s.status, "seconds": round(s.took, 1), "command": s.command, "log": f"{s.name}.log"}
        for s in done
    ]
    (folder / "stages.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / "stages.txt").write_text(summary(done) + "\n", encoding="utf-8")
    print(f"\n{summary(done)}\neverything is in {folder}")
    return 0 if all(stage.passed for stage in done) else 1


def main():
    if sys.argv[1:] == ["--exercise"]:
        return exercise()
    why = problem()
    if why:
        sys.exit(why)
    deadline = BEGUN + WHOLE
    temporary = ROOT / "build" / "gpu"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps", "-e", "."]
    # A machine's own Python may be its distribution's, of which pip wants to be told that this is meant.
    here = {"TORCH_CUDA_ARCH_LIST": os.environ.get("TORCH_CUDA_ARCH_LIST") or architecture()}
    build = Stage("build", pip, BUILD, {"S2S_FORCE_CUDA": "1", "PIP_BREAK_SYSTEM_PACKAGES": "1", **here})
    run(build, temporary, deadline)
    from . import report  # not before the build: it imports what is built

    folder = ROOT / "benchmarks" / "results" / report.slug(report.machine(), "gpu")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(temporary / "build.log", folder)
    done = [build, *stages(find_sanitizer())]  # without a build Triton and the reference have something to say
    for stage in done[1:]:
        if stage.status == "not run":
            run(stage, folder, deadline)
    done.append(benchmarks(folder, deadline - time.monotonic()))
    run(done[-1], folder, deadline)
    return finish(folder, done)


if __name__ == "__main__":
    sys.exit(main())
