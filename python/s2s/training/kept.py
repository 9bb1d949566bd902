"""The best few checkpoints of a training, in the folder ``kept`` of its own, and the average of their weights."""

import shutil
from pathlib import Path

import torch

from ..errors import S2SError
from ..files import read_json, writing
from ..model.checkpoint import MANIFEST, load_checkpoint
from .state_numbers import check_history

FOLDER = "kept"


def kept(folder) -> list[Path]:
    """The checkpoints kept in a training's folder, the best first."""
    found = [path for path in (Path(folder) / FOLDER).glob("step-*") if (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: (_loss(path), path.name))


def _loss(folder):
    """The validation loss of the checkpoint, which is the last of its history."""
    history = read_json(folder / "history.json")
    check_history(history)
    if not history:
        raise S2SError(f"{folder / 'history.json'} is empty, expected the validation of this checkpoint.")
    return history[-1]["valid_loss"]


def keep(folder, most, record, save):
    """Keeps the model of this validation if it is one of the best ``most``; ``save(path)`` writes its checkpoint."""
    path = Path(folder) / FOLDER / f"step-{record['step']:07d}"
    before = [other for other in kept(folder) if other != path]
    if len(before) >= most and _loss(before[most - 1]) <= record["valid_loss"]:
        return
    save(path)
    with writing(folder):
        for other in before[most - 1 :]:
            (other / MANIFEST).unlink()  # from now on it is none, whenever this stops
            shutil.rmtree(other)


def average(folders, device="cpu") -> tuple:
    """(model, source vocabulary, target vocabulary) with the mean of the weights of several checkpoints.

    Raises:
        S2SError: fewer than two, or not of one training: other configurations or vocabularies.
    """
    folders = [Path(folder) for folder in folders]
    if len(folders) < 2:
        there = "is 1" if folders else "are none"
        raise S2SError(f"there {there} to average, expected two checkpoints or more; s2s train --keep N leaves N.")
    model, *vocabularies = load_checkpoint(folders[0], device)
    sums = {name: value.double() for name, value in model.state_dict().items()}
    for folder in folders[1:]:
        other, *others = load_checkpoint(folder, device)
        if other.config != model.config:
            raise S2SError(f"{folder} has another configuration than {folders[0]}, expected models of one training.")
        if [v.to_bytes() for v in others] != [v.to_bytes() for v in vocabularies]:
            raise S2SError(f"{folder} has other vocabularies than {folders[0]}, expected models of one training.")
        for name, value in other.state_dict().items():
            sums[name] += value
    with torch.no_grad():
        model.load_state_dict({name: value / len(folders) for name, value in sums.items()})
    return model, *vocabularies
