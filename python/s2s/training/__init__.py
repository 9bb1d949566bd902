"""The training of a model, and its state, from which it goes on."""

from typing import TYPE_CHECKING

from ..lazy import names_from

if TYPE_CHECKING:
    from .trainer import Trainer, build_model, build_optimizer, train, train_step, validation_loss
else:
    _TRAINER = ("Trainer", "build_model", "build_optimizer", "train", "train_step", "validation_loss")
    __getattr__ = names_from(__name__, dict.fromkeys(_TRAINER, "trainer"))

__all__ = ["Trainer", "build_model", "build_optimizer", "train", "train_step", "validation_loss"]
