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
from s2s_kernels.info.plan import ARCHS, DTYPES, plan

ROOT = Path(__file__).parents[1]
OPS = ("gru", "lstm")
pytestmark = pytest.mark.skipif(not extension.built, reason="a plan is made by the compiled extension, not built here")
MULTIPROCESSORS, SHARED = {"sm_80": 108, "sm_90": 132}, {"sm_80": 163 << 10, "sm_90": 227 << 10}


def test_shape_p():
    """B = 64, H = 512: 32 slices a group, which keep 48 KB of a GRU's weights and 64 KB of an LSTM's."""
    gru, lstm = (plan(op, 64, 50, 512, "bfloat16", "sm_90") for op in OPS)
    assert all((made["groups"], made["slices"], made["tiles"]) == (4, 32, 1) for made in (gru, lstm))
    sums, states = 4 * 8 * 16 * 16, 4 * 256  # of a gate's columns; of each state
    assert gru["forward"]["shared_bytes"] == (48 << 10) + 3 * sums + states
    assert gru["backward"]["shared_bytes"] == (48 << 10) + sums + states
    assert lstm["forward"]["shared_bytes"] == (64 << 10) + 4 * sums + 2 * states
    assert gru["forward"]["read_bytes"] == 16 * 512 * 2 and gru["backward"]["read_bytes"] == 16 * 3 * 512 * 2
    assert gru["forward"]["exchange_bytes"] == 4 * 2 * 16 * 512 * 2
    smaller = plan("gru", 64, 50, 512, "bfloat16", "sm_80")  # room for three groups, of which two do as well
    assert (smaller["groups"], smaller["slices"], smaller["tiles"]) == (2, 32, 2)


def test_both_directions_at_shape_p():
    """Half the groups each, so a group has two tiles; what a block keeps of the weights is the same."""
    for op in OPS:
        one, both = (plan(op, 64, 50, 512, "bfloat16", "sm_90", directions=n) for n in (1, 2))
        assert (both["directions"], both["groups"], both["slices"], both["tiles"]) == (2, 2, 32, 2)
        for half in ("forward", "backward"):
            of, alone = both[half], one[half]
            assert of["shared_bytes"] == alone["shared_bytes"] + 4 * 256 * (1 if op == "gru" else 2)
            assert of["exchange_bytes"] == 2 * alone["exchange_bytes"]
            assert alone["step_us"] < of["step_us"] < 2 * alone["step_us"]  # faster than one after the other
    small = plan("lstm", 32, 25, 256, "bfloat16", "sm_90", directions=2)
    assert small["forward"] == plan("lstm", 32, 25, 256, "bfloat16", "sm_90")["forward"] | {
        "exchange_bytes": small["forward"]["exchange_bytes"]
    }  # room for all: no slower than one direction
    refused = plan("gru", 1, 1, 1072, "bfloat16", "sm_90", directions=2)["refusal"]
    assert refused == (
        "H is 1072, which takes 134 blocks that run at once, of both directions, and the GPU has 132 multiprocessors"
    )


def test_every_plan_covers_the_batch_and_fits():
    planned = 0
    sizes = product((1, 15, 16, 17, 64, 100, 1000), (16, 48, 256, 512, 1024, 2048, 2112))
    for (B, H), op, dtype, arch, directions in product(sizes, OPS, DTYPES, ARCHS, (1, 2)):
        made = plan(op, B, 10, H, dtype, arch, directions=directions)
        if made["refusal"]:
            continue
        planned += 1
        groups, rows = made["groups"], 16 * made["tiles"]
        assert made["slices"] * 16 == H and directions * groups * made["slices"] <= MULTIPROCESSORS[arch]
        assert (groups - 1) * rows < B <= groups * rows  # no group without a row
        for half in ("forward", "backward"):
            assert 0 < made[half]["shared_bytes"] <= SHARED[arch]
            assert 1 < made[half]["step_us"] < 100 * made["tiles"]
        assert not made["measured_faster"]  # nothing has been measured
    assert planned > 150


