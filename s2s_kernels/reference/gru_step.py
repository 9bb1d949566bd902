"""One step of a GRU after its two matrix products (reset gate after the product, as torch.nn.GRU)."""

import torch
from torch import Tensor


def gru_step(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    """h' = (1 - z) n + z h, with r, z = sigmoid(x + h) and n = tanh(x_n + r h_n)."""
    r_x, z_x, n_x = gates_x.chunk(3, -1)
    r_h, z_h, n_h = gates_h.chunk(3, -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return (1 - z) * n + z * h
