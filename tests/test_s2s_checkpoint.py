"""Checkpoints: what is written is what is read, and anything else is refused in one sentence."""

import hashlib
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save

import s2s
from s2s import Config, S2SError, Translator
from s2s.text.vocab import build_vocabularies
from s2s.training import build_model

PAIRS = [("one two three", "eins zwei drei"), ("three two", "drei zwei"), ("one", "eins")] * 20
SMALL = {"embedding_size": 8, "encoder_size": 8, "hidden_size": 8, "attention_size": 8, "readout_size": 8}


def make(**options):
    config = Config(**SMALL | options)
    vocabularies = build_vocabularies(PAIRS, config)
    return Translator(build_model(config, *vocabularies), *vocabularies)


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": "word"},
        {"tokens": "char", "vocab_size": 0, "cell": "lstm"},
        {"tokens": "sentencepiece", "vocab_size": 30},
        {"tied_embeddings": True, "shared_vocab": True, "order": "after", "feed": "attentional"},
        {"tokens": "sentencepiece", "vocab_size": 40, "shared_vocab": True},
        {"attention": "fixed", "decoder_layers": 2, "cell": "lstm", "readout": "maxout"},
        {"attention": "general", "attention_window": "local-p", "gru_reset": "before"},
    ],
    ids=str,
)
def test_round_trip(options, tmp_path):
    before = make(**options)
    before.save(tmp_path / "m", [{"step": 1}])
    after = s2s.load(tmp_path / "m")
    assert after.config == before.config and not after.model.training
    for (name, a), (other, b) in zip(before.model.state_dict().items(), after.model.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)
    texts = [source for source, _ in PAIRS[:3]] + ["", "never seen"]
    assert before.translate(texts, max_length=9) == after.translate(texts, max_length=9)
    assert json.loads((tmp_path / "m/history.json").read_text()) == [{"step": 1}]
    assert not list((tmp_path / "m").glob("*.partial"))
    if options.get("tied_embeddings"):
        assert after.model.output.weight is after.model.embedding.weight


def test_alignment_has_a_row_for_each_token():
    (found,) = make().align(["one two three"], max_length=5)
    assert found.source_pieces == ["one", "two", "three"] and found.target_pieces[-1] == "</s>"
    assert found.weights.shape == (len(found.target_pieces), 3)


@pytest.fixture
def folder(tmp_path):
    make().save(tmp_path / "m")
    return tmp_path / "m"


def refused(folder, message):
    with pytest.raises(S2SError, match=message) as error:
        s2s.load(folder)
    assert "\n" not in str(error.value)


def replace(folder, name, data):
    """A file in the place of another, with its checksum: what only someone who means it can make."""
    (folder / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(folder, files=json.loads((folder / "config.json").read_text())["files"] | {name: entry})


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_not_a_checkpoint(tmp_path, folder):
    refused(tmp_path / "none", "is no checkpoint: it has no config.json")
    change(folder, format="other")
    refused(folder, "is no checkpoint of s2s")


def test_another_version(folder):
    change(folder, version=99)
    refused(folder, "is a checkpoint of version 99, but this s2s reads versions 1 to 5")


def test_broken_config(folder):
    change(folder, config={"cell": "abacus"})
    refused(folder, "config.json: cell is 'abacus'")
    (folder / "config.json").write_text("{")
    refused(folder, "is no valid JSON")


@pytest.mark.parametrize("name", ["source.vocab", "target.vocab", "model.safetensors"])
def test_missing_or_broken_file(folder, name):
    (folder / name).write_bytes(b"{}")
    refused(folder, name)
    (folder / name).unlink()
    refused(folder, name)


def test_weights_that_do_not_fit(folder):
    weights = load_file(folder / "model.safetensors")
    replace(folder, "model.safetensors", save({name: w for name, w in weights.items() if "output" not in name}))
    refused(folder, "does not fit the model that it is for: output.weight is missing")
    replace(folder, "model.safetensors", save(weights | {"more": torch.ones(1)}))
    refused(folder, "does not fit the model that it is for: 'more' is too many")
    replace(folder, "model.safetensors", save(weights | {"output.bias": weights["output.bias"].long()}))
    refused(folder, "output.bias is torch.int64, expected torch.float32")
    replace(folder, "model.safetensors", save(weights | {"output.bias": weights["output.bias"][1:]}))
    refused(folder, r"output.bias is \(6,\), expected \(7,\)")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_no_pickle_is_loaded(folder):
    replace(folder, "model.safetensors", pickle.dumps(Trap()))
    refused(folder, "cannot be read")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(S2SError, match="cannot be written"):
        make().save(tmp_path / "file" / "m")
