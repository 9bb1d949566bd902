"""The command line, as a user runs it."""

import importlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from benchmarks import text_results
from s2s.cli import main
from s2s.report import records

TINY = ["--embedding-size", "16", "--encoder-size", "16", "--hidden-size", "32", "--attention-size", "16"]
TINY += ["--readout-size", "16", "--tokens", "char", "--batch-size", "16", "--lr", "0.01", "--dropout", "0"]
TINY += ["--no-curves"]


def exit_code(*arguments):
    """Of the command, run in this process as if it had been typed: records read the command line of the process,
    which is otherwise that of the tests."""
    arguments = [str(a) for a in arguments]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["s2s", *arguments])
        main(arguments)
    return stop.value.code or 0


@pytest.fixture
def s2s(capsys):
    """Runs the command in this process; returns (exit code, standard output, standard error)."""

    def run(*arguments):
        code = exit_code(*arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pairs = [(f"{a}{b}", f"{b}{a}") for a in "abcdefgh" for b in "stuvwxyz"]
    (folder / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    (folder / "source").write_text("".join(a + "\n" for a, _ in pairs))
    (folder / "target").write_text("".join(b + "\n" for _, b in pairs))
    (folder / "latin1").write_bytes("über\täber\n".encode("latin-1"))
    (folder / "empty").write_text("")
    return folder


@pytest.fixture(scope="module")
def model(files):
    out = files / "model"
    assert not exit_code("train", files / "pairs.tsv", "--out", out, "--epochs", "25", *TINY)
    return out


def test_train_writes_a_checkpoint(model):
    assert {p.name for p in model.iterdir()} == {
        "config.json", "model.safetensors", "source.vocab", "target.vocab", "history.json", "run.json",
        "training.json", "training.safetensors",
    }  # fmt: skip
    history = json.loads((model / "history.json").read_text())
    assert history[-1]["valid_loss"] < history[0]["valid_loss"]


def test_parallel_files_config_file_and_options(s2s, files, tmp_path):
    config = tmp_path / "c.json"
    config.write_text(json.dumps({"cell": "lstm", "epochs": 7}))
    valid = ["--valid", files / "source", "--valid", files / "target"]
    options = ["--config", config, "--epochs", "1", "--no-bidirectional", "--out", tmp_path / "m"]
    code, _, err = s2s("train", files / "source", files / "target", *valid, *options, *TINY)
    assert code == 0 and "64 pairs to train on, 64 to validate" in err and "saved in" in err
    stored = json.loads((tmp_path / "m/config.json").read_text())["config"]
    assert (stored["cell"], stored["epochs"], stored["bidirectional"]) == ("lstm", 1, False)


def test_pairs_that_are_too_long_are_named(s2s, files, tmp_path):
    (tmp_path / "p.tsv").write_text("bad\n" + (files / "pairs.tsv").read_text() + "abc\tb\n")
    _, _, err = s2s("train", tmp_path / "p.tsv", *TINY, "--max-length", "2", "--epochs", "1", "--out", tmp_path / "m")
    assert f"{tmp_path / 'p.tsv'}: left out 1 pair longer than 2 tokens (line 66)\n" in err


def test_resume(s2s, files, tmp_path):
    pairs = files / "source", files / "target"
    assert s2s("train", *pairs, "--out", tmp_path / "m", *TINY, "--epochs", "2")[0] == 0
    code, _, err = s2s("train", *pairs, "--out", tmp_path / "m", "--resume", "--epochs", "3")
    history = json.loads((tmp_path / "m/history.json").read_text())
    assert code == 0 and "going on at step" in err and [record["epoch"] for record in history] == [1, 2, 3]
    run = json.loads((tmp_path / "m/run.json").read_text())
    assert run["command"].endswith("--epochs 2") and [c.endswith("--resume --epochs 3") for c in run["resumed"]] == [1]
    code, _, err = s2s("train", *pairs, "--out", tmp_path / "m", "--resume", "--lr", "0.5")
    assert code == 1 and "lr is 0.5, expected" in err
    code, _, err = s2s("train", *pairs, "--out", tmp_path / "m", "--resume", "--preset", "cho")
    assert code == 1 and "no --preset" in err
    code, _, err = s2s("train", *pairs, "--out", tmp_path / "none", "--resume")
    assert code == 1 and "is no checkpoint" in err


def test_translate_arguments_file_and_standard_input(s2s, model, files, tmp_path, monkeypatch):
    code, out, _err = s2s("translate", model, "as", "hz")
    assert code == 0 and len(out.splitlines()) == 2
    (tmp_path / "lines").write_text("as\nhz\n")
    assert s2s("translate", model, "--file", tmp_path / "lines")[1] == out
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"as\nhz\n")))
    assert s2s("translate", model)[1] == out


