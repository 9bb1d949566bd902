"""csrc/plan.h: how a GPU would run a sequence as one launch, and ``python -m s2s_kernels.info --plan``."""

import json
import runpy
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from s2s_kernels import extension
from s2s_kernels.info.plan import ARCHS, DTYPES, GATES, plan

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not extension.built, reason="a plan is made by the compiled extension, not built here")
MULTIPROCESSORS, SHARED = {"sm_80": 108, "sm_90": 132}, {"sm_80": 163 << 10, "sm_90": 227 << 10}


def test_shape_p():
    """B = 64, H = 512: 32 slices a group, which keep 48 KB of a GRU's weights and 64 KB of an LSTM's."""
    gru, lstm = (plan(op, 64, 50, 512, "bfloat16", "sm_90") for op in GATES)
    assert all((made["groups"], made["slices"], made["tiles"]) == (4, 32, 1) for made in (gru, lstm))
    sums, states = 4 * 8 * 16 * 16, 4 * 256  # of a gate's columns; of each state
    assert gru["forward"]["shared_bytes"] == (48 << 10) + 3 * sums + states
    assert gru["backward"]["shared_bytes"] == (48 << 10) + sums + states
    assert lstm["forward"]["shared_bytes"] == (64 << 10) + 4 * sums + 2 * states
    assert gru["forward"]["read_bytes"] == 16 * 512 * 2 and gru["backward"]["read_bytes"] == 16 * 3 * 512 * 2
    assert gru["forward"]["exchange_bytes"] == 4 * 2 * 16 * 512 * 2
    smaller = plan("gru", 64, 50, 512, "bfloat16", "sm_80")  # room for three groups, of which two do as well
    assert (smaller["groups"], smaller["slices"], smaller["tiles"]) == (2, 32, 2)


def test_every_plan_covers_the_batch_and_fits():
    planned = 0
    sizes = product((1, 15, 16, 17, 64, 100, 1000), (16, 48, 256, 512, 1024, 2048, 2112))
    for (B, H), op, dtype, arch in product(sizes, GATES, DTYPES, ARCHS):
        made = plan(op, B, 10, H, dtype, arch)
        if made["refusal"]:
            continue
        planned += 1
        groups, rows = made["groups"], 16 * made["tiles"]
        assert made["slices"] * 16 == H and groups * made["slices"] <= MULTIPROCESSORS[arch]
        assert (groups - 1) * rows < B <= groups * rows  # no group without a row
        for half in ("forward", "backward"):
            assert 0 < made[half]["shared_bytes"] <= SHARED[arch]
            assert 1 < made[half]["step_us"] < 100 * made["tiles"]
        assert not made["measured_faster"]  # nothing has been measured
    assert planned > 150


REFUSALS = {
    "float64": (("gru", 4, 5, 32, "float64"), "dtype is float64, expected float32, bfloat16 or float16"),
    "a part of a tile": (("gru", 4, 5, 40), "H is 40, expected a multiple of 16"),
    "float32 and wide": (("gru", 4, 5, 528, "float32"), "H is 528, expected 512 at most in float32"),
    "no rows": (("gru", 0, 5, 32), "there is nothing to compute: B, T or H is 0"),
    "no steps": (("lstm", 3, 0, 32), "there is nothing to compute: B, T or H is 0"),
    "too many slices": (
        ("gru", 4, 5, 2128),
        "H is 2128, which takes 133 blocks that run at once, and the GPU has 132 multiprocessors",
    ),
    "too many weights": (
        ("lstm", 4, 5, 2048),
        "a block would hold 296960 bytes of weights and sums, and the GPU lets it have 232448",
    ),
    "too many steps": (("gru", 4, 2**31 - 1, 512), "T is 2147483647, which overflows the barrier"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case):
    arguments, why = REFUSALS[case]
    assert plan(*arguments)["refusal"] == why


def test_refused_gpus_and_resets(tmp_path):
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    (tmp_path / "ask.cpp").write_text("""
        #include "csrc/plan.h"
        #include <cstdio>
        using namespace s2s::plan;
        int main() {
          Sequence s{3, 64, 50, 512, s2s::cuda::Type::kBFloat16};
          for (Gpu gpu : {Gpu{75, 72, 64 << 10}, Gpu{90, 132, 227 << 10, true}, Gpu{86, 84, 99 << 10}})
            std::printf("%s;", make(s, gpu).refusal.c_str());
          s.resets = true;
          std::printf("%s;", make(s, gpu("sm_90")).refusal.c_str());
          try {
            gpu("sm_70");
          } catch (const std::invalid_argument& error) {
            std::printf("%s", error.what());
          }
        }""")
    command = ["c++", "-std=c++20", "-include", "stdexcept", f"-I{ROOT}", str(tmp_path / "ask.cpp")]
    subprocess.run([*command, str(ROOT / "csrc" / "plan.cpp"), "-o", str(tmp_path / "ask")], check=True)
    said = subprocess.run([tmp_path / "ask"], check=True, capture_output=True, text=True).stdout.split(";")
    assert said == [
        "the GPU is sm_75, expected sm_80 or newer",
        "the GPU is divided by MIG",
        "",
        "there are resets",
        "arch is sm_70, expected sm_80 or sm_90",
    ]


def info(*words):
    command = [sys.executable, "-m", "s2s_kernels.info", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_the_command():
    status, said, _ = info("--plan", "gru", "B=64", "T=50", "H=512", "dtype=bfloat16", "arch=sm_90")
    assert status == 0 and said.startswith("sm_90 (132 multiprocessors): 128 blocks: 4 groups x 32 slices of 16 units")
    assert "forward   74,752 bytes of shared memory" in said and "predicted" in said and "no measurement yet" in said
    status, said, _ = info("--plan", "lstm", "B=64", "T=50", "H=40")
    assert status == 0 and said.splitlines()[0].startswith("sm_80 ") and said.splitlines()[1].startswith("sm_90 ")
    assert said.count("no plan, the loop of launches runs: H is 40, expected a multiple of 16") == 2
    status, said, _ = info("--json", "--plan", "lstm", "B=64", "T=50", "H=512")
    assert status == 0 and json.loads(said)["sm_80"]["groups"] == 2
    status, said, error = info("--plan", "lstm", "B=64")
    assert status == 1 and said == "" and error.startswith("s2s_kernels.info: T is not given")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["attention_gru", "B=1", "T=1", "H=16"], "op is 'attention_gru', expected one of gru, lstm"),
        (["gru", "B=1", "T=1"], "H is not given, expected as in: gru B=64 T=50 H=512"),
        (["gru", "B=1", "T=-1", "H=16"], "T is '-1', expected an integer that is not negative"),
        (["gru", "B=1", "T=1", "H=16", "S=3"], "'S=3' is no argument of a plan, expected B=, T=, H=, dtype= or arch="),
        (["gru", "B=1", "T=1", "H=16", "arch=sm_70"], "arch is 'sm_70', expected one of sm_80, sm_90"),
        (["gru", "B=1", "T=1", "H=16", "dtype=int8"], "dtype is 'int8', expected one of float32, "),
        (["gru", f"B={2**31}", "T=1", "H=16"], "B is 2147483648, expected 0 to 2147483647"),
    ],
)
def test_wrong_words(monkeypatch, capsys, words, why):
    monkeypatch.setattr(sys, "argv", ["info", "--plan", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("s2s_kernels.info", run_name="__main__")
    assert ended.value.code.startswith(f"s2s_kernels.info: {why}") and len(ended.value.code.splitlines()) == 1
    assert capsys.readouterr() == ("", "")
