"""The CUDA kernels, executed: the tests of every op once more, in a process where csrc/cuda stands in for the CPU's
kernels (tests/cuda_emulation.py)."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from s2s_kernels import extension

TESTS = Path(__file__).parent
# One process for each row: it is the imports and the first call of everything that take long.
FILES = {
    "attention": ["additive_attention", "greedy_search", "beam_search", "search_steps"],
    "decoder": ["attention_gru", "attention_lstm", "edge", "errors"],
    "sequence": [
        "gru_step",
        "lstm_step",
        "gru",
        "lstm",
        "bidirectional",
        "resets",
        "zero_sizes",
        "gradients",
        "opcheck",
    ],
    "one launch for all steps": ["persistent", "persistent_attention"],
    "a captured step": ["replayed_steps"],
}
# Parity holds the gradients as well; many rows are for threads that share them on a CPU, and cost the most here.
CHOSEN = "(cpu-cpp or any_shape or handed or test_search_steps) and not gradcheck and not 1030"
CHOSEN += " and not (beam_search and (threads or 40 or (wider and not luong)))"
AT_LEAST = {"search_steps": 4, "opcheck": 8, "persistent": 61, "persistent_attention": 61}
WHOLE = ("one launch for all steps", "a captured step")  # what runs nowhere else

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not extension.built, reason="the ops are registered by the compiled extension, not built here"),
    pytest.mark.skipif(sys.platform != "linux", reason="the emulation switches fibers as Linux does"),
    pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler to build the emulation with"),
]


@pytest.mark.parametrize("row", FILES)
def test_on_the_emulation(pytestconfig, row):
    files = [str(TESTS / f"test_{name}.py") for name in FILES[row]]
    command = [sys.executable, "-m", "pytest", "-q", "-rfEsp", "-p", "no:cacheprovider", "-p", "cuda_emulation"]
    every = pytestconfig.getoption("exhaustive")
    # Second derivatives are those of the reference, over many calls of the op.
    chosen = CHOSEN if every else f"{CHOSEN} and not second_derivatives"
    command += ["--exhaustive"] * every
    command += [] if row in WHOLE else ["-k", chosen]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = ":".join([str(TESTS), str(TESTS.parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, *files],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    passed = Counter(re.findall(r"^PASSED tests/test_(\w+)\.py::", done.stdout, re.MULTILINE))
    said = re.sub(r"^PASSED .*\n", "", done.stdout, flags=re.MULTILINE)[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, said
    assert all(passed[name] >= AT_LEAST.get(name, 21) for name in FILES[row]), passed
    if row in WHOLE:
        assert "skipped" not in said, said


def run_program(tmp_path, text):
    (tmp_path / "program.cpp").write_text(text)
    command = ["c++", "-std=c++20", "-O1", f"-I{TESTS.parent}", str(tmp_path / "program.cpp")]
    subprocess.run([*command, "-o", str(tmp_path / "program")], check=True)
    return subprocess.run([tmp_path / "program"], capture_output=True, text=True)


def test_a_launch_of_too_many_blocks_is_refused(tmp_path):
    """A number of more than 31 bits, which a launch would cut off."""
    done = run_program(tmp_path, """
        #include "csrc/cuda/grid.h"
        #include <cstdio>
        int main() {
          if (s2s::cuda::grid_of(2147483647) != 2147483647u) return 1;
          try {
            return s2s::cuda::grid_of(int64_t(1) << 32 | 5);
          } catch (const std::runtime_error& error) {
            return std::puts(error.what()) < 0;
          }
        }""")  # fmt: skip
    assert done.returncode == 0 and "4294967301 blocks, expected 2147483647 at most" in done.stdout


def test_what_a_capture_says_is_its_first_error(tmp_path):
    done = run_program(tmp_path, """
        #include "csrc/cuda/capture.h"
        #include <cstdio>
        #include <stdexcept>
        using s2s::cuda::capture_error;
        int main() {
          int ended = 0;
          auto throws = [](const char* what) { return [=] { throw std::runtime_error(what); }; };
          auto fine = [] {};
          auto end = [&] { ended++; };
          auto bad_end = [&] { ended++; throw std::runtime_error("end"); };
          std::printf("%s;", capture_error(fine, fine, end).c_str());
          std::printf("%s;", capture_error(fine, throws("step"), bad_end).c_str());
          std::printf("%s;", capture_error(fine, throws("step"), end).c_str());
          std::printf("%s;", capture_error(fine, fine, bad_end).c_str());
          std::printf("%d;", ended);
          std::printf("%s;", capture_error(throws("begin"), throws("step"), bad_end).c_str());
          std::printf("%s;", capture_error(fine, throws(""), end).c_str());
          std::printf("%d", ended);
        }""")  # fmt: skip
    assert done.stdout == ";step;step;end;4;begin;an error without a word;5"
