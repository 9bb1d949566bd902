"""The folder of a training: nothing in it is lost, whatever stops the training."""

import contextlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys

import pytest
import torch
import trained_folder
from test_s2s_checkpoint import make, refused
from test_s2s_cli import TINY
from trained_folder import contents, trainer

import s2s
from s2s import S2SError
from s2s.files import NEW, locked, save_set
from s2s.model.checkpoint import read_config
from s2s.training.state import check_free, read_state, save_state

pairs, trained, folder, command = (  # fixtures
    trained_folder.pairs,
    trained_folder.trained,
    trained_folder.folder,
    trained_folder.command,
)


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
        assert (folder / "model.safetensors").read_bytes() == weights
        s2s.load(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("s2s.training.trainer.validation_loss", interrupt)
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
    (tmp_path / "training.json").write_text("{")
    with pytest.raises(S2SError, match="holds a training that was stopped"):
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
