"""s2s translate, align and chat, as a user runs them. The model is not trained: what it says is of no interest."""

import io
import os
import re
import subprocess
import sys

import pytest
import torch
from matplotlib.image import imread

from s2s import Config, Translator
from s2s.cli import main
from s2s.text.vocab import UNK, build_vocabularies
from s2s.training import build_model

WORDS = ["ab", "cd", "ef", "gh", "ij", "kl", "mn"]
SMALL = {"embedding_size": 8, "encoder_size": 8, "hidden_size": 8, "attention_size": 8, "readout_size": 8}


def save(path, **options):
    torch.manual_seed(1)
    config = Config(**SMALL | {"max_length": 6} | options)
    vocabularies = build_vocabularies([(word, word.upper()) for word in WORDS], config)
    model = build_model(config, *vocabularies)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
        model.output.bias[UNK] = 5  # it says <unk> now and then
    Translator(model, *vocabularies).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "word")


@pytest.fixture
def s2s(capsys, monkeypatch):
    """Runs the command in this process; returns (exit code, standard output, standard error)."""

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((stdin).encode())))
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run


def results(run):
    code, out, err = run
    assert code == 0, err
    return out.splitlines()


def test_translate_gives_a_line_for_a_line(s2s, model, tmp_path):
    lines = [" ".join(WORDS[i : i + 1 + i % 4]) for i in range(7)] + [""]
    (tmp_path / "lines").write_text("\n".join(lines) + "\n")
    first = results(s2s("translate", model, *lines[:-1], "--batch", 3))
    assert len(first) == 7 and len(set(first)) > 1
    assert results(s2s("translate", model, "--file", tmp_path / "lines"))[:7] == first
    assert results(s2s("translate", model, "--batch", 2, stdin="\n".join(lines) + "\n"))[:7] == first
    assert results(s2s("translate", model, *lines[:-1], "--beam", 1)) != first
    assert results(s2s("translate", model, stdin="")) == []


def test_n_best_have_numbers_and_scores(s2s, model):
    rows = [line.split("\t") for line in results(s2s("translate", model, "ab", "cd ef", "--n-best", 7))]
    assert [int(number) for number, *_ in rows] == [1] * 7 + [2] * 7
    scores = [float(score) for _, score, _ in rows]
    assert scores[:7] == sorted(scores[:7], reverse=True)


def test_sampling_is_repeatable(s2s, model):
    run = ["translate", model, *WORDS, "--sample", "--temperature", 2, "--top-k", 6, "--top-p", 0.99]
    assert (
        results(s2s(*run))
        == results(s2s(*run, "--batch", 2))
        == results(s2s(*run[:2], *run[-7:], stdin="\n".join(WORDS)))
    )
    assert results(s2s(*run)) != results(s2s(*run, "--seed", 2))


def test_unknown_words_are_replaced(s2s, model, tmp_path):
    assert "<unk>" not in results(s2s("translate", model, "ab QQ cd"))[0]
    assert "<unk>" in results(s2s("translate", model, "ab QQ cd", "--allow-unknown"))[0]
    replaced = results(s2s("translate", model, "ab QQ cd", "--replace-unknown"))[0].split()
    assert "<unk>" not in replaced and set(replaced) & {"ab", "QQ", "cd"}
    (tmp_path / "words.tsv").write_text("ab\tX1\nQQ\tX2\ncd\tX3\n")
    found = results(s2s("translate", model, "ab QQ cd", "--replace-unknown", "--dictionary", tmp_path / "words.tsv"))
    assert found[0].split() == [{"ab": "X1", "QQ": "X2", "cd": "X3"}.get(word, word) for word in replaced]


def test_align_writes_tables(s2s, model, tmp_path):
    searched = results(s2s("align", model, "ab cd", "ef"))
    assert searched[0].startswith("# 1\t-") and searched[1].split("\t") == ["", "ab", "cd"]
    table = [line.split("\t") for line in searched[2 : searched.index("")]]
    assert table[-1][0] == "end" and all(abs(sum(map(float, row[1:])) - 1) < 1e-3 for row in table)
    code, out, err = s2s("align", model, "ab cd", "ef", "--out", tmp_path / "new" / "a.txt")
    assert code == 0 and out == "" and err == f"alignments: {tmp_path / 'new' / 'a.txt'}\n"
    assert (tmp_path / "new/a.txt").read_text().splitlines() == searched


def test_align_scores_a_given_output(s2s, model, tmp_path):
    given = results(s2s("align", model, "ab cd", "--target", "AB QQ"))
    assert [line.split("\t")[0] for line in given[1:]] == ["", "AB", "QQ", "end"]
    assert given[0].split("\t")[2] == "AB QQ" and float(given[0].split("\t")[1]) < 0
    (tmp_path / "pairs").write_text("ab cd\tAB QQ\nef\tEF\n")
    assert results(s2s("align", model, "--file", tmp_path / "pairs"))[: len(given)] == given
    assert results(s2s("align", model, stdin="ab cd\tAB QQ\n")) == given


