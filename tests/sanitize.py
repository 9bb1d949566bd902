"""make sanitize: the CPU's kernels under the sanitizers of the compiler.

    make sanitize                                   # both lanes
    .venv/bin/python tests/sanitize.py threads      # one

Each lane compiles csrc/ once more, into build/sanitize-<lane>/ beside a copy of the Python package, and runs there; the
extension that is installed is never touched.

Both look at memory alone: whether the numbers are right is not judged, as without vectorisation they are summed in
another order. (That is `make test` and `make fuzz`.)

address: AddressSanitizer, UndefinedBehaviorSanitizer and the assertions of the standard library, over every test of an
op on the CPU, random calls and wrong arguments.
threads: ThreadSanitizer, over random calls with 1 to 8 threads. It cannot see how the threads of libgomp, which is not
instrumented, begin, end and wait for each other, and would take all that they hand over for races; so this lane is
built without OpenMP, and the kernels run on the threads of csrc/cpu/threads alone. What is checked is every access to
memory of the kernels and of those threads: not libgomp, nor torch.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
OPS = ["additive_attention", "gru_step", "lstm_step", "gru", "lstm", "bidirectional"]
OPS += [
    "attention_gru",
    "attention_lstm",
    "linear_cross_entropy",
    "beam_search",
    "greedy_search",
    "edge",
    "zero_sizes",
    "errors",
    "determinism",
    "gradients",
]
COMMON = ["-O1", "-g", "-std=c++20", "-fno-omit-frame-pointer", "-fno-math-errno", "-fno-trapping-math", "-fno-wrapv"]


class Lane(NamedTuple):
    name: str
    library: str  # loaded before all else
    flags: list[str]
    options: dict[str, str]


LANES = {
    "address": Lane(
        "AddressSanitizer, UndefinedBehaviorSanitizer",
        "libasan.so",
        # vptr: torch's classes are not compiled so.
        ["-fsanitize=address,undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"]
        + ["-fopenmp"],
        # Python and torch keep memory to the end. Without quarantine's default size the suite would not fit.
        {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
    ),
    "threads": Lane(
        "ThreadSanitizer",
        "libtsan.so",
        ["-fsanitize=thread", "-fopenmp-simd"],
        # What libgomp, torch and Python do among themselves is not instrumented, and not judged.
        {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66"},
    ),
}


def stop(message):
    raise SystemExit(f"sanitize: {message}")


def library_of_compiler(name):
    found = subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(found):
        stop(f"the C++ compiler has no {name}; install the sanitizers of g++ (libasan, libtsan).")
    return os.path.realpath(found)


def build(lane, folder):
    """csrc/ with the lane's flags, as a package in ``folder``. What did not change is not compiled again."""
    from torch.utils.cpp_extension import include_paths

    objects, lib = folder / "objects", Path(torch.__file__).parent / "lib"
    objects.mkdir(parents=True, exist_ok=True)
    sources = sorted([*(ROOT / "csrc").glob("*.cpp"), *(ROOT / "csrc" / "cpu").rglob("*.cpp")])
    headers = max(path.stat().st_mtime for path in [*(ROOT / "csrc").rglob("*.h"), Path(__file__)])
    includes = [str(ROOT / "csrc"), *include_paths(), sysconfig.get_path("include")]
    compiler = ["c++", *COMMON, *lane.flags, *(f"-I{path}" for path in includes)]
    compiler += ["-fPIC", "-DTORCH_EXTENSION_NAME=_C", "-DTORCH_API_INCLUDE_EXTENSION_H"]

    def compiled(source):
        to = objects / f"{'-'.join(source.relative_to(ROOT / 'csrc').parts)}.o"
        if to.exists() and to.stat().st_mtime > max(headers, source.stat().st_mtime):
            return to
        made = subprocess.run([*compiler, "-c", str(source), "-o", str(to)], capture_output=True, text=True)
        if made.returncode:
            stop(f"{source.name} did not compile:\n{made.stderr}")
        return to

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        made = list(tqdm(pool.map(compiled, sources), "compile", total=len(sources), unit=" files"))
    package = folder / "s2s_kernels"
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "s2s_kernels", package, dirs_exist_ok=True, ignore=ignore)
    link = ["c++", "-shared", *lane.flags, *map(str, made), "-o", str(package / "_C.so"), f"-L{lib}"]
    link += ["-lc10", "-ltorch", "-ltorch_cpu", "-ltorch_python", f"-Wl,-rpath,{lib}"]
    link += map(str, lib.glob("libgomp*.so*")) if "-fopenmp" in lane.flags else []  # the threads that torch has
    linked = subprocess.run(link, capture_output=True, text=True)
    if linked.returncode:
        stop(f"the extension did not link:\n{linked.stderr}")
    (package / "_build_info.json").write_text(json.dumps({"torch": torch.__version__, "compiler": lane.name}))


