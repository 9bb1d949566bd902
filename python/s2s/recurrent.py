"""Recurrent layers and cells by configuration, and the GRU that no fused kernel has.

torch.nn, cuDNN and Keras (``reset_after=True``, its default since TensorFlow 2) apply a GRU's reset gate after the
recurrent product, ``r * (W_hn h + b_hn)``. Cho et al. (2014), Bahdanau et al. (2015), TensorFlow 1's ``GRUCell`` and
Keras with ``reset_after=False`` apply it before, ``W_hn (r * h) + b_hn``. The product then has to wait for the gate,
so this form takes two products a step; it runs in plain PyTorch.
"""

import torch
from torch.nn.functional import linear

import s2s_kernels as sk


def reset_before_step(gates_x, h, weight_hh, bias_hh):
    """h' = (1 - z) n + z h, r, z = sigmoid(x + W h + b), n = tanh(x_n + W_n (r * h) + b_n): (B, 3H), (B, H) -> (B, H).

    The weights are those of torch.nn.GRU, order r, z, n.
    """
    size = h.shape[-1]
    if bias_hh is None:
        bias_hh = weight_hh.new_zeros(weight_hh.shape[0])
    x_rz, x_n = gates_x.split([2 * size, size], -1)
    r, z = torch.sigmoid(x_rz + linear(h, weight_hh[: 2 * size], bias_hh[: 2 * size])).chunk(2, -1)
    n = torch.tanh(x_n + linear(r * h, weight_hh[2 * size :], bias_hh[2 * size :]))
    return (1 - z) * n + z * h


class ResetBeforeGRU(sk.nn.GRU):
    """``sk.nn.GRU`` with the reset gate before the recurrent product; same constructor, parameters and forward."""

    def _layer(self, x, states, weights, lengths, reverse):
        (h,), (weight_ih, weight_hh, bias_ih, bias_hh) = states, (*weights, None, None)[:4]
        steps, outputs = range(x.shape[1]), [None] * x.shape[1]
        if lengths is not None:
            valid = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]
            x = torch.where(valid, x, 0)
        gates_x = linear(x, weight_ih, bias_ih)
        for t in reversed(steps) if reverse else steps:
            outputs[t] = new = reset_before_step(gates_x[:, t], h, weight_hh, bias_hh)
            if lengths is not None:
                outputs[t], new = torch.where(valid[:, t], new, 0), torch.where(valid[:, t], new, h)
            h = new
        return torch.stack(outputs, 1), (h,)


class ResetBeforeGRUCell(sk.nn.GRUCell):
    """``sk.nn.GRUCell`` with the reset gate before the recurrent product; same constructor and parameters."""

    def forward(self, input, hx):
        """h' (B, hidden_size) from input (B, input_size) and hx (B, hidden_size)."""
        return reset_before_step(linear(input, self.weight_ih, self.bias_ih), hx, self.weight_hh, self.bias_hh)


def recurrent(config, input_size, hidden_size, layers, bidirectional=False):
    """The batch-first GRU or LSTM that ``config`` asks for, with its dropout between layers."""
    if config.cell == "lstm":
        kind = sk.nn.LSTM
    else:
        kind = sk.nn.GRU if config.gru_reset == "after" else ResetBeforeGRU
    dropout = config.dropout if layers > 1 else 0.0
    return kind(
        input_size, hidden_size, num_layers=layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
    )


def cell(config, input_size, hidden_size):
    if config.cell == "lstm":
        return sk.nn.LSTMCell(input_size, hidden_size)
    return (sk.nn.GRUCell if config.gru_reset == "after" else ResetBeforeGRUCell)(input_size, hidden_size)
