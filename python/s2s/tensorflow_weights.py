"""Weights of Keras and TensorFlow 1 cells in the layout of torch.nn, for models trained there.

Each function takes arrays or tensors and returns ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh`` for a
cell; ``suffix="_l0"`` names them for the first layer of a GRU or LSTM. It is differentiable in tensors.

>>> cell.load_state_dict(keras_gru(*layer.get_weights()))
>>> gru.load_state_dict(keras_gru(*layer.get_weights(), suffix="_l0"))
"""

import torch
from torch import Tensor

from .errors import S2SError


def _tensor(name, array, *shape):
    """array as a tensor of that shape, None standing for any size."""
    tensor = array if isinstance(array, Tensor) else torch.as_tensor(array)
    fits = tensor.dim() == len(shape) and all(want in (None, size) for want, size in zip(shape, tensor.shape))
    if not fits:
        raise S2SError(f"{name} has shape {tuple(tensor.shape)}, expected {shape} (None: any size).".replace("'", ""))
    return tensor


def _reorder(x, order):
    """The blocks of the last dimension in another order."""
    blocks = x.chunk(len(order), -1)
    return torch.cat([blocks[i] for i in order], -1)


def _named(weight_ih, weight_hh, bias_ih, bias_hh, suffix):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {name + suffix: value for name, value in zip(names, (weight_ih, weight_hh, bias_ih, bias_hh))}


def keras_gru(kernel, recurrent_kernel, bias=None, *, suffix="") -> dict[str, Tensor]:
    """Weights of a Keras GRU or GRUCell: order z, r, h, transposed.

    Args:
        kernel: (I, 3H); recurrent_kernel: (H, 3H).
        bias: (2, 3H) with ``reset_after=True``, for a GRU that resets after its product (torch.nn's and
            ``gru_reset="after"``); (3H,) with ``reset_after=False``, for ``gru_reset="before"``; None without.
    """
    recurrent = _tensor("recurrent_kernel", recurrent_kernel, None, None)
    size = recurrent.shape[0]
    _tensor("recurrent_kernel", recurrent, size, 3 * size)
    kernel = _tensor("kernel", kernel, None, 3 * size)
    if bias is None:
        bias = kernel.new_zeros(2, 3 * size)
    elif len(bias.shape) == 1:
        bias = _tensor("bias", bias, 3 * size)
        bias = torch.stack([bias, torch.zeros_like(bias)])
    bias = _tensor("bias", bias, 2, 3 * size)
    order = (1, 0, 2)
    return _named(_reorder(kernel, order).T, _reorder(recurrent, order).T, *_reorder(bias, order), suffix)


def keras_lstm(kernel, recurrent_kernel, bias=None, *, suffix="") -> dict[str, Tensor]:
    """Weights of a Keras LSTM or LSTMCell: kernel (I, 4H), recurrent_kernel (H, 4H), bias (4H,) or None, in the
    order i, f, c, o, which is torch.nn's."""
    recurrent = _tensor("recurrent_kernel", recurrent_kernel, None, None)
    size = recurrent.shape[0]
    _tensor("recurrent_kernel", recurrent, size, 4 * size)
    kernel = _tensor("kernel", kernel, None, 4 * size)
    bias = kernel.new_zeros(4 * size) if bias is None else _tensor("bias", bias, 4 * size)
    return _named(kernel.T, recurrent.T, bias, torch.zeros_like(bias), suffix)


def tf1_gru(gates_kernel, gates_bias, candidate_kernel, candidate_bias, *, suffix="") -> dict[str, Tensor]:
    """Weights of TensorFlow 1's GRUCell, for ``gru_reset="before"``.

    Args:
        gates_kernel, gates_bias: (I + H, 2H) and (2H,), order r, u, over [x ; h].
        candidate_kernel, candidate_bias: (I + H, H) and (H,), over [x ; r * h].
    """
    bias = _tensor("candidate_bias", candidate_bias, None)
    size = bias.shape[0]
    gates = _tensor("gates_kernel", gates_kernel, None, 2 * size)
    kernel = torch.cat([gates, _tensor("candidate_kernel", candidate_kernel, gates.shape[0], size)], 1).T
    bias = torch.cat([_tensor("gates_bias", gates_bias, 2 * size), bias])
    return _named(*kernel.split([gates.shape[0] - size, size], 1), bias, torch.zeros_like(bias), suffix)


def tf1_lstm(kernel, bias, *, forget_bias=1.0, suffix="") -> dict[str, Tensor]:
    """Weights of TensorFlow 1's BasicLSTMCell or LSTMCell: kernel (I + H, 4H) over [x ; h] and bias (4H,), order
    i, j, f, o; the cell adds ``forget_bias`` to f when it runs, so it goes into the bias here."""
    bias = _tensor("bias", bias, None)
    size = bias.shape[0] // 4
    kernel = _tensor("kernel", kernel, None, 4 * size)
    order = (0, 2, 1, 3)
    bias = _reorder(bias, order)
    bias = bias + torch.cat([bias.new_full((size,), forget_bias if i == 1 else 0.0) for i in range(4)])
    kernel = _reorder(kernel, order).T
    return _named(*kernel.split([kernel.shape[1] - size, size], 1), bias, torch.zeros_like(bias), suffix)