def environment(lane, folder):
    return os.environ | lane.options | {
        # With the C++ library, whose exceptions the sanitizers would not find later.
        "LD_PRELOAD": " ".join(map(library_of_compiler, (lane.library, "libstdc++.so.6"))),
        "PYTHONPATH": os.pathsep.join([str(folder), str(TESTS), str(ROOT / "python")]),
        "PYTHONMALLOC": "malloc",
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
    }  # fmt: skip


def runs(name, cases, seed):
    """What a lane runs: of each what it is called, and arguments of Python."""
    made = [
        ("random calls", ["-m", "sanitized", "calls", str(seed), str(cases)]),
        ("searches", ["-m", "sanitized", "searches", str(seed), str(cases // 10)]),
    ]
    if name == "threads":
        return made
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")]
    chosen = "not triton and not compile and not opcheck and not cpu-reference"
    files = [str(TESTS / f"test_{name}.py") for name in OPS]
    return [
        ("tests", [*pytest, "-k", chosen, *files]),
        *made,
        ("wrong arguments", ["-m", "sanitized", "wrong", "0", "1"]),
    ]


def run(lane, folder, title, arguments):
    """How many passed, and what the sanitizer said."""
    command = [sys.executable, *arguments]
    print(f"sanitize: {lane.name}: {title}", flush=True)
    made = subprocess.run(command, cwd=folder, env=environment(lane, folder), capture_output=True, text=True)
    said = made.stdout + made.stderr
    passed = re.search(r"(\d+) passed", made.stdout)
    # What pytest says that failed was judged by the rule, of numbers summed in another order than the user's.
    rounded = made.stdout.count("\nE       AssertionError") if title == "tests" else 0
    failed = re.search(r"(\d+) failed", made.stdout)
    found = re.search(r"(?m)^(==\d+==ERROR|.*runtime error|WARNING: ThreadSanitizer|AddressSanitizer: CHECK).*", said)
    ended = made.returncode and not (failed and int(failed[1]) == rounded)
    if found or ended or not passed:
        print(said[found.start() :][:6000] if found else said[-6000:])
        return 0, found.group(0) if found else f"ended with {made.returncode}"
    return int(passed[1]) + rounded, ""


def main():
    parser = argparse.ArgumentParser(prog="sanitize", description=__doc__.split("\n\n")[0])
    parser.add_argument("lanes", nargs="*", help=f"of {', '.join(LANES)}; all if none is named")
    parser.add_argument("--cases", type=int, default=2000, help="random calls in each lane")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    if unknown := [name for name in options.lanes if name not in LANES]:
        stop(f"there is no lane {unknown[0]}, expected one of {', '.join(LANES)}.")
    rows, failed = [], False
    for name in options.lanes or LANES:
        lane, folder = LANES[name], ROOT / "build" / f"sanitize-{name}"
        build(lane, folder)
        for title, arguments in runs(name, options.cases, options.seed):
            passed, found = run(lane, folder, title, arguments)
            rows.append([lane.name, title, f"{passed:,}", found or "0"])
            failed |= bool(found)
    head = ["sanitizer", "what ran", "passed", "findings"]
    print("\n".join(f"{row[0]:<56} {row[1]:<16} {row[2]:>8} {row[3]:>8}" for row in [head, *rows]))
    if options.write:
        from reliability import write

        write("sanitize", f"`make sanitize`, seed {options.seed}.", head, rows)
    if failed:
        stop("what was found is above.")


if __name__ == "__main__":
    main()
