"""MLX: nn.GRU (Wx, Wh, b, bhn) and nn.LSTM (Wx, Wh, bias), in torch.nn's order and orientation.

MLX' LSTM returns all cell states, ours the last.
"""

from typing import Any

import torch
from torch import nn

from .files import read_arrays, under
from .layout import Cell, sequence_module, tensor


def mlx_layer(source: Any, *, prefix: str = "") -> nn.Module:
    """Our GRU or LSTM for one of MLX.

    Args:
        source: ``layer.parameters()``, or a .safetensors or .npz file that ``save_weights`` wrote; a list of such,
            one layer each.
        prefix: which part of the source, such as "encoder.rnn".
    """
    return sequence_module(cells(source, prefix))


def cells(source: Any, prefix: str = "") -> list[list[Cell]]:
    return [[_cell(under(read_arrays(one), prefix))] for one in (source if isinstance(source, list) else [source])]


def _cell(arrays):
    missing = {"Wx", "Wh"} - set(arrays)
    if missing:
        raise ValueError(f"source has no {min(missing)}, expected the Wx and Wh of MLX' GRU or LSTM")
    recurrent = tensor("Wh", arrays["Wh"], None, None)
    size = recurrent.shape[1]
    kind = {3 * size: "gru", 4 * size: "lstm"}.get(recurrent.shape[0])
    if kind is None:
        raise ValueError(f"Wh has shape {tuple(recurrent.shape)}, expected (3H, H) of a GRU or (4H, H) of an LSTM")
    kernel = tensor("Wx", arrays["Wx"], recurrent.shape[0], None)
    name = "b" if kind == "gru" else "bias"
    bias, bhn = arrays.get(name), arrays.get("bhn") if kind == "gru" else None
    bias = None if bias is None else tensor(name, bias, recurrent.shape[0])
    if bhn is not None:
        bhn = tensor("bhn", bhn, size)
        bhn = torch.cat([bhn.new_zeros(2 * size), bhn])
    return Cell(kind, kernel, recurrent, bias, bhn)
