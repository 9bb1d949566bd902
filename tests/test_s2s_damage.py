"""Models and trainings that are damaged, or made to do harm: refused in one sentence, before memory is taken."""

import json
import resource
import time
from pathlib import Path

import pytest
import torch
import trained_folder
from safetensors.torch import load_file, save
from test_s2s_checkpoint import make, refused
from trained_folder import trainer

import s2s
from s2s import S2SError, Translator
from s2s.files import checksum, write_file
from s2s.training.state import load_state, read_state

pairs, trained, folder, command = (  # fixtures
    trained_folder.pairs,
    trained_folder.trained,
    trained_folder.folder,
    trained_folder.command,
)


@pytest.mark.parametrize("name", ["model.safetensors", "source.vocab", "target.vocab"])
def test_a_bit_that_flipped(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[-9] ^= 1
    (folder / name).write_bytes(data)
    refused(folder, f"{name} cannot be read: it is damaged")


def test_a_bit_that_flipped_in_a_training(folder):
    data = bytearray((folder / "training.safetensors").read_bytes())
    data[-9] ^= 1
    (folder / "training.safetensors").write_bytes(data)
    with pytest.raises(S2SError, match=r"training\.safetensors cannot be read: it is damaged"):
        read_state(folder)


def test_a_model_without_checksums_is_read(tmp_path):
    """As version 1 was."""
    make().save(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["files"], values["config"]["seed"]
    (tmp_path / "config.json").write_text(json.dumps(values | {"version": 1}))
    assert s2s.load(tmp_path).translate("one") == make().translate("one")


@pytest.mark.parametrize(
    ("version", "later"), [(2, ("attention_query", "attention_layer", "loop_dropout", "turns")), (3, ("turns",))]
)
def test_a_model_and_a_training_of_an_older_version_are_read(folder, version, later):
    """The fields that came later were not there; with their defaults the model is what it was."""
    expected = s2s.load(folder).translate("one")
    for name in ("config.json", "training.json"):
        values = json.loads((folder / name).read_text())
        for field in later:
            del values["config"][field]
        (folder / name).write_text(json.dumps(values))
        with pytest.raises(S2SError, match="turns is missing"):
            s2s.load(folder) if name == "config.json" else read_state(folder)
        (folder / name).write_text(json.dumps(values | {"version": version}))
    assert s2s.load(folder).translate("one") == expected
    assert read_state(folder).config == s2s.load(folder).model.config


DEEP = "[" * 100_000
ABSURD = [None, True, -1, 10**12, 10**400, float("nan"), float("inf"), "x", "\ud800", [], {}, [[]], 0.5]


def mutations(values, path=()):
    """(path, value, the whole with it), for every field of nested dictionaries, and each field left out."""
    for name, value in values.items():
        rest = {key: other for key, other in values.items() if key != name}
        yield (*path, name), "nothing", rest
        for wrong in ABSURD:
            yield (*path, name), wrong, {**rest, name: wrong}
        if isinstance(value, dict):
            for where, wrong, changed in mutations(value, (*path, name)):
                yield where, wrong, {**rest, name: changed}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for where, wrong, changed in mutations(value[0], (*path, name, 0)):
                yield where, wrong, {**rest, name: [changed, *value[1:]]}


def one_sentence(action):
    """What it raises must be an S2SError of one line; returns whether it raised."""
    try:
        action()
    except S2SError as error:
        assert "\n" not in str(error) and len(str(error)) < 600, str(error)
        return True
    return False


HARMLESS = {  # fields of which another value may be right as well
    "tokens", "bad", "seconds", "outside", "lr_factor", "notes", "command", "cpu_seconds", "resumed", "date", "pairs",
    "parameters", "machine", "train_loss", "lr", "tokens_per_second", "min_count", "valid_fraction", "seed", "dropout",
    "sampling_probability", "sampling_steps", "label_smoothing", "loop_dropout", "warmup", "clip", "ema", "accumulate",
    "batch_size",
    "batch_tokens", "epochs", "max_seconds", "eval_every", "patience", "window_size", "vocab_size", "max_length",
    "attention_size", "attention_heads", "readout_size", "lowercase", "normalize_attention", "attention_bias",
    "shared_vocab", "bidirectional", "tied_embeddings", "valid_loss",
}  # fmt: skip


@pytest.mark.parametrize("name", ["config.json", "training.json"])
def test_every_field_missing_or_absurd(folder, name):
    """One sentence, or what is loaded is of the same sizes; never a traceback, never memory for what is not there."""
    path = folder / name
    values = json.loads(path.read_text())
    load = (lambda: s2s.load(folder)) if name == "config.json" else (lambda: read_state(folder))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, limits[1]))
    accepted, tried, began = [], 0, time.process_time()
    try:
        for where, wrong, changed in mutations(values):
            tried += 1
            path.write_text(json.dumps(changed))
            if not one_sentence(load):
                accepted.append((*where, wrong))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert tried > 700 and time.process_time() - began < 300
    wrong = [found for found in accepted if found[-1] in ("nothing", None, "x") or not HARMLESS & set(found[:-1])]
    wrong = [found for found in wrong if "notes" not in found and found != ("notes", None)]
    assert not wrong


