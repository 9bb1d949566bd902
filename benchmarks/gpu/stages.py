"""The stages, in their order: what is worth most comes first, and what everything else rests on stops the shot."""

import json
import re
import sys
from functools import partial
from importlib.util import find_spec

from .stage import ROOT, Stage

WHOLE = 540  # seconds, for everything together
PYTHON = [sys.executable, "-m"]
# What says most, and of the rest only files with a test that runs on a GPU: importing costs each worker.
FIRST = (
    "test_persistent",
    "test_persistent_attention",
    "test_replayed_steps",
    "test_graph_capture",
    "test_attention_gru",
    "test_gru",
    "test_bidirectional",
    "test_additive_attention",
    "test_greedy_search",
    "test_s2s_epoch",
    "test_cudnn",
    "test_attention_lstm",
    "test_lstm",
    "test_beam_search",
)
ON_A_GPU = re.compile(r"^def test_\w+\([^)]*\b(search_)?(kernel|anywhere)\b|mark\.gpu", re.MULTILINE)  # fixtures
# What a GPU says nothing of: wrong arguments, and the reference.
ELSEWHERE = "not reference and not error and not without_extension"


def test_files():
    found = {path.stem: path for path in sorted((ROOT / "tests").glob("test_*.py"))}
    rest = [stem for stem, path in found.items() if "error" not in stem and ON_A_GPU.search(path.read_text("utf-8"))]
    return [f"tests/{stem}.py" for stem in dict.fromkeys([*FIRST, *rest])]


def built(architecture, package=ROOT / "s2s_kernels"):
    """Whether the extension is there, with its kernels for this GPU."""
    try:
        info = json.loads((package / "_build_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return info.get("cuda_archs") == architecture and any(package.glob("_C*.so"))


def tests(which, count):
    # By name (-v): what failed is known of a stage that is cut, too.
    command = [*PYTHON, "pytest", "-v", "-m", "gpu", "--tb=short", "-p", "no:cacheprovider"]
    if find_spec("xdist"):
        command += ["-n", str(count), "--max-worker-restart", "50"]
    return [*command, "-k", f"{which} and {ELSEWHERE}", *test_files()]


def stages(folder, architecture, sanitizer, count):
    """``sanitizer``: its command and options, or an empty list; ``count``: processes of the tests."""
    # A thread for each process: together they would otherwise start cores x cores of them.
    alone = {"OMP_NUM_THREADS": "1"}
    build = [sys.executable, "setup.py", "build_ext", "--inplace"]
    measure = [*PYTHON, "benchmarks", "--suite", "goals", "--out", str(folder), "--max-seconds", "{seconds}"]
    tune = [*PYTHON, "benchmarks.tune", "--max-seconds", "{seconds}"]
    one = {"S2S_FORCE_CUDA": "1", "TORCH_CUDA_ARCH_LIST": architecture}
    found = [
        Stage("build", build, 130, needed=True, environment=one, made=partial(built, architecture)),
        Stage("smoke", [*PYTHON, "benchmarks.gpu.smoke", "cuda"], 40, needed=True),
        Stage("benchmarks", measure, 130, grows=True),
        Stage("tests", tests("not triton", count), 110, grows=True, environment=alone),
    ]
    for tool in ("racecheck", "memcheck"):
        check = [*(sanitizer or ["compute-sanitizer"]), "--tool", tool, "--error-exitcode", "1"]
        # Every allocation by itself, so that reading past the end of one is seen.
        memory = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        found.append(Stage(tool, [*check, *PYTHON, "benchmarks.gpu.exercise"], 30, environment=memory))
        if not sanitizer:
            found[-1].status, found[-1].seconds = "not run: no compute-sanitizer", 0
    return [
        *found,
        Stage("triton", tests("triton", count), 45, grows=True, environment=alone),
        Stage("tune", tune, 25, grows=True),
    ]
