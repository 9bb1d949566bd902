"""Defaults by the size of the data, and what a training shows and keeps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from test_s2s_cli import TINY, exit_code

import s2s
from s2s import S2SError
from s2s.model.checkpoint import load_checkpoint
from s2s.model.config import Config
from s2s.report.curves import draw_curves, read_run
from s2s.training.fitting import Size, fitting, measure, pieces, said
from s2s.training.kept import average, keep, kept
from s2s.training.trainer import duration

RUNS = Path(__file__).resolve().parents[1] / "docs/runs"
MULTI30K = Size(29_000, 330_000, 345_000, True)


@pytest.fixture
def command(capsys):
    def run(*arguments):
        code = exit_code(*arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(f"{a}{b}\t{b}{a}\n" for a in "abcdefgh" for b in "stuvwxyz"))
    return path


def test_the_fields_fit_the_data():
    fields = fitting(MULTI30K, Config(), set())
    assert fields["tokens"] == "sentencepiece" and fields["shared_vocab"] and fields["tied_embeddings"]
    assert (fields["vocab_size"], fields["dropout"], fields["batch_size"], fields["ema"]) == (8000, 0.4, 64, 0.998)
    assert not fitting(MULTI30K._replace(pairs=999), Config(), set())
    assert fitting(MULTI30K._replace(pairs=2000), Config(), set())["batch_size"] == 32
    assert fitting(MULTI30K._replace(pairs=400_000), Config(), set())["dropout"] == 0.2
    other = fitting(MULTI30K._replace(one_script=False), Config(), set())
    assert not other["shared_vocab"] and other["vocab_size"] == 6000
    assert [pieces(words) for words in (0, 24_000, 130_000, 10**7, 10**9)] == [500, 1500, 3500, 31_500, 32_000]
    Config().updated(**fields)  # which refuses what makes no sense together


def test_what_was_chosen_stays():
    fields = fitting(MULTI30K, Config(tokens="char", dropout=0.1), {"tokens", "dropout"})
    assert not {"tokens", "dropout", "vocab_size", "shared_vocab"} & set(fields)
    fields = fitting(MULTI30K, Config(readout_size=128), {"readout_size"})
    assert "tied_embeddings" not in fields  # the widths do not allow it
    assert said({"tokens": "char", "tied_embeddings": True, "shared_vocab": False, "lr": 0.5}) == (
        "--tokens char --tied-embeddings --no-shared-vocab --lr 0.5"
    )


def test_measuring():
    assert measure([("a b", "c"), ("d", "e f g")]) == (2, 3, 4, True)
    assert measure([("a b", "अ आ"), ("c", "ब")]).one_script is False


def test_a_training_says_what_it_chose(command, tmp_path):
    rows = [f"{a} {b}\t{b} {a}\n" for a in map(str, range(40)) for b in map(str, range(40, 70))]
    (tmp_path / "p.tsv").write_text("".join(rows))
    words = ["--embedding-size", 8, "--encoder-size", 8, "--hidden-size", 8, "--attention-size", 8]
    words += ["--readout-size", 8, "--out", tmp_path / "m", "--epochs", 1]
    code, _, err = command("train", tmp_path / "p.tsv", *words)
    assert code == 0 and re.search(r"^chosen for 1,140 pairs: --tokens sentencepiece --shared-vocab ", err, re.M)
    assert "still improving: the same command with --resume --epochs 2 goes on" in err
    config = s2s.load(tmp_path / "m").config
    assert config.tokens == "sentencepiece" and config.tied_embeddings and config.epochs == 1


def test_samples_kept_checkpoints_and_their_average(command, pairs, tmp_path):
    out = tmp_path / "m"
    options = [*(word for word in TINY if word != "--no-curves"), "--epochs", 6, "--samples", 2, "--keep", 3]
    code, _, err = command("train", pairs, "--out", out, *options)
    assert code == 0 and err.count("      found  ") == 12 and err.count("      is     ") == 12
    found = kept(out)
    history = json.loads((out / "history.json").read_text())
    best = sorted(history, key=lambda record: record["valid_loss"])[:3]
    assert [path.name for path in found] == [f"step-{record['step']:07d}" for record in best]
    image = imread(out / "curves.png")
    assert image.shape[0] > 300 and image.shape[1] > 1000
    code, _, err = command("average", out, "--out", tmp_path / "a")
    assert code == 0 and "the average of 3 models" in err
    weights = [load_checkpoint(path)[0].state_dict() for path in found]
    for name, value in load_checkpoint(tmp_path / "a")[0].state_dict().items():
        torch.testing.assert_close(value, sum(w[name].double() for w in weights).float() / 3, rtol=1e-6, atol=1e-9)
    assert command("average", out, "--out", out)[0] == 1  # where a model is
    assert command("average", tmp_path / "a", "--out", tmp_path / "b")[0] == 1  # one alone
    (out / "kept/step-0000001").mkdir()  # left by a stop in the middle of taking it away
    assert kept(out) == found


def test_only_the_best_are_kept(tmp_path):
    def save(path, loss):
        path.mkdir(parents=True)
        (path / "config.json").write_text("{}")
        record = {
            "step": 1,
            "epoch": 1,
            "seconds": 0,
            "train_loss": 1.0,
            "valid_loss": loss,
            "lr": 1,
            "tokens_per_second": 1,
        }
        (path / "history.json").write_text(json.dumps([record]))

    for step, loss in enumerate([5.0, 3.0, 4.0, 9.0, 1.0], 1):
        keep(tmp_path, 2, {"step": step, "valid_loss": loss}, lambda path, loss=loss: save(path, loss))
    assert [path.name for path in kept(tmp_path)] == ["step-0000005", "step-0000002"]
    with pytest.raises(S2SError, match="there is 1 to average, expected two checkpoints or more"):
        average(kept(tmp_path)[:1])


def test_curves_of_several_runs(command, tmp_path):
    records = [RUNS / "multi30k-de-en.json", RUNS / "marathi-best.json"]
    code, _, err = command("curves", *records, "--out", tmp_path / "new/c.png")
    assert code == 0 and "c.png" in err
    alone = imread(draw_curves(tmp_path / "one.png", [read_run(records[0])._replace(bleu={})]))
    assert imread(tmp_path / "new/c.png").shape[1] > alone.shape[1]  # BLEU has a panel of its own
    for out, message in (("c.bmpp", "expected one of .png, .pdf, .svg"), ("c", "ends in 'nothing'")):
        code, _, err = command("curves", records[0], "--out", tmp_path / out)
        assert code == 1 and message in err and not (tmp_path / out).exists()
    (tmp_path / "r.json").write_text("[]")
    assert command("curves", tmp_path / "r.json", "--out", tmp_path / "c.png")[0] == 1
    assert command("curves", tmp_path / "none", "--out", tmp_path / "c.png")[0] == 1


def test_whole_names_of_options_in_groups(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("train", "--help")
    assert code == 0 and "…" not in out and max(map(len, out.splitlines())) <= 80
    titles = re.findall(r"^╭─ (\w+) ─", out, re.M)
    assert titles == ["Arguments", "Options", "Text", "Encoder", "Decoder", "Training", "Output"]
    assert all(name in out for name in ("--normalize-attention ", "--sampling-probability ", "--no-bidirectional"))


def test_an_option_and_its_opposite(command, pairs, tmp_path):
    code, _, err = command("train", pairs, "--bidirectional", "--no-bidirectional", "--out", tmp_path / "m")
    assert code == 1 and "both --bidirectional and --no-bidirectional are given" in err


def test_presets_fit_the_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = command("presets")[1]
    assert max(map(len, out.splitlines())) <= 80 and "bahdanau" in out and "multi30k-de-en" in out


def test_the_bar_shows_no_time_left_at_its_end(capsys):
    from test_s2s_training import PAIRS, setting

    from s2s.training import Trainer

    model, data, _ = setting(PAIRS, epochs=1, batch_size=20)
    Trainer(model, data, data, show_bar=True, say=lambda text: None).run()
    last = capsys.readouterr().err.rstrip().rpartition("\r")[2]
    assert "100%" in last and "tokens/s" in last and "left" not in last
    assert [duration(s) for s in (0.4, 119, 121, 3599, 3700)] == ["0 s", "119 s", "2 min", "1 h 00 min", "1 h 02 min"]


@pytest.mark.slow
def test_interrupted_in_one_line(pairs, tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "s2s", "train", str(pairs), "--out", "m", *TINY]
    command += ["--epochs", "100000", "--patience", "0", "--eval-every", "20"]
    # A pytest in the background of a shell ignores Ctrl-C, and its children would inherit that.
    heard = {"preexec_fn": partial(signal.signal, signal.SIGINT, signal.SIG_DFL)}
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, **heard)
    end = time.monotonic() + 600
    while not (tmp_path / "m/config.json").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=600)
    pattern = r"s2s: interrupted at step \d+; the model of step \d+ is in m, and .* --resume goes on from step \d+\."
    assert process.returncode == 130 and re.fullmatch(pattern, err.splitlines()[-1]) and "Traceback" not in err


def test_endings_and_files_that_are_not_what_they_seem(command, pairs, tmp_path, monkeypatch):
    out = tmp_path / "m"
    assert command("train", pairs, "--out", out, *TINY, "--epochs", 1)[0] == 0
    for words in (["--out", tmp_path / "x.bmpp"], ["--out", tmp_path / "x.bmpp", "--format", "png"]):
        code, _, err = command("align", out, "as", *words)
        assert code == 1 and "'.bmpp', expected one of .png, .pdf, .svg" in err and not (tmp_path / "x.bmpp").exists()
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("as\n")
    code, _, err = command("translate", out, "in.txt")
    assert code == 0 and "in.txt is a file, but is taken as the text itself; --file in.txt takes its lines" in err
    assert command("translate", out, "as")[2] == ""
