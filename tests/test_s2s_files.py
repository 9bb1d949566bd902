"""Trainings and their folders: nothing is lost, whatever stops them, and what is damaged is refused in one sentence."""

import contextlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from test_s2s_checkpoint import PAIRS, make, refused
from test_s2s_cli import TINY, exit_code

import s2s
from s2s import S2SError, Translator
from s2s.checkpoint import read_config
from s2s.data import Dataset
from s2s.files import NEW, checksum, locked, save_set, write_file
from s2s.training import Trainer
from s2s.training_state import check_free, load_state, read_state, save_state

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


# Sets of files


def test_a_set_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    """Stopped at each rename in turn; what is then read is one whole set, and the next save does not lose it."""

    def load():
        values, files = s2s.files.read_set(tmp_path / "set", "list.json", lambda values: ["a", "b"])
        return values["number"], files["a"], files["b"]

    class Stop(BaseException):
        pass

    real, left = os.replace, [0]

    def replace(*paths):
        if left[0] == 0:
            raise Stop
        left[0] -= 1
        real(*paths)

    monkeypatch.setattr(os, "replace", replace)
    one, two, three = ((n, bytes([n]) * 3, bytes([n + 100]) * 3) for n in (1, 2, 3))
    for stop, expected in ((0, one), (1, two), (2, two), (3, two)):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        left[0] = 9
        save_set(tmp_path / "set", "list.json", {"number": 1}, {"a": one[1], "b": one[2]})
        left[0] = stop
        with contextlib.suppress(Stop):
            save_set(tmp_path / "set", "list.json", {"number": 2}, {"a": two[1], "b": two[2]})
        assert load() == expected
        left[0] = 1 if stop in (1, 2) else 0  # it finishes the save of before, or not, and is stopped as well
        with pytest.raises(Stop):
            save_set(tmp_path / "set", "list.json", {"number": 3}, {"a": three[1], "b": three[2]})
        assert load() == expected
        left[0] = 9
        save_set(tmp_path / "set", "list.json", {"number": 3}, {"a": three[1], "b": three[2]})
        assert load() == three and sorted(os.listdir(tmp_path / "set")) == ["a", "b", "list.json"]


def test_new_tensors_with_old_numbers_are_no_training(tmp_path):
    """The silent fault: the files of two different moments, side by side."""
    run = trainer()
    save_state(run, tmp_path)
    numbers = (tmp_path / "training.json").read_bytes()
    run.state_folder = tmp_path
    run.run()
    (tmp_path / "training.json").write_bytes(numbers)
    with pytest.raises(S2SError, match=r"training.safetensors cannot be read: it is damaged, or not the file that"):
        read_state(tmp_path)


def test_a_save_that_was_stopped_after_its_commit_counts(folder):
    """Between the two renames the new numbers stand beside tensors that still have their temporary name."""
    state = read_state(folder)
    os.rename(folder / "training.safetensors", folder / f"training.safetensors{NEW}")
    (folder / "training.safetensors").write_bytes(b"of before")
    again = read_state(folder)
    assert again.numbers == state.numbers
    assert all(torch.equal(a, again.tensors[name]) for name, a in state.tensors.items())


# Trainings in a folder


def test_a_training_does_not_write_over_a_model(command, pairs, folder):
    before = contents(folder)
    code, err = command("train", pairs, "--out", folder, *TINY)
    assert code == 1 and "holds a model; --resume goes on with its training, --overwrite writes over it" in err
    assert contents(folder) == before


def test_overwrite_keeps_the_model_until_the_new_one_is_validated(command, pairs, folder, monkeypatch):
    before = contents(folder)
    weights = (folder / "model.safetensors").read_bytes()

    def interrupt(*args, **kwargs):
        assert (folder / "model.safetensors").read_bytes() == weights and s2s.load(folder).translate("as")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("s2s.training.validation_loss", interrupt)
        assert command("train", pairs, "--out", folder, "--overwrite", "--seed", 7, *TINY)[0] == 130
    models = ("config.json", "model.safetensors", "source.vocab", "target.vocab", "history.json", "run.json")
    assert {name: contents(folder)[name] for name in models} == {name: before[name] for name in models}
    code, err = command("train", pairs, "--out", folder, "--resume", "--epochs", 1)
    assert code == 0 and "going on at step 0" in err and read_config(folder).seed == 7
    assert (folder / "model.safetensors").read_bytes() != weights


def test_a_training_that_was_stopped_is_not_written_over_either(tmp_path):
    run = trainer(eval_every=2)
    save_state(run, tmp_path)
    check_free(tmp_path)  # no step was made: nothing would be lost
    run.state_folder = tmp_path
    run.run()
    with pytest.raises(S2SError, match="holds a training that was stopped; --resume goes on with it"):
        check_free(tmp_path)


def test_resume_and_overwrite_contradict(command, pairs, folder):
    code, err = command("train", pairs, "--out", folder, "--resume", "--overwrite")
    assert code == 1 and "expected no --overwrite" in err


def test_two_trainings_at_once(command, pairs, folder):
    """The second is refused, and a killed one leaves no lock behind."""
    code = "import sys, time; from s2s.files import locked\n"
    code += "with locked(sys.argv[1]):\n print(1, flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        for how in ("--resume", "--overwrite"):
            status, err = command("train", pairs, "--out", folder, how)
            assert status == 1 and f"{folder} is in use: another training writes there." in err
        other.send_signal(signal.SIGKILL)
    with locked(folder):
        pass


def test_a_mistake_leaves_no_folder_behind(command, tmp_path):
    assert command("train", tmp_path / "none", "--out", tmp_path / "new" / "model")[0] == 1
    assert not list(tmp_path.iterdir())


# Disks and rights


def test_a_full_disk(tmp_path):
    """EFBIG stands for ENOSPC here; tests/crash has both, at every write."""
    make().save(tmp_path)
    before, limits = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        for save in (lambda: make(seed=2).save(tmp_path), lambda: save_state(trainer(), tmp_path)):
            with pytest.raises(S2SError, match=r"cannot be written \(File too large\)"):
                save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o007, 0o660)])
def test_files_have_the_rights_that_the_user_gives(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        make().save(tmp_path / "m")
        save_state(trainer(), tmp_path / "m")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()} == {mode}


@contextlib.contextmanager
def nobody():
    """Root may read everything; then the test is somebody else's for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "source.vocab", "."])
def test_a_file_that_may_not_be_read(tmp_path, name):
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    make().save(tmp_path / "m")
    tmp_path.chmod(0o755)
    (tmp_path / "m" / name).chmod(0)
    with nobody():
        refused(tmp_path / "m", r"cannot be read \(Permission denied\)")
    (tmp_path / "m" / name).chmod(0o755)


# Damage


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
    "sampling_probability", "sampling_steps", "label_smoothing", "warmup", "clip", "ema", "accumulate", "batch_size",
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
    accepted, tried, began = [], 0, time.monotonic()
    try:
        for where, wrong, changed in mutations(values):
            tried += 1
            path.write_text(json.dumps(changed))
            if not one_sentence(load):
                accepted.append((*where, wrong))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert tried > 700 and time.monotonic() - began < 300
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
