"""One step of an LSTM after its two matrix products."""

import torch
from torch import Tensor


def lstm_step(gates_x: Tensor, gates_h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """c' = f c + i g; h' = o tanh(c'); i, f, o = sigmoid(x + h), g = tanh(x + h)."""
    i, f, g, o = (gates_x + gates_h).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c
