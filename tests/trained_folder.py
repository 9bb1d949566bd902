"""What tests of the folder of a training share: one that is trained, copies to be spoilt, and the command."""

import shutil

import pytest
from test_s2s_checkpoint import PAIRS, make
from test_s2s_cli import TINY, exit_code

from s2s.text.data import Dataset
from s2s.training import Trainer

PATTERN = [(f"{a}{b}", f"{b}{a}") for a in "abcdefgh" for b in "stuvwxyz"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in PATTERN))
    return path


@pytest.fixture(scope="module")
def trained(pairs):
    """A folder with a model and its training; not to be written to."""
    out = pairs.parent / "model"
    assert not exit_code("train", pairs, "--out", out, "--epochs", 2, *TINY)
    return out


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(trained, tmp_path / "m")


@pytest.fixture
def command(capsys):
    """Runs ``s2s`` in this process; returns (exit code, standard error)."""

    def run(*arguments):
        code = exit_code(*arguments)
        return code, capsys.readouterr().err

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def trainer(**options):
    translator = make(**{"epochs": 3} | options)
    data = Dataset(PAIRS, translator.source_vocab, translator.target_vocab, translator.config)
    return Trainer(translator.model, data, data, show_bar=False, say=lambda text: None)