def test_the_decoder_at_shape_p():
    """Weights, values and half a row's keys of a GRU stay in a block's shared memory; of an LSTM's, keys do not."""
    arguments = {"S": 50, "A": 512}
    gru, lstm = (plan(f"attention_{op}", 64, 50, 512, "bfloat16", "sm_90", **arguments) for op in OPS)
    assert all((made["groups"], made["slices"], made["tiles"], made["parts"]) == (4, 32, 1, 2) for made in (gru, lstm))
    span, half_a_row = 56, 50 * 256 * 2  # 50 positions, as 7 loads of 16 bytes
    scores, state, query = 2 * 16 * span * 4, 16 * 512 * 2, 256 * 2
    for made, gates, states in ((gru, 3, 1), (lstm, 4, 2)):
        columns, values, keys = 16 * (gates + 1), 16 * gates * 16 * span * 2, half_a_row * (gates == 3)
        forward, backward = made["forward"], made["backward"]
        kept = columns * 512 * 2 + 4 * (4 * 16 * columns + 256 * (states + gates))
        assert forward["shared_bytes"] == kept + values + keys
        kept = columns * 512 * 2 + 4 * (8 * 16 * 16 + 256 * states + span + 10 * 256)
        assert backward["shared_bytes"] == kept + values + keys
        assert forward["read_bytes"] == state + scores + query and forward["exchange_bytes"] == 4 * (3 * state + scores)
        assert (forward["barriers"], backward["barriers"]) == (3, 2)
        assert all(half["values_stay"] and half["keys_stay"] == (gates == 3) for half in (forward, backward))
        assert backward["step_us"] < forward["step_us"] < 7


