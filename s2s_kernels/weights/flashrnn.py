"""FlashRNN: what ``flashrnn(Wx, R, b, function=...)`` runs on, with the layer that makes Wx.

Its GRU takes r, z, n of the input, n, r, z of the state, and four biases: of the state's n, r, z, the input's n. With
several heads the recurrent product is block-diagonal; here it is dense, with zeros off the blocks, which train too.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .layout import Cell, sequence_module, tensor


def flashrnn_layer(
    recurrent: Any, bias: Any, weight_ih: Any, bias_ih: Any = None, *, function: str = "lstm"
) -> nn.Module:
    """Our LSTM or GRU for FlashRNN's.

    Args:
        recurrent: R in the default layout "GHDP": (G, heads, D, P), from the state's P to the gate's D.
        bias: b in the default layout "GHD": (G, heads, D).
        weight_ih: (G*heads*D, I) of the nn.Linear whose output, viewed as (B, T, G, heads, D), is Wx.
        bias_ih: that layer's bias, or None.
        function: "lstm" or "gru"; slstm and elman are refused.
    """
    return sequence_module(cells(recurrent, bias, weight_ih, bias_ih, function))


def cells(recurrent: Any, bias: Any, weight_ih: Any, bias_ih: Any, function: str) -> list[list[Cell]]:
    if function not in ("lstm", "gru"):
        raise ValueError(f"function is {function!r}, expected 'lstm' or 'gru'")
    gates = 4 if function == "lstm" else 3
    recurrent = tensor("recurrent", recurrent, gates, None, None, None)
    _, heads, size, _ = recurrent.shape
    recurrent = tensor("recurrent", recurrent, gates, heads, size, size)
    bias = tensor("bias", bias, 4, heads, size).flatten(1)
    rows = gates * heads * size
    weight_ih = tensor("weight_ih", weight_ih, rows, None)
    bias_ih = weight_ih.new_zeros(rows) if bias_ih is None else tensor("bias_ih", bias_ih, rows)
    blocks = [_block_diagonal(gate) for gate in recurrent]
    if function == "lstm":
        return [[Cell("lstm", weight_ih, torch.cat(blocks), bias_ih, bias.flatten())]]
    n, r, z = blocks
    zeros = torch.zeros_like(bias[0])
    inner = torch.cat([zeros, zeros, bias[0]])
    outer = bias_ih + torch.cat([bias[1], bias[2], bias[3]])
    return [[Cell("gru", weight_ih, torch.cat([r, z, n]), outer, inner)]]


def _block_diagonal(blocks: Tensor) -> Tensor:
    """(heads, D, P) as one (heads*D, heads*P) weight."""
    return torch.block_diag(*blocks)