def test_align_draws(s2s, model, tmp_path):
    assert s2s("align", model, "ab", "--out", tmp_path / "a.png")[2] == f"alignment: {tmp_path / 'a.png'}\n"
    results(s2s("align", model, "ab", "cd", "--out", tmp_path / "two.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "two-1.png", "two-2.png"}
    assert imread(tmp_path / "two-2.png").shape[0] > 200
    results(s2s("align", model, "ab", "cd", "--out", tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!doctype html>") and '"source":["cd"]' in page
    assert results(s2s("align", model, "ab", "cd", "--format", "html")) == page.splitlines()


def test_chat_answers_line_by_line(s2s, model):
    run = ["chat", model]
    replies = results(s2s(*run, stdin="ab cd\n\nef\n"))
    assert len(replies) == 3 and replies[1] == ""
    assert replies[0] == results(s2s("translate", model, "ab cd"))[0]
    sampled = ["chat", model, "--sample", "--temperature", 3]
    many = results(s2s(*sampled, stdin="ab\n" * 12))
    assert len(many) == 12 and len(set(many)) > 1
    assert many == results(s2s(*sampled, stdin="ab\n" * 12)) != results(s2s(*sampled, "--seed", 4, stdin="ab\n" * 12))


def test_chat_keeps_what_was_said(s2s, model, tmp_path, monkeypatch):
    """As many turns as the model was trained with, until an empty line; of another model none."""
    asked, translate = [], Translator.translate

    def spy(self, texts, **options):
        if isinstance(texts, str):
            asked.append(texts)
        return translate(self, texts, **options)

    monkeypatch.setattr(Translator, "translate", spy)
    lines = "ab cd\nef\nab\n\nab cd\n"
    first, second, _, empty, again = results(s2s("chat", save(tmp_path / "told", turns=3), stdin=lines))
    assert asked == ["ab cd", f"ab cd ⏎ {first} ⏎ ef", f"ef ⏎ {second} ⏎ ab", "ab cd"]
    assert again == first and empty == ""
    asked.clear()
    results(s2s("chat", model, stdin=lines))
    assert asked == ["ab cd", "ef", "ab", "ab cd"]


def test_chat_replies_at_once(model):
    """Each reply is there before the next line is written."""
    command = [sys.executable, "-W", "ignore", "-m", "s2s", "chat", str(model)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(2):
            process.stdin.write("ab cd\n")
            process.stdin.flush()
            assert process.stdout.readline().endswith("\n")
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are of Unix")
def test_chat_with_a_person(model):
    """At a terminal there is a prompt, empty lines are passed over, and Ctrl-D ends it."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-W", "ignore", "-m", "s2s", "chat", str(model)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        shown = ""
        for typed in ("ab cd\n", "\n", "ab cd\n", "\x04"):
            while not shown.endswith("> "):
                shown += os.read(ours, 4096).decode()
            shown += "|"
            os.write(ours, typed.encode())
        err = process.stderr.read()
        assert process.wait(120) == 0
    os.close(ours)
    assert err == "Ctrl-D ends the chat.\n"
    first, empty, second = re.findall(r"> \|(.*?)(?=> )", shown.replace("\r", ""), re.DOTALL)
    assert first == second == f"ab cd\n{first.splitlines()[1]}\n" and empty.strip() == ""


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    save(folder / "char", tokens="char", vocab_size=0)
    save(folder / "none", attention="none", order="after", feed="none", readout="state")
    (folder / "empty").write_text("")
    (folder / "mixed").write_text("a\tb\nc\n")
    (folder / "latin1").write_bytes("über\n".encode("latin-1"))
    return folder


@pytest.mark.parametrize(
    "command, message",
    [
        ("translate {d}/no x", "{d}/no is no checkpoint"),
        ("translate {m} x --file {d}/mixed", "both texts and --file are given, expected one of them."),
        ("translate {m} --file {d}/no", "{d}/no does not exist."),
        ("translate {m} --file {d}/empty", "{d}/empty is empty."),
        ("translate {m} --file {d}/latin1", "{d}/latin1 is not UTF-8 text (line 1)"),
        ("translate {m} x --beam 0", "beam is 0, expected 1 or more."),
        ("translate {m} x --temperature 2", "temperature, top_k and top_p need sampling"),
        ("translate {m} x --sample --beam 3", "sample and a beam of 3 are both asked for, expected one."),
        ("translate {m} x --beam 2 --n-best 3", "n_best is 3 with a beam of 2, expected at most as many"),
        ("translate {m} x --sample --top-p 2", "top_p is 2.0, expected from 0 to 1."),
        ("translate {m} x --dictionary {d}/mixed", "--dictionary is given without --replace-unknown"),
        ("translate {m} x --replace-unknown --dictionary {d}/empty", "{d}/empty is empty."),
        ("translate {d}/char x --replace-unknown", "only words can be replaced, but this model's tokens are 'char'."),
        ("translate {d}/none x --replace-unknown", "this model has no attention weights (its attention is 'none')"),
        ("translate {d}/none x --coverage-penalty 0.2", "this model has no attention weights"),
        ("align {d}/none x", "this model has no attention weights"),
        ("align {d}/none x --target y", "this model has no attention weights"),
        ("align {m} x --format png", "a picture cannot be printed; give --out."),
        ("align {m} x y --target z", "1 targets for 2 texts, expected one for each."),
        ("align {m} --file {d}/mixed", "line 2 has no tab and target, but others have."),
        ("align {m} x --out {d}/empty/a.html", "{d}/empty/a.html cannot be written"),
        ("align {m} x --out {d}/empty/a.png", "{d}/empty/a.png cannot be written"),
        ("chat {d}/no", "{d}/no is no checkpoint"),
        ("chat {m} --n-best 2", "n_best is 2, but a chat has one reply to a line."),
    ],
)
def test_a_mistake_is_one_sentence(s2s, model, others, command, message):
    code, out, err = s2s(*command.format(m=model, d=others).split())
    assert code == 1 and out == "" and len(err.splitlines()) == 1
    assert err.startswith("s2s: " + message.format(d=others))
