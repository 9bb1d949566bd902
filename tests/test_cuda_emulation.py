"""The CUDA kernels, executed: the tests of every op once more, in a process where csrc/cuda stands in for the CPU's
kernels (tests/cuda_emulation.py)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s2s_kernels import extension

TESTS = Path(__file__).parent
FILES = [
    "additive_attention",
    "gru_step",
    "lstm_step",
    "gru",
    "lstm",
    "resets",
    "attention_gru",
    "attention_lstm",
    "greedy_search",
    "beam_search",
    "edge",
    "errors",
    "zero_sizes",
    "gradients",
    "opcheck",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not extension.built, reason="the ops are registered by the compiled extension, not built here"),
    pytest.mark.skipif(sys.platform != "linux", reason="the emulation switches fibers as Linux does"),
    pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler to build the emulation with"),
]


def run(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "cuda_emulation", *arguments]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = ":".join([str(TESTS), str(TESTS.parent), environment.get("PYTHONPATH", "")])
    result = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=900)
    return result.returncode, result.stdout[-6000:] + result.stderr[-2000:]


@pytest.mark.parametrize("name", FILES)
def test_of_the_op(name):
    # Parity holds the gradients as well; many rows are for threads that share them on a CPU, and cost the most here.
    chosen = "(cpu-cpp or any_shape or handed) and not gradcheck and not 1030"
    chosen += " and not (beam_search and (threads or 40 or (wider and not luong)))"
    status, output = run(str(TESTS / f"test_{name}.py"), "-k", chosen)
    assert status == 0, output
    assert int(re.search(r"(\d+) passed", output)[1]) > 20, output


@pytest.mark.parametrize("name", ["persistent", "persistent_attention"])
def test_one_launch_for_all_steps(name):
    """The recurrences again, where all blocks are alive at once and run in three orders."""
    status, output = run(str(TESTS / f"test_{name}.py"))
    assert status == 0, output
    assert int(re.search(r"(\d+) passed", output)[1]) > 60 and "skipped" not in output, output


def test_a_captured_step_of_the_decoder():
    status, output = run(str(TESTS / "test_replayed_steps.py"))
    assert status == 0 and int(re.search(r"(\d+) passed", output)[1]) > 20 and "skipped" not in output, output


def test_steps_that_nobody_needs():
    status, output = run(str(TESTS / "test_search_steps.py"))
    assert status == 0 and re.search(r"\b5 passed", output), output


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