@pytest.mark.parametrize("name", ["config.json", "training.json", "source.vocab", "run.json", "history.json"])
@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 100_000, "null", "[]", "", "\0", '"' + "x" * 10**6, "9" * 5000, b"\xff"], ids=range(9)
)
def test_files_that_hold_something_else(command, pairs, folder, tmp_path, name, text):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(data)
    if name == "source.vocab":  # also where the checksum is right
        values = json.loads((folder / "config.json").read_text())
        values["files"][name] = {"bytes": len(data), "sha256": checksum(data)}
        (folder / "config.json").write_text(json.dumps(values))
    if name == "training.json":
        run = ("train", pairs, "--out", folder, "--resume")
    elif name in ("run.json", "history.json"):
        if name == "history.json" and text == "[]":
            return  # a model without a curve, as Translator.save makes it
        run = ("evaluate", folder, pairs, "--record", tmp_path / "record.json")
    else:
        run = ("translate", folder, "as")
    code, err = command(*run)
    assert code == 1 and err.startswith("s2s: ") and len(err.splitlines()) == 1 and len(err) < 600


@pytest.mark.parametrize(
    "tokens, message",
    [
        (lambda tokens: [*tokens[:-1], 7], "token 19 is 7, expected text"),
        (lambda tokens: [*tokens[:-1], None], "token 19 is None, expected text"),
        (lambda tokens: [*tokens[:-1], "\ud800"], r"token 19 is '\\ud800', expected text"),
        (lambda tokens: [*tokens[:-1], tokens[4]], "has a token twice"),
        (lambda tokens: tokens[1:], "is no vocabulary of words or characters"),
        (lambda tokens: tokens[:-1], "does not fit the model"),
        (lambda tokens: {"a": 1}, "is no vocabulary of words or characters"),
    ],
)
def test_tokens(folder, tokens, message):
    values = json.loads((folder / "source.vocab").read_text())
    assert len(values["tokens"]) == 20
    data = json.dumps(values | {"tokens": tokens(values["tokens"])}).encode()
    (folder / "source.vocab").write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["files"]["source.vocab"] = {"bytes": len(data), "sha256": checksum(data)}
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, message)


@pytest.mark.parametrize(
    "name, change",
    [
        ("random.cpu", lambda value: value[1:]),
        ("random.cpu", lambda value: value.float()),
        ("model.output.bias", lambda value: value[1:]),
        ("best.output.bias", lambda value: value.long()),
        ("average.n_averaged", None),
        ("optimizer.0.exp_avg", None),
        ("optimizer.0.step", lambda value: value[None]),
        ("vocabulary.target", None),
        ("losses", lambda value: torch.ones(2, 2)),
        ("more", lambda value: torch.ones(1)),
    ],
)
def test_tensors_of_a_training_that_do_not_fit(tmp_path, name, change):
    """With a right checksum: what only someone who means it can make."""
    run = trainer(ema=0.9)
    run.state_folder = tmp_path
    run.run()
    load_state(trainer(ema=0.9), tmp_path)
    tensors = load_file(tmp_path / "training.safetensors")
    value = tensors.pop(name, None)
    data = save(tensors if change is None else tensors | {name: change(value).clone()})
    numbers = json.loads((tmp_path / "training.json").read_text())
    numbers["files"] = {"training.safetensors": {"bytes": len(data), "sha256": checksum(data)}}
    (tmp_path / "training.safetensors").write_bytes(data)
    write_file(tmp_path / "training.json", json.dumps(numbers).encode())
    with pytest.raises(S2SError) as error:
        load_state(trainer(ema=0.9), tmp_path)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_model_that_is_saved_while_it_is_loaded(tmp_path, monkeypatch):
    """The reader sees the old numbers and the new files, and reads once more."""
    make().save(tmp_path)
    other, real = make(seed=2), s2s.files.read_listed

    def save_first(*args):
        monkeypatch.setattr(s2s.files, "read_listed", real)
        other.save(tmp_path)
        return real(*args)

    monkeypatch.setattr(s2s.files, "read_listed", save_first)
    assert Translator.load(tmp_path).config.seed == 2