def test_every_plan_of_a_decoder_fits():
    planned = 0
    sizes = product((1, 17, 64, 300), (1, 50, 333), (16, 256, 512, 1024), (16, 256, 1024))
    for (B, S, H, A), op, dtype, arch in product(sizes, OPS, DTYPES, ARCHS):
        made = plan(f"attention_{op}", B, 10, H, dtype, arch, S=S, A=A)
        if made["refusal"]:
            continue
        planned += 1
        rows = min(16 * made["tiles"], B)
        assert 1 <= made["parts"] <= A // 16 and (made["parts"] == 1 or made["parts"] * rows <= made["slices"])
        assert made["groups"] * made["slices"] <= MULTIPROCESSORS[arch]
        for half in ("forward", "backward"):
            assert 0 < made[half]["shared_bytes"] <= SHARED[arch] and made[half]["step_us"] > 1
        assert not made["measured_faster"]
    assert planned > 300


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
    "too many steps of three": (("attention_gru", 4, 2**25, 512), "T is 33554432, which overflows the barrier"),
    "no source": (("attention_gru", 4, 5, 32), "there is nothing to attend to: S is 0"),
    "a part of a tile of keys": (
        ("attention_gru", 4, 5, 32, "float16", "sm_90", 3, 24),
        "A is 24, expected a multiple of 16",
    ),
    "more queries than units": (
        ("attention_lstm", 4, 5, 32, "float16", "sm_90", 3, 48),
        "A is 48, expected H, which is 32, at most",
    ),
    "a decoder of too many weights": (
        ("attention_gru", 128, 50, 1024, "bfloat16", "sm_80", 50, 1024),
        "a block would hold 188640 bytes of weights and sums, and the GPU lets it have 166912",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(case):
    arguments, why = REFUSALS[case]
    sizes = dict(zip(("S", "A"), arguments[6:], strict=False))
    assert plan(*arguments[:6], **sizes)["refusal"] == why


def test_refused_gpus_and_resets(tmp_path):
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    (tmp_path / "ask.cpp").write_text("""
        #include "csrc/plan_attention.h"
        #include <cstdio>
        using namespace s2s::plan;
        int main() {
          Sequence s{3, 64, 50, 512, s2s::cuda::Type::kBFloat16};
          for (Gpu gpu : {Gpu{75, 72, 64 << 10}, Gpu{90, 132, 227 << 10, true}, Gpu{86, 84, 99 << 10}})
            std::printf("%s;", make(s, gpu).refusal.c_str());
          s.resets = true;
          std::printf("%s;", make(s, gpu("sm_90")).refusal.c_str());
          s.resets = false;
          for (Decoder d : {Decoder{s, 50, 512, 2, false}, Decoder{s, 50, 512, 1, true}, Decoder{s, 50, 512, 1, false}})
            std::printf("%s;", make(d, gpu("sm_90")).refusal.c_str());
          try {
            gpu("sm_70");
          } catch (const std::invalid_argument& error) {
            std::printf("%s", error.what());
          }
        }""")
    command = ["c++", "-std=c++20", "-include", "stdexcept", f"-I{ROOT}", str(tmp_path / "ask.cpp")]
    subprocess.run([*command, *map(str, (ROOT / "csrc").glob("plan*.cpp")), "-o", str(tmp_path / "ask")], check=True)
    said = subprocess.run([tmp_path / "ask"], check=True, capture_output=True, text=True).stdout.split(";")
    assert said == [
        "the GPU is sm_75, expected sm_80 or newer",
        "the GPU is divided by MIG",
        "",
        "there are resets",
        "there are 2 heads, expected 1",
        "w_feed is given",
        "",
        "arch is sm_70, expected sm_80 or sm_90",
    ]


def test_the_command(monkeypatch, capsys):
    def info(*words):
        monkeypatch.setattr(sys, "argv", ["info", *words])
        runpy.run_module("s2s_kernels.info", run_name="__main__")
        said, error = capsys.readouterr()
        assert error == ""
        return said

    said = info("--plan", "gru", "B=64", "T=50", "H=512", "dtype=bfloat16", "arch=sm_90")
    assert said.startswith("sm_90 (132 multiprocessors): 128 blocks: 4 groups x 32 slices of 16 units")
    assert "forward   74,752 bytes of shared memory" in said and "predicted" in said and "no measurement yet" in said
    said = info("--plan", "gru", "B=64", "T=50", "H=512", "directions=2", "arch=sm_90")
    assert ": 128 blocks: 2 directions x 2 groups x 32 slices of 16 units; 32 rows a group;" in said
    said = info("--plan", "gru", "B=64", "T=50", "H=2048", "directions=2", "arch=sm_90")
    assert "no plan, each direction runs by itself: H is 2048, which takes 256 blocks" in said
    said = info("--plan", "lstm", "B=64", "T=50", "H=40")
    assert said.splitlines()[0].startswith("sm_80 ") and said.splitlines()[1].startswith("sm_90 ")
    assert said.count("no plan, the loop of launches runs: H is 40, expected a multiple of 16") == 2
    said = info("--plan", "attention_lstm", *["B=64", "T=50", "S=50", "H=512", "A=512", "arch=sm_90"])
    assert "128 blocks: 4 groups x 32 slices of 16 units; 16 rows a group\n" in said
    assert "  3 barriers a group and step; values in shared memory, keys read at every step\n" in said


def test_a_process_of_its_own():
    def info(*words):
        command = [sys.executable, "-m", "s2s_kernels.info", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    status, said, _ = info("--json", "--plan", "lstm", "B=64", "T=50", "H=512")
    assert status == 0 and json.loads(said)["sm_80"]["groups"] == 2
    status, said, error = info("--plan", "lstm", "B=64")
    assert status == 1 and said == "" and error.startswith("s2s_kernels.info: T is not given")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["gru_step", "B=1", "T=1", "H=16"], "op is 'gru_step', expected one of gru, lstm, attention_gru, attention_l"),
        (["attention_gru", "B=1", "T=1", "H=16"], "S is not given, expected as in: attention_gru B=64 T=50 S=50 H=512"),
        (["attention_gru", "B=1", "D=1"], "'D=1' is no argument of a plan, expected B=, T=, S=, H=, A=, dtype= or "),
        (["gru", "B=1", "T=1", "H=16", "directions=3"], "directions is 3, expected 1 or 2"),
        (["gru", "B=1", "T=1", "H=16", "directions=two"], "directions is 'two', expected 1 or 2"),
        (["attention_gru", "B=1", "directions=2"], "'directions=2' is no argument of a plan, expected B=, T=, S=, H=,"),
        (["gru", "B=1", "T=1"], "H is not given, expected as in: gru B=64 T=50 H=512"),
        (["gru", "B=1", "T=-1", "H=16"], "T is '-1', expected an integer that is not negative"),
        (["gru", "B=1", "T=1", "H=16", "S=3"], "'S=3' is no argument of a plan, expected B=, T=, H=, directions=, "),
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
