"""``make gpu`` where there is no GPU: what it says, and how it runs its stages, with tiny ones in their place."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import example

from benchmarks import gpu, identity
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import exercise, stages
from benchmarks.gpu.shot import Record, limit_of, shoot
from benchmarks.gpu.stage import BEFORE, Stage

ROOT = Path(__file__).parents[1]
KEY = {"sources": "abc", "gpu": "G"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("name", ["gpu", "tune"])
def test_without_a_gpu_one_sentence(name):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    (line,) = [x for x in done.stderr.splitlines() if "Warning" not in x]
    assert line.startswith(f"make {name} needs ")


# --- the order, and the shares --------------------------------------------------------------------------------


def planned(sanitizer=("compute-sanitizer",)):
    return stages.stages(Path("out"), "9.0", list(sanitizer), 4)


def test_the_stages():
    """What says most comes first; 540 seconds in all."""
    found = planned()
    names = ["build", "smoke", "benchmarks", "tests", "racecheck", "memcheck", "triton", "tune"]
    assert [stage.name for stage in found] == names
    assert [stage.name for stage in found if stage.needed] == ["build", "smoke"]
    assert sum(stage.seconds for stage in found) == stages.WHOLE == 540
    assert found[0].environment["TORCH_CUDA_ARCH_LIST"] == "9.0"
    without = {stage.name: stage for stage in planned(sanitizer=())}
    assert without["memcheck"].status == "not run: no compute-sanitizer" and not without["memcheck"].seconds


def test_the_tests_that_only_a_gpu_can_run():
    files = [Path(name).stem for name in stages.test_files()]
    assert len(set(files)) == len(files) and tuple(files[: len(stages.FIRST)]) == stages.FIRST
    assert {"test_cudnn", "test_s2s_epoch", "test_graph_capture", "test_resets"} <= set(files)
    assert not {"test_errors", "test_attention_decoder_errors", "test_packaging"} & set(files)
    assert all((ROOT / "tests" / f"{name}.py").exists() for name in files)


def test_a_share_grows_by_what_is_left():
    a, b, c = (Stage(name, [], seconds, grows=name != "b") for name, seconds in (("a", 10), ("b", 20), ("c", 30)))
    found = [a, b, c]
    assert limit_of(found, 0, 60) == 10 and limit_of(found, 0, 75) == 25
    assert limit_of(found, 1, 65) == 20  # has a cap
    assert limit_of(found, 2, 70) == 70
    assert limit_of(found, 0, 40) == 10 and limit_of(found, 0, 5) == 5  # the first come first
    b.status = BEFORE
    assert limit_of(found, 0, 60) == 30


# --- running them ---------------------------------------------------------------------------------------------


def python(name, code="print('done')", seconds=200.0, **options):
    return Stage(name, [sys.executable, "-c", code], seconds, **options)


def shot(folder, found, seconds=1000.0, key=KEY, **options):
    wrong = shoot(found, Record(folder, key), time.monotonic() + seconds, **options)
    rows = json.loads((folder / "stages.json").read_text())["stages"]
    assert [row["name"] for row in rows] == [stage.name for stage in found]
    return wrong, {row["name"]: row["status"] for row in rows}


def test_a_stage_that_fails_or_is_cut_stops_no_other(tmp_path, capfd):
    record = str(tmp_path / "stages.json")
    found = [
        python("good", "print('one line')"),
        python("bad", "import sys; print('before'); sys.exit('gru: wrong')"),
        python("late", "import time; print('begun'); time.sleep(600)", 6.0),
        python("after", f"import json; print(json.load(open({record!r}))['stages'][2]['status'])"),
    ]
    begin = time.monotonic()
    wrong, status = shot(tmp_path, found)
    assert time.monotonic() - begin < 300
    assert wrong == "bad failed with status 1: gru: wrong"
    assert list(status.values()) == ["passed", "failed with status 1", "cut after its 6 s", "passed"]
    assert (tmp_path / "bad.log").read_text() == "before\ngru: wrong\n"
    assert "begun" in (tmp_path / "late.log").read_text()
    assert (tmp_path / "after.log").read_text() == "cut after its 6 s\n"  # on disk before the next began
    said = capfd.readouterr().out
    assert "one line" in said and "== 3/4 late, at most 6 s of the " in said
    assert "late    " in (tmp_path / "stages.txt").read_text()


@pytest.mark.parametrize("name", ["build", "smoke"])
def test_what_all_rests_on_stops_at_once(tmp_path, name):
    code = "import sys; sys.exit('2 of 46 checks are wrong, the first: gru bfloat16')"
    found = [python("first"), python(name, code, needed=True), python("benchmarks"), python("tests")]
    wrong, status = shot(tmp_path, found)
    assert wrong.startswith(f"{name} failed with status 1: 2 of 46 checks are wrong, the first: gru bfloat16 (")
    assert wrong.endswith("s are left for another try)")
    assert status["benchmarks"] == status["tests"] == f"not run: {name} has not passed"
    assert not (tmp_path / "benchmarks.log").exists()


def test_the_budget_of_all(tmp_path):
    found = [python("a", "import time; time.sleep(600)"), python("b")]
    begin = time.monotonic()
    _, status = shot(tmp_path, found, seconds=2.0)
    assert time.monotonic() - begin < 100
    assert status == {"a": "cut after its 2 s", "b": "not run: no time was left"}


def test_a_stage_that_hears_nothing_is_killed(tmp_path):
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('deaf'); time.sleep(600)"
    begin = time.monotonic()
    _, status = shot(tmp_path, [python("deaf", code, 6.0)])
    assert status == {"deaf": "cut after its 6 s"} and time.monotonic() - begin < 150


def test_a_stage_knows_its_seconds(tmp_path):
    stage = Stage("s", [sys.executable, "-c", "import sys; print(sys.argv[1])", "{seconds}"], 20)
    shot(tmp_path, [stage])
    assert stage.said == "10"  # 20, and the time to end in


def test_a_second_run_skips_what_has_passed(tmp_path):
    counts = tmp_path / "counts"
    counts.mkdir()

    def three(fails):
        count = f"import pathlib; pathlib.Path({str(counts)!r}, '{{}}').open('a').write('x')"
        return [
            python("build", count.format("build"), made=lambda: built),
            python("smoke", count.format("smoke"), needed=True),
            python("tests", count.format("tests") + f"; raise SystemExit({int(fails)})"),
        ]

    def ran():
        return {path.name: len(path.read_text()) for path in counts.iterdir()}

    built = True
    assert shot(tmp_path, three(fails=True))[0]
    wrong, status = shot(tmp_path, three(fails=False))
    assert wrong is None and ran() == {"build": 1, "smoke": 1, "tests": 2}
    assert status == {"build": BEFORE, "smoke": BEFORE, "tests": "passed"}
    shot(tmp_path, three(fails=False))
    assert ran() == {"build": 1, "smoke": 1, "tests": 2}
    built = False  # a fresh machine, to which the results were taken
    shot(tmp_path, three(fails=False))
    assert ran() == {"build": 2, "smoke": 1, "tests": 2}
    built = True
    shot(tmp_path, three(fails=False), key=KEY | {"sources": "other"})
    assert ran() == {"build": 3, "smoke": 2, "tests": 3}
    shot(tmp_path, three(fails=False), key=KEY | {"sources": "other"}, again=True)
    assert ran() == {"build": 4, "smoke": 3, "tests": 4}
    (tmp_path / "stages.json").write_text('{"sources": "oth')  # cut off
    shot(tmp_path, three(fails=False))
    assert ran() == {"build": 5, "smoke": 4, "tests": 5}


def test_the_command(tmp_path, monkeypatch, capsys):
    """On a GPU that is made up: what passed there, what is said where not. Who calls ``main`` has the whole time, in a
    process of whatever age."""
    monkeypatch.setattr(command, "BEGUN", -1e9)
    monkeypatch.setattr(command.machine, "problem", lambda: None)
    monkeypatch.setattr(command.machine, "description", lambda: {"gpu": "G"})
    monkeypatch.setattr(command.machine, "architecture", lambda: "9.0")
    monkeypatch.setattr(command, "stages", lambda *_: [python("smoke", "exit('wrong')", needed=True), python("tests")])
    with pytest.raises(SystemExit, match=r"^make gpu: smoke failed with status 1: wrong \(\d+ s are left for another"):
        command.main(["--out", str(tmp_path)])
    monkeypatch.setattr(command, "stages", lambda *_: [python("smoke")])
    assert command.main(["--out", str(tmp_path)]) is None
    assert json.loads((tmp_path / "stages.json").read_text())["sources"] == identity.sources()


def test_built(tmp_path):
    assert not stages.built("9.0", tmp_path)
    (tmp_path / "_build_info.json").write_text('{"cuda_archs": "9.0"}')
    assert not stages.built("9.0", tmp_path)
    (tmp_path / "_C.so").touch()
    assert stages.built("9.0", tmp_path) and not stages.built("8.0", tmp_path)


def test_the_sources(tmp_path):
    (tmp_path / "csrc").mkdir()
    (tmp_path / "setup.py").write_text("1")
    before = identity.sources(tmp_path)
    (tmp_path / "csrc" / "a.cu").write_text("1")
    with_kernel = identity.sources(tmp_path)
    (tmp_path / "csrc" / "notes.txt").write_text("1")
    assert before != with_kernel == identity.sources(tmp_path)


# --- smoke, and what the sanitizers see -----------------------------------------------------------------------


def test_smoke_passes():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.smoke", "cpu"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == int(lines[0].partition(" ")[0].split("/")[1]) > 40


@pytest.mark.parametrize("stays", [False, True])
def test_smoke_says_what_is_wrong(stays):
    """A kernel that is wrong; and an error after which the GPU computes nothing."""
    code = """if True:
        import sys
        import s2s_kernels as sk
        from benchmarks.gpu import smoke
        right, stays, broken = sk.gru_step, sys.argv[1] == "True", []
        def gru_step(**inputs):
            broken.append(1)
            return right(**inputs) * (1.1 if inputs["h"].requires_grad else 1)
        def synchronize():
            if stays and broken:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
        sk.gru_step, smoke.synchronize = gru_step, synchronize
        smoke.main("cpu")"""
    command = [sys.executable, "-c", code, str(stays)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    if stays:
        assert said.startswith("gru_step torch.bfloat16: ") and "computes nothing more" in said
    else:
        assert said.startswith("4 of 62 checks are wrong, the first: gru_step torch.bfloat16: gru_step on cpu-auto")
    assert ("lstm_step" in done.stdout) is not stays


@pytest.mark.parametrize(("op", "form"), [*exercise.FORMS, *exercise.ONE_LAUNCH], ids=str)
def test_the_forms_that_the_sanitizer_sees(op, form):
    assert example(op, **{name: getattr(torch, x) if name == "lengths" else x for name, x in form.items()})
    assert gpu.problem is not None