def test_evaluate(s2s, model, files, tmp_path):
    code, out, _ = s2s("evaluate", model, files / "pairs.tsv", "--beam", 2, "--output", tmp_path / "out")
    exact, bleu, chrf, perplexity = out.splitlines()
    assert code == 0
    assert float(re.match(r"exact match (\S+) of 64", exact)[1]) > 0.5
    assert re.match(r"BLEU \S+  nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|version:", bleu)
    assert re.match(r"chrF \S+  nrefs:1", chrf)
    assert 1 < float(re.match(r"perplexity (\S+) of a target token", perplexity)[1]) < 10
    assert len((tmp_path / "out").read_text().splitlines()) == 64


def test_records_and_the_page_made_of_them(s2s, model, files, tmp_path, monkeypatch):
    clocks = {name: itertools.count(7, step).__next__ for name, step in (("monotonic", 2.5), ("process_time", 1.25))}
    monkeypatch.setattr(records, "time", SimpleNamespace(**clocks))  # what is measured depends on the machine
    path = tmp_path / "runs/reverse.json"
    for search in (["--beam", 1], ["--beam", 2, "--length-penalty", 0.5], ["--beam", 2, "--length-penalty", 0.5]):
        code, out, _ = s2s("evaluate", model, files / "pairs.tsv", *search, "--record", path, "--ask", "as")
        assert code == 0
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"by another command": 1}))
    assert record.pop("by another command") == 1
    assert record["seed"] == 1 and record["config"]["hidden_size"] == 32 and "window_size" not in record["config"]
    assert record["curve"] == json.loads((model / "history.json").read_text())
    assert [found["search"] for found in record["evaluations"]] == ["greedy", "beam 2, length penalty 0.5"]
    assert len({found["references"] for found in record["evaluations"]}) == 1
    found = record["evaluations"][1]
    assert f"BLEU {found['bleu']:.2f}  {found['bleu_signature']}" in out
    perplexity = float(re.search(r"perplexity (\S+)", out)[1])
    assert perplexity == pytest.approx(found["perplexity"], abs=6e-4) and found["samples"][0][0] == "as"
    assert [(e["seconds"], e["cpu_seconds"]) for e in record["evaluations"]] == [(2.5, 1.25)] * 2
    text = text_results.page(text_results.load_records(path.parent))
    assert str(tmp_path) not in text and str(files) not in text
    assert re.search(
        rf"^\| \[reverse\]\(#reverse\) \| pairs.tsv \| greedy \| {record['evaluations'][0]['bleu']:.2f} ", text, re.M
    )
    assert f"| greedy | as | {record['evaluations'][0]['samples'][0][1]} |" in text
    assert text.count("\ns2s train pairs.tsv ") == 1 and text.count("\ns2s evaluate model pairs.tsv ") == 2
    assert found["bleu_signature"] in text


def test_a_clock_goes_on_from_another():
    first = records.Clock({"seconds": 100, "cpu_seconds": 50}).read()
    assert 100 <= first["seconds"] < 160 and 50 <= first["cpu_seconds"] < 160


def test_the_page_of_results_is_what_the_records_say():
    records = text_results.load_records(text_results.DOCS / "runs")
    assert (text_results.DOCS / "results.md").read_text(encoding="utf-8") == text_results.page(records)


