"""What a package's file gives to the checks of ``checks.py``.

``tests/integrations/<package>.py`` has ``PINS``, a literal list of what pip shall install, without dependencies, and
``CASES``, a function ``make(size)`` for each name of a case. ``make`` is called anew whenever a model is needed, with
the random seed and the default dtype set: it builds parameters and inputs with the default dtype, and two calls give
twins. The functions of a case take the model as an argument, since they are called with converted, reverted, copied
and loaded ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

import s2s_kernels as sk


class Size(NamedTuple):
    """How large a case shall be built; what a package needs beyond it, it derives from it."""

    hidden: int
    batch: int
    steps: int


CHECKED = Size(hidden=12, batch=3, steps=7)  # for the checks, in float64
TIMED = Size(hidden=256, batch=32, steps=25)  # for the times, in float32


@dataclass
class Case:
    """One model of a package and the ways in which the package itself calls it."""

    model: nn.Module
    outputs: Callable[[nn.Module], list[Tensor]]  # a forward pass; called in evaluation mode
    loss: Callable[[nn.Module], Tensor]  # a scalar; called in training mode
    converted: int  # recurrent modules that sk.convert shall swap, or decoders that ``by`` shall
    left: int = 0  # and that it shall name as staying
    decode: Callable[[nn.Module], object] | None = None  # the package's own search, in evaluation mode
    initialize: Callable[[nn.Module], object] | None = None  # the package's own initialiser, run on both twins
    # Loads a state_dict where the package's model has a way of its own; called with the model and the state_dict.
    load: Callable[[nn.Module, dict], object] = nn.Module.load_state_dict
    by: ModuleType = sk  # whose convert and revert are tried: s2s_kernels, or the package's module of its integrations
    refused: str = ""  # ``by`` shall raise a ValueError that says this, and change nothing; nothing else is checked
    note: str = ""  # for the table's last column: what a reader of the row must know


def float_of_default_dtype():
    """From here on ``tensor.float()`` gives the default dtype: packages make tensors so for a model of any dtype."""
    Tensor.float = lambda x: x.to(torch.get_default_dtype())
