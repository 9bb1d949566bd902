"""A run of training as two files, to go on from as if it had never stopped: training.safetensors, training.json."""

import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .checkpoint import write, write_json
from .config import read_mapping
from .errors import S2SError

NUMBERS = ("step", "epoch", "done", "tokens", "bad", "best_loss", "history")
HOW_LONG = ("epochs", "max_seconds", "patience")  # fields that may differ when a run goes on


def _data(trainer):
    """What must be the same for the batches to be the same."""
    return {"pairs": len(trainer.train_set), "batches": trainer.batches}


def save_state(trainer, folder):
    """Writes all of a Trainer that the next step depends on. Raises S2SError if the folder cannot be written."""
    tensors = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (trainer.best_weights or {}).items()}
    if trainer.average is not None:
        tensors |= {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
    for index, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if trainer.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(trainer.device)
    if trainer.losses:
        tensors["losses"] = torch.stack(trainer.losses)
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    numbers = {name: getattr(trainer, name) for name in NUMBERS}
    numbers |= {"seconds": time.monotonic() - trainer.start, "outside": trainer.outside}
    numbers |= {"lr_factor": trainer.schedule.factor, "config": trainer.config.to_dict(), "data": _data(trainer)}
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "training.safetensors", lambda path: save_file(tensors, path))
        write_json(folder / "training.json", numbers)
    except OSError as error:
        raise S2SError(f"{folder} cannot be written ({error.strerror}).") from None


def load_state(trainer, folder):
    """Brings a new Trainer to where ``save_state`` was called.

    Raises:
        S2SError: no such files, another configuration (but for how long it trains), or other training data.
    """
    folder = Path(folder)
    if not (folder / "training.json").is_file():
        raise S2SError(f"{folder} holds no training to resume: it has no training.json.")
    numbers = read_mapping(folder / "training.json")
    for name, value in trainer.config.to_dict().items():
        if name not in HOW_LONG and numbers["config"].get(name, value) != value:
            raise S2SError(
                f"{name} is {value!r}, expected {numbers['config'][name]!r} as in the training that is resumed."
            )
    if numbers["data"] != _data(trainer):
        raise S2SError(
            f"the training data make {_data(trainer)['batches']} batches of {_data(trainer)['pairs']} pairs, expected "
            f"{numbers['data']['batches']} of {numbers['data']['pairs']} as in the training that is resumed."
        )
    path = folder / "training.safetensors"
    try:
        tensors = load_file(path, device=str(trainer.device))
    except (SafetensorError, OSError) as error:
        raise S2SError(f"{path} cannot be read ({error}).") from None

    def part(prefix):
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    try:
        trainer.model.load_state_dict(part("model."))
        if trainer.average is not None:
            trainer.average.load_state_dict(part("average."))
    except RuntimeError:
        raise S2SError(f"{path} does not fit the model.") from None
    state = {}
    for name, value in part("optimizer.").items():
        index, name = name.split(".")
        state.setdefault(int(index), {})[name] = value
    trainer.optimizer.load_state_dict({**trainer.optimizer.state_dict(), "state": state})
    trainer.best_weights = part("best.") or None
    trainer.losses = list(tensors["losses"]) if "losses" in tensors else []
    torch.set_rng_state(tensors["random.cpu"].cpu())
    if "random.cuda" in tensors and trainer.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"].cpu(), trainer.device)
    for name in NUMBERS:
        setattr(trainer, name, numbers[name])
    trainer.schedule.factor, trainer.outside = numbers["lr_factor"], numbers["outside"]
    trainer.start = time.monotonic() - numbers["seconds"]
    trainer.bar.update(trainer.step)