@pytest.mark.parametrize(
    "command, message",
    [
        ("train {d}/none", "{d}/none does not exist."),
        ("train {d}/empty", "{d}/empty is empty."),
        ("train {d}/latin1", "{d}/latin1 is not UTF-8 text (line 1); iconv can convert it."),
        ("train {d}/source", "{d}/source has no line with a source, a tab and a target."),
        ("train {d}/source {d}/latin1", "{d}/latin1 is not UTF-8 text"),
        ("train {d}/source {d}/one", "{d}/source has 64 lines but {d}/one has 1, expected as many."),
        ("train {d}/a {d}/b {d}/c", "3 files given, expected one tab-separated file or two parallel ones."),
        ("train {d}/pairs.tsv --cell rnn", "cell is 'rnn', expected one of gru, lstm."),
        ("train {d}/pairs.tsv --dropout 2", "dropout is 2.0, expected from 0 to 0.95."),
        (
            "train {d}/pairs.tsv --config {d}/none",
            "{d}/none does not exist, and there is no recipe of this name, expected",
        ),
        ("train {d}/pairs.tsv --device abacus", "device 'abacus' cannot be used"),
        ("train {d}/pairs.tsv --out {d}/empty/m", "{d}/empty/m cannot be written"),
        ("train {d}/one.tsv", "too few pairs (1) to keep some for validation; give --valid."),
        ("train {d}/pairs.tsv --tokens char --max-length 1", "no training pair is left (max_length is 1)."),
        ("translate {d}/none x", "{d}/none is no checkpoint: it has no config.json."),
        ("translate {m} --file {d}/none", "{d}/none does not exist."),
        ("translate {m} --file {d}/empty", "{d}/empty is empty."),
        ("translate {m} x --file {d}/one", "both texts and --file are given, expected one of them."),
        ("train {d}/pairs.tsv --columns 1;2", "columns is '1;2', expected two numbers"),
        ("train {d}/pairs.tsv --columns 2,3", "has no line with a source, a tab and a target in columns 2 and 3."),
        ("evaluate {m} {d}/pairs.tsv --ask x", "--ask is given without --record, where its output would go."),
        ("dates en klingon", "babel knows no locale 'klingon'."),
        ("evaluate {m} {d}/none", "{d}/none does not exist."),
        ("evaluate {m} {d}/pairs.tsv --output {d}/empty/x", "{d}/empty/x cannot be written (Not a directory)."),
        ("align {m} x --out {d}/empty/x.html", "{d}/empty/x.html cannot be written (Not a directory)."),
        ("curves {m} --out {d}/empty/x.png", "{d}/empty/x.png cannot be written (Not a directory)."),
        ("align {m} x --out {m}", "{m} is a folder, expected a file to write."),
        ("align {m} --file {d}/one --out {d}/one", "{d}/one is what is read, and would be written over"),
        ("evaluate {m} {d}/source {d}/target --output {d}/target", "{d}/target is what is read, and would be written"),
        ("evaluate {m} {d}/pairs.tsv --record {d}/pairs.tsv", "{d}/pairs.tsv is what is read, and would be written"),
        ("prepare {d}/all.tsv --out {d}", "{d}/all.tsv is what is read, and would be written over; choose another"),
    ],
)
def test_a_mistake_is_one_sentence(s2s, files, model, command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (files / "one").write_text("1\n")
    (files / "one.tsv").write_text("a\tb\n")
    (files / "all.tsv").write_text((files / "pairs.tsv").read_text())
    code, _, err = s2s(*command.format(d=files, m=model).split())
    lines = [line for line in err.splitlines() if line.startswith("s2s: ")]
    assert code == 1 and len(lines) == 1 and err.splitlines()[-1] == lines[0]
    assert message.format(d=files, m=model) in lines[0]
    assert "Traceback" not in err


def test_dates(s2s, tmp_path):
    code, _, err = s2s("dates", "de", "fr", "--train", 200, "--valid", 20, "--test", 30, "--out", tmp_path)
    assert code == 0 and "200 pairs to train on" in err
    rows = {name: (tmp_path / f"{name}.tsv").read_text().splitlines() for name in ("train", "valid", "test")}
    assert [len(part) for part in rows.values()] == [200, 20, 30]
    sources = [{row.split("\t")[0] for row in part} for part in rows.values()]
    assert not sources[0] & sources[1] and not sources[0] & sources[2]


def test_tensorboard_is_optional(s2s, files, tmp_path, monkeypatch):
    run = (
        "train",
        files / "pairs.tsv",
        "--epochs",
        "2",
        "--out",
        tmp_path / "m",
        "--tensorboard",
        tmp_path / "t",
        *TINY,
    )
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, err = s2s(*run)
    assert code == 1 and err == "s2s: --tensorboard needs TensorBoard: pip install tensorboard.\n"
    written = []
    writer = SimpleNamespace(add_scalar=lambda *row: written.append(row), flush=lambda: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda folder: writer))
    assert s2s(*run)[0] == 0
    history = json.loads((tmp_path / "m/history.json").read_text())
    assert [row[1:] for row in written if row[0] == "valid_loss"] == [(r["valid_loss"], r["step"]) for r in history]


