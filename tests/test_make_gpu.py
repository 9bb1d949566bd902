"""``make gpu`` where there is no GPU: what it says, and how it runs its stages."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import example

from benchmarks import gpu

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("name", ["gpu", "tune"])
def test_without_a_gpu_one_sentence(name):
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = [x for x in done.stderr.splitlines() if "Warning" not in x]
    assert line.startswith(f"make {name} needs ")


def python(name, code, seconds=100.0):
    return gpu.Stage(name, [sys.executable, "-c", code], seconds)


def test_a_stage_that_fails_stops_no_other(tmp_path, capfd):
    done = [
        python("good", "print('one line')"),
        python("bad", "import sys; print('before'); sys.exit(3)"),
        python("late", "import time; print('begun', flush=True); time.sleep(600)", 5.0),
        python("after", "print('still runs')"),
    ]
    begin = time.monotonic()
    for stage in done:
        gpu.run(stage, tmp_path, begin + 300)
    gpu.run(unlucky := python("unlucky", "print('never')"), tmp_path, begin)
    assert time.monotonic() - begin < 300
    assert gpu.finish(tmp_path, [*done, unlucky]) == 1
    assert gpu.finish(tmp_path, done[:1]) == 0
    assert [stage.status for stage in done] == ["passed", "failed with status 3", "stopped after 5 s", "passed"]
    assert unlucky.status == "not run: no time was left" and not (tmp_path / "unlucky.log").exists()
    assert (tmp_path / "bad.log").read_text() == "before\n" and "begun" in (tmp_path / "late.log").read_text()
    assert "one line" in capfd.readouterr().out
    assert json.loads((tmp_path / "stages.json").read_text())[0]["status"] == "passed"


@pytest.mark.parametrize(("op", "form"), gpu.FORMS, ids=str)
def test_the_forms_that_the_sanitizer_sees(op, form):
    assert example(op, **{name: getattr(torch, x) if name == "lengths" else x for name, x in form.items()})


def test_stages_without_a_sanitizer():
    found = {stage.name: stage.status for stage in gpu.stages([])}
    assert found["tests"] == "not run" and found["memcheck"] == "not run: no compute-sanitizer"


def test_what_takes_all_the_time_it_may_leaves_some_for_the_benchmarks():
    assert gpu.WHOLE - gpu.BUILD - sum(stage.seconds for stage in gpu.stages(["compute-sanitizer"])) >= 100
