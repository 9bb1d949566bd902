"""Paddle: nn.GRU, nn.LSTM and their cells, which are torch.nn's in order, orientation and names.

Its state_dict lists every parameter of a sequence twice: ``weight_ih_l0`` is ``0.cell.weight_ih`` once more.
"""

import re
from typing import Any

from torch import nn

from .files import read_arrays, under
from .layout import NAMES, Cell, cell_module, sequence_module, tensor

_SEQUENCE = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l(\d+)(_reverse)?")


def paddle_layer(source: Any, *, prefix: str = "") -> nn.Module:
    """Our GRU or LSTM, with its layers and directions, or our cell, for one of Paddle.

    Args:
        source: ``layer.state_dict()``, or an .npz or .safetensors file of its arrays (a .pdparams file is a pickle:
            read it with Paddle).
        prefix: which part of the source, such as "encoder.rnn".

    Raises:
        ValueError: nn.SimpleRNN, an LSTM with projections, missing parameters.
    """
    arrays = under(read_arrays(source), prefix)
    return cell_module(_cell(arrays, "")) if set(NAMES[:2]) <= set(arrays) else sequence_module(cells(arrays))


def cells(arrays: dict[str, Any]) -> list[list[Cell]]:
    """Those of a sequence's parameters."""
    if any("weight_ho" in name for name in arrays):
        raise ValueError("source is an LSTM with projections (weight_ho), expected proj_size=0")
    found = [match for name in arrays if (match := _SEQUENCE.fullmatch(name))]
    if not found:
        raise ValueError(f"source holds {', '.join(list(arrays)[:8])}, expected weight_ih_l0 and so on")
    layers = range(1 + max(int(match[2]) for match in found))
    directions = ("", "_reverse") if any(match[3] for match in found) else ("",)
    return [[_cell(arrays, f"_l{i}{direction}") for direction in directions] for i in layers]


def _cell(arrays, suffix):
    for name in NAMES[:2]:
        if name + suffix not in arrays:
            raise ValueError(f"source has no {name + suffix}")
    recurrent = tensor("weight_hh" + suffix, arrays["weight_hh" + suffix], None, None)
    rows, size = recurrent.shape
    kind = {3 * size: "gru", 4 * size: "lstm"}.get(rows)
    if kind is None:
        raise ValueError(f"weight_hh{suffix} has shape {(rows, size)}, expected (3H, H) of a GRU or (4H, H) of an LSTM")
    kernel = tensor("weight_ih" + suffix, arrays["weight_ih" + suffix], rows, None)
    biases = (arrays.get(name + suffix) for name in NAMES[2:])
    return Cell(kind, kernel, recurrent, *(None if b is None else tensor("bias", b, rows) for b in biases))
