"""Training in several processes: what one process would do, to the last digits, and an end where one has gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes_worker import CASES, curve, stop_late, trainer
from test_s2s_cli import TINY
from test_s2s_training import setting

from s2s.cli import run
from s2s.model.presets import PRESETS
from s2s.training.state import load_state

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PAIRS = "".join(f"{a}{b}{c}\t{c}{b}{a}\n" for a in "abcdef" for b in "stuvw" for c in "klmno")


def environment(**more):
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes have found, and the folder of their states."""
    folder = tmp_path_factory.mktemp("processes")
    trainer(CASES["odd"] | {"epochs": 3}, stop=stop_late, state=folder / "one").run()
    command = [*TORCHRUN, str(ROOT / "tests/processes_worker.py"), str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text()), folder


def close(found, expected):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_curve_of_one(found, name):
    losses = found[0][name] if name != "tokens" else found[0][name][0]
    close(losses, curve(trainer(CASES[name], unused=name == "unused").run()))


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(found):
    """Bit for bit with as many processes, dropout of each included; with another number the same curve."""
    found, folder = found
    assert found["resumed"] == found["whole"] and found["the same weights"]
    alone = trainer(CASES["odd"] | {"epochs": 3})
    expected = curve(alone.run())
    close(found["from one"], expected)
    alone = trainer(CASES["odd"] | {"epochs": 3})
    load_state(alone, folder / "for one")
    close(curve(alone.run()), expected)
    assert found["tokens"][1] == alone.tokens  # none twice, none left out


@pytest.mark.parametrize("name", PRESETS)
def test_a_part_without_pairs_has_no_loss_and_no_gradient(name):
    fields = {"hidden_size": 24, "sampling": "never"} | dict(PRESETS[name].fields)
    options = {**fields, "encoder_size": 24, "hidden_size": 24, "columns": "1,2", "cleaning": "none"}
    model, data, _ = setting(**options)
    batch = data.load_part(range(5), [])
    assert len(batch.source) == 0 and batch.tokens == data.load(range(5)).tokens
    loss = model.loss(batch, 0.1)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def start(rank, port, folder, *more):
    """One process of two, without torchrun to end the other."""
    variables = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-W", "ignore", "-m", "s2s", "train", "pairs.tsv", "--out", "m", *TINY, *more]
    return subprocess.Popen(command, env=environment(**variables), cwd=folder, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.exhaustive(every=3)
@pytest.mark.slow
@pytest.mark.parametrize("gone, how", [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_who_is_left_says_so_and_ends(tmp_path, gone, how):
    (tmp_path / "pairs.tsv").write_text(PAIRS)
    port, more = free_port(), ["--epochs", "100000", "--patience", "0", "--eval-every", "50", "--peer-timeout", "20"]
    both = [start(rank, port, tmp_path, *more) for rank in (0, 1)]
    try:
        end = time.monotonic() + 600
        while not (tmp_path / "m/config.json").exists():  # which the first validation writes
            assert time.monotonic() < end and all(process.poll() is None for process in both)
            time.sleep(0.1)
        both[gone].send_signal(how)
        _, said = both[1 - gone].communicate(timeout=600)
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert both[1 - gone].returncode == 1
    last = said.splitlines()[-1]
    assert (
        last.startswith(f"s2s: process {1 - gone}: another process of this training has ended") and "--resume" in last
    )
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_mistake_is_said_once(tmp_path):
    """Even where the first process, which says it, comes last: torchrun ends it when another has gone."""
    (tmp_path / "pairs.tsv").write_text("a\tb\n")
    (tmp_path / "sitecustomize.py").write_text("import os, time\ntime.sleep(2 * (os.environ.get('RANK') == '0'))\n")
    variables = environment()
    variables["PYTHONPATH"] += f":{tmp_path}"
    for words, message in ((["none.tsv"], "none.tsv does not exist"), (["pairs.tsv", "--cell", "x"], "cell is 'x'")):
        command = [*TORCHRUN, "-m", "s2s", "train", *words, "--out", "m"]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        said = [line for line in done.stderr.splitlines() if line.startswith("s2s: ")]
        assert done.returncode == 1 and len(said) == 1 and message in said[0], done.stderr


def test_a_mistake_of_one_process_alone_is_said_by_it(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setattr("s2s.cli.FIRST_SPEAKS", 0.0)
    assert run(["train", "none.tsv", "--out", "m"]) == 1
    assert "s2s: process 1: the processes cannot meet" in capsys.readouterr().err
