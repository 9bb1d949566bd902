"""A run of training as two files, to go on from as if it had never stopped: training.json, training.safetensors.

They are a set of ``files``, with all in them that the next step depends on, the vocabularies too, so that a training
can go on whatever model its folder holds.
"""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import S2SError, shown
from ..files import AnyPath, finish_save, read_set, save_set, writing
from ..model.checkpoint import MANIFEST as MODEL
from ..model.checkpoint import WEIGHTS, check_tensors, deserialise, serialise
from ..model.config import Config
from ..model.seq2seq import Seq2Seq, outline
from ..text.vocab import read_vocabulary
from .state_numbers import check_numbers

MANIFEST, TENSORS = "training.json", "training.safetensors"
FORMAT, VERSION, OLDEST = "s2s training", 4, 2
NUMBERS = ("step", "epoch", "done", "tokens", "bad", "history")
HOW_LONG = ("epochs", "max_seconds", "patience")  # fields that may differ when a run goes on


def _data(trainer):
    """What must be the same for the batches to be the same."""
    return {"pairs": len(trainer.train_set), "batches": trainer.batches}


def save_state(trainer: Any, folder: AnyPath) -> None:
    """Writes all of a Trainer that the next step depends on. Raises S2SError if the folder cannot be written.

    Of several processes each calls it, and the first writes.
    """
    random = {
        f"random.cpu{of(rank)}": state for rank, state in enumerate(trainer.processes.gather(torch.get_rng_state()))
    }
    if trainer.device.type == "cuda":
        states = trainer.processes.gather(torch.cuda.get_rng_state(trainer.device))
        random |= {f"random.cuda{of(rank)}": state for rank, state in enumerate(states)}
    if not trainer.processes.first:
        return
    tensors = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in (trainer.best_weights or {}).items()}
    if trainer.average is not None:
        tensors |= {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
    for index, state in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    tensors |= random
    if trainer.losses:
        tensors["losses"] = torch.stack(trainer.losses)
    for side, vocab in zip(("source", "target"), trainer.train_set.vocabularies):
        tensors[f"vocabulary.{side}"] = torch.frombuffer(bytearray(vocab.to_bytes()), dtype=torch.uint8)
    numbers = {"format": FORMAT, "version": VERSION} | {name: getattr(trainer, name) for name in NUMBERS}
    numbers |= {"best_loss": trainer.best_loss if trainer.best_weights else None, "notes": trainer.notes}
    numbers |= {"seconds": time.monotonic() - trainer.start, "outside": trainer.outside}
    numbers |= {"lr_factor": trainer.schedule.factor, "config": trainer.config.to_dict(), "data": _data(trainer)}
    save_set(folder, MANIFEST, numbers, {TENSORS: serialise(tensors)})


def of(rank):
    """The end of the name of what process ``rank`` has; the first had none when it was alone."""
    return f".{rank}" if rank else ""


@dataclass
class State:
    """What ``read_state`` found; all of it is checked."""

    path: Path  # of the tensors
    numbers: dict
    config: Config
    tensors: dict
    vocabularies: tuple  # (source, target)

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin so, without that."""
        return {n.removeprefix(prefix): value for n, value in self.tensors.items() if n.startswith(prefix)}

    def model(self, device: torch.device | str = "cpu") -> Seq2Seq:
        """A model for the Trainer that ``restore`` brings to this state."""
        model = Seq2Seq(self.config, *map(len, self.vocabularies))
        model.load_state_dict(self.part("model."))
        return model.to(device)


def check_there(folder: AnyPath) -> None:
    """S2SError if there is no training in the folder."""
    folder = Path(folder)
    if not os.path.exists(folder / MANIFEST):
        what = "" if os.path.exists(folder / MODEL) else "is no checkpoint: it "
        raise S2SError(f"{folder} {what}holds no training to resume: it has no {MANIFEST}.")


def check_free(folder: AnyPath) -> None:
    """S2SError if a new training in the folder would write over a model, or a training that has got somewhere."""
    folder = Path(folder)
    if any(os.path.lexists(folder / name) for name in (MODEL, WEIGHTS)):
        raise S2SError(
            f"{folder} holds a model; --resume goes on with its training, --overwrite writes over it, --out leads "
            "elsewhere."
        )
    if os.path.lexists(folder / MANIFEST) and _got_somewhere(folder):
        raise S2SError(
            f"{folder} holds a training that was stopped; --resume goes on with it, --overwrite begins anew, --out "
            "leads elsewhere."
        )


def _got_somewhere(folder):
    """Whether something would be lost with the training there; one that cannot be read may be worth mending."""
    try:
        return read_state(folder).numbers["step"] > 0
    except S2SError:
        return True


def finish_state(folder: AnyPath) -> None:
    """Puts the files of a save that was stopped in their place; for who holds the lock."""
    with writing(folder):
        finish_save(Path(folder), MANIFEST, [TENSORS])


def read_state(folder: AnyPath) -> State:
    """The training in a folder. Raises S2SError if there is none, or any of it is missing, absurd or damaged."""
    folder, config = Path(folder), None

    def names(numbers):
        nonlocal config
        config = check_numbers(numbers, folder / MANIFEST, FORMAT, OLDEST, VERSION)
        return [TENSORS]

    check_there(folder)
    numbers, contents = read_set(folder, MANIFEST, names)
    path = folder / TENSORS
    tensors = deserialise(contents[TENSORS], path)
    vocabularies = []
    for side in ("source", "target"):
        name = f"vocabulary.{side}"
        if name not in tensors or tensors[name].dtype != torch.uint8:
            raise S2SError(f"{path} does not fit the model that it is for: {name} is missing.")
        if side == "target" and config.shared_vocab:
            vocabularies.append(vocabularies[0])
        else:
            vocabularies.append(read_vocabulary(config, tensors[name].numpy().tobytes(), f"{path}, {name}"))
    state = State(path, numbers, config, tensors, tuple(vocabularies))
    _check_tensors(state)
    return state


def _check_tensors(state):
    """S2SError, before a model takes memory, if the tensors are not those of such a training."""
    model = outline(state.config, *map(len, state.vocabularies))
    weights, parameters, numbers = model.state_dict(), list(model.parameters()), state.numbers
    count = torch.empty((), device="meta")
    expected = {f"model.{name}": value for name, value in weights.items()}
    if numbers["best_loss"] is not None:
        expected |= {f"best.{name}": value for name, value in weights.items()}
    if state.config.ema:
        expected |= {f"average.module.{name}": value for name, value in weights.items()}
        expected["average.n_averaged"] = count.long()
    for index, parameter in enumerate(parameters):
        if f"optimizer.{index}.step" not in state.tensors:
            continue  # no gradient has reached it
        expected |= {f"optimizer.{index}.exp_avg": parameter, f"optimizer.{index}.exp_avg_sq": parameter}
        expected[f"optimizer.{index}.step"] = count
    found = dict(state.tensors)
    for name in ("vocabulary.source", "vocabulary.target"):
        found.pop(name, None)
    random = {name: found.pop(name) for name in list(found) if re.fullmatch(r"random\.(cpu|cuda)(\.[1-9]\d*)?", name)}
    losses = found.pop("losses", None)
    check_tensors(found, expected, state.path)
    own = torch.get_rng_state()
    for name in ["random.cpu", *random]:
        value = random.get(name)
        right = value is not None and value.dtype == torch.uint8 and (value.shape == own.shape or "cuda" in name)
        if not right:
            raise S2SError(f"{state.path} has no state of the random numbers ({name}).")
    if losses is not None and not (losses.dim() == 1 and losses.is_floating_point()):
        raise S2SError(f"{state.path}: losses is {losses.dtype} {tuple(losses.shape)}, expected one number a step.")


def load_state(trainer: Any, folder: AnyPath) -> None:
    """Brings a new Trainer to where ``save_state`` was called: ``restore(trainer, read_state(folder))``."""
    restore(trainer, read_state(folder))


def restore(trainer: Any, state: State) -> None:
    """Brings a new Trainer to a State.

    Raises:
        S2SError: another configuration (but for how long it trains), or other training data.
    """
    numbers, before = state.numbers, state.config.to_dict()
    for name, value in trainer.config.to_dict().items():
        if name not in HOW_LONG and before[name] != value:
            raise S2SError(
                f"{name} is {shown(value)}, expected {shown(before[name])} as in the training that is resumed."
            )
    if numbers["data"] != _data(trainer):
        raise S2SError(
            f"the training data make {_data(trainer)['batches']} batches of {_data(trainer)['pairs']} pairs, expected "
            f"{numbers['data']['batches']} of {numbers['data']['pairs']} as in the training that is resumed."
        )
    if [v.to_bytes() for v in trainer.train_set.vocabularies] != [v.to_bytes() for v in state.vocabularies]:
        raise S2SError("the vocabularies are others than in the training that is resumed.")
    device, part = trainer.device, state.part
    trainer.model.load_state_dict(part("model."))
    if trainer.average is not None:
        trainer.average.load_state_dict(part("average."))
    optimizer = {}
    for name, value in part("optimizer.").items():
        index, name = name.split(".")
        optimizer.setdefault(int(index), {})[name] = value
    trainer.optimizer.load_state_dict({**trainer.optimizer.state_dict(), "state": optimizer})
    trainer.best_weights = {name: value.to(device) for name, value in part("best.").items()} or None
    if numbers["best_loss"] is not None:
        trainer.best_loss = numbers["best_loss"]
    trainer.losses = list(state.tensors["losses"].to(device)) if "losses" in state.tensors else []
    # A process more than there were draws what a new training would.
    end = of(trainer.processes.rank)
    if f"random.cpu{end}" in state.tensors:
        torch.set_rng_state(state.tensors[f"random.cpu{end}"])
    if f"random.cuda{end}" in state.tensors and device.type == "cuda":
        torch.cuda.set_rng_state(state.tensors[f"random.cuda{end}"], device)
    for name in (*NUMBERS, "notes"):
        setattr(trainer, name, numbers[name])
    trainer.schedule.factor, trainer.outside = numbers["lr_factor"], numbers["outside"]
    trainer.start = time.monotonic() - numbers["seconds"]
    trainer.bar.update(trainer.step)
