"""Every option of every command with values that make no sense: one sentence, never a traceback."""

import io
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import typer
from test_s2s_cli import TINY, exit_code

from s2s import S2SError
from s2s.cli import app
from s2s.search.options import SearchOptions

COMMANDS = typer.main.get_command(app).commands
WRONG = {
    "integer": ["x", "", "1.5", "-1", "1000000001", str(2**64), "9" * 5000, "nan", "0x10", "\udcff", "10^9"],
    "float": ["x", "", "nan", "inf", "-inf", "-1", "1e400", "9" * 400, "\udcff"],
    "text": ["x", "", "\udcff", "\n", "a" * 100_000, "\x1b[31m", "1,2,3", "null"],
    "path": ["{d}/none", "{d}/folder", "", "/dev/null", "/dev/full", "/proc/self/mem", "a" * 300, "\udcff"],
}
NEVER = ("x", "", "nan", "\udcff", "10^9", "1e400", "9" * 5000, "9" * 400)  # no number in any range


HINTS = get_type_hints(SearchOptions)
CHOICES = {f.name: get_args(HINTS[f.name])[1:] for f in fields(SearchOptions) if get_origin(HINTS[f.name]) is Literal}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in CHOICES.items() for value in values])
def test_a_choice_is_among_what_a_record_says_of_a_search(name, value):
    assert str(SearchOptions(beam=2, **{name: value})) == f"beam 2, {name} {value}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pairs, a model and what is no file to read."""
    folder = tmp_path_factory.mktemp("options")
    rows = [f"{a}{b}\t{b}{a}\n" for a in "abcdefgh" for b in "stuvwxyz"]
    (folder / "pairs.tsv").write_text("".join(rows))
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    assert not exit_code("train", folder / "pairs.tsv", "--out", folder / "m", "--epochs", "1", *TINY)
    return folder


# Each runs, or fails on purpose, in a moment: what an option says goes first.
BASES = {
    "prepare": ["{d}/pairs.tsv"],
    "train": ["{d}/none.tsv", "--out", "new"],
    "translate": ["{d}/m", "as", "--max-length", "3"],
    "align": ["{d}/m", "as", "--max-length", "3"],
    "chat": ["{d}/m", "--max-length", "3"],
    "evaluate": ["{d}/m", "{d}/few.tsv", "--max-length", "3"],
    "average": ["{d}/m", "{d}/m", "--out", "averaged"],
    "quantize": ["{d}/m", "--out", "narrow"],
    "curves": ["{d}/m", "{d}/m", "--out", "curves.png"],
    "presets": [],
    "info": [],
    "dates": ["en", "de", "--train", "5", "--valid", "2", "--test", "2", "--out", "dates"],
    "demo": [],
}


def kind_of(option):
    """What its values are; those of a list are like one."""
    annotation = option.type_descriptor.annotation
    kinds = {int: "integer", float: "float", bool: "boolean", str: "text", Path: "path"}
    if get_origin(annotation) is list:
        (annotation,) = get_args(annotation)
    return "text" if get_origin(annotation) is Literal else kinds[annotation]


def cases():
    for name, command in COMMANDS.items():
        for option in command.params:
            if (kind := kind_of(option)) != "boolean":
                yield pytest.param(name, option, kind, id=f"{name} {option.opts[0]}")


def test_every_command_is_walked():
    assert set(BASES) == set(COMMANDS)
    assert len(list(cases())) > 130


def no_demo(**options):
    raise S2SError("the options are all right.")


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("name, option, kind", list(cases()))
def test_wrong_values(name, option, kind, place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if name == "demo":
        monkeypatch.setattr("s2s.text.dates.make_dates", no_demo)
    (place / "few.tsv").write_text("as\tsa\n")
    base = [word.format(d=place) for word in BASES[name]]
    for value in WRONG[kind]:
        value = value.format(d=place)
        if option.param_type_name == "argument":
            at = 0 if option.name in ("model", "files", "source") else 1
            arguments = [*base[:at], value, *base[at + 1 :]]
        else:
            arguments = [*base, f"{option.opts[0]}={value}"]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        code = exit_code(name, *arguments)
        out, err = capsys.readouterr()
        sentences = [line for line in err.splitlines() if line.startswith("s2s: ")]
        said = f"{name} {option.opts[0]}={value[:60]!r}: exit code {code}, {err[-500:]!r}"
        assert "Traceback" not in err + out, said
        if code:
            assert code in (1, 2) and len(sentences) == 1 and err.splitlines()[-1] == sentences[0], said
            assert len(sentences[0]) < 1020, said
        assert code or not (kind in ("integer", "float") and value in NEVER), said


@pytest.mark.parametrize(
    "command, message",
    [
        ("train {d}/pairs.tsv --seed 18446744073709551616", "seed is 18446744073709551616, expected from 0 to"),
        ("train {d}/pairs.tsv --hidden-size 1000000000", "hidden_size is 1000000000, expected from 1 to 65536."),
        ("train {d}/pairs.tsv --max-length 1000000000", "max_length is 1000000000, expected from 1 to 100000."),
        ("train {d}/pairs.tsv --hidden-size 65536 --encoder-size 65536", "parameters, which take"),
        ("train {d}/pairs.tsv --device meta", "device 'meta' cannot be used"),
        ("train {d}/fifo", "{d}/fifo is a pipe, expected a file."),
        ("train {d}/pairs.tsv --valid {d}/fifo", "{d}/fifo is a pipe, expected a file"),
        ("train /dev/zero", "/dev/zero is a device, expected a file"),
        ("translate {d}/m x --seed 18446744073709551616", "seed is 18446744073709551616, expected from 0 to"),
        ("translate {d}/m x --max-length 1000000000", "max_length is 1000000000, expected from 0 to 100000."),
        ("translate {d}/m x --beam 1000000000", "beam is 1000000000, expected from 1 to 1024."),
        ("translate {d}/m x --device meta", "device 'meta' cannot be used"),
        ("translate {d}/m x --batch 0", "Invalid value for '--batch': Input should be greater than or equal to 1"),
        ("translate {d}/m x --fly", "No such option: --fly"),
        ("fly", "No such command 'fly'"),
        ("prepare {d}/pairs.tsv --held-out nan", "Invalid value for '--held-out'"),
        ("presets fly", "there is no preset 'fly'"),
    ],
)
def test_what_is_said(command, message, place, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = exit_code(*command.format(d=place).split())
    out, err = capsys.readouterr()
    assert code in (1, 2) and out == "" and len(err.splitlines()) == 1 and err.startswith("s2s: ")
    assert message.format(d=place) in err