def test_info(s2s):
    code, out, _ = s2s("info")
    assert code == 0
    report = json.loads(s2s("info", "--json")[1])
    assert report["torch"] == torch.__version__ and report["packages"]["sacrebleu"] == version("sacrebleu")
    for value in (report["s2s_kernels"], report["torch"], report["packages"]["sentencepiece"]):
        assert value in out


def test_usage_errors(s2s):
    assert s2s("evaluate")[0] == 2
    assert s2s("translate", "x", "--batch", "0")[0] == 2
    assert s2s("fly")[0] == 2
    code, out, err = s2s()
    assert code == 2 and "Commands" in out + err and "s2s: " not in err


@pytest.fixture
def shell(model):
    """Runs the command in a process of its own."""

    def run(*arguments, **options):
        command = [sys.executable, "-W", "ignore", "-m", "s2s", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, **options)

    return run


def test_a_process_of_its_own(shell, model):
    """Standard input, exit codes and encodings hold for real, in a locale without UTF-8 too."""
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = shell("translate", model, input="as\né\n".encode(), env=env)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.decode().splitlines()) == 2 and done.stderr == b""
    done = shell("translate", model, input=b"\xff\n")
    assert (
        done.returncode == 1
        and done.stderr == b"s2s: standard input is not UTF-8 text (line 1); iconv can convert it.\n"
    )


def test_help_shows_what_stands_in_brackets(s2s, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    code, out, _ = s2s("train", "--help")
    assert code == 0 and "[s;c;y], W [s;c], tanh(W [s;c]), tanh(W [s;c;y]), maxout(W [s;c;y])" in out and "[gru]" in out


def test_help_is_quick_and_needs_no_torch():
    code = "from s2s.cli import main; import atexit, sys\n"
    code += "atexit.register(lambda: print('torch' in sys.modules)); main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert all(word in done.stdout for word in ("train", "translate", "evaluate", "demo"))


def test_a_demo_that_did_not_learn_fails_but_keeps_its_last_line(s2s, tmp_path):
    code, out, _ = s2s("demo", "--seconds", "1", "--out", tmp_path)
    last = out.splitlines()[-1]
    picture = re.escape(str(tmp_path / "alignment.png"))
    assert re.fullmatch(rf"demo: exact_match=\d\.\d+ bleu=\d+\.\d speedup=\d+\.\d alignment={picture}", last)
    assert code == 1 and "the model did not learn" in out
    assert (tmp_path / "alignment.png").stat().st_size > 1000


def test_without_the_extra_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "s2s.cli", None)  # importing it raises ModuleNotFoundError
    with pytest.raises(SystemExit, match=r"pip install .s2s_kernels\[s2s\]"):
        importlib.import_module("s2s.__main__").main()
