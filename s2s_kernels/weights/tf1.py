"""TensorFlow 1's cells, whose one kernel is over [x ; h]: from the arrays of a checkpoint.

``reader = tf.train.load_checkpoint(path)`` and ``reader.get_tensor(name)`` give them, where TensorFlow is installed.
"""

from typing import Any

import torch
from torch import Tensor

from .layout import Cell, reorder, state_dict, tensor


def tf1_gru(
    gates_kernel: Any, gates_bias: Any, candidate_kernel: Any, candidate_bias: Any, *, suffix: str = ""
) -> dict[str, Tensor]:
    """The state_dict of TensorFlow 1's GRUCell, for ``s2s_kernels.nn.ResetBeforeGRU`` and ``ResetBeforeGRUCell``.

    Args:
        gates_kernel, gates_bias: (I + H, 2H) and (2H,), order r, u, over [x ; h].
        candidate_kernel, candidate_bias: (I + H, H) and (H,), over [x ; r * h].
    """
    bias = tensor("candidate_bias", candidate_bias, None)
    size = bias.shape[0]
    gates = tensor("gates_kernel", gates_kernel, None, 2 * size)
    kernel = torch.cat([gates, tensor("candidate_kernel", candidate_kernel, gates.shape[0], size)], 1).T
    bias = torch.cat([tensor("gates_bias", gates_bias, 2 * size), bias])
    return state_dict(Cell("gru", *kernel.split([gates.shape[0] - size, size], 1), bias, None, "before"), suffix)


def tf1_lstm(kernel: Any, bias: Any, *, forget_bias: float = 1.0, suffix: str = "") -> dict[str, Tensor]:
    """The state_dict of TensorFlow 1's BasicLSTMCell or LSTMCell: kernel (I + H, 4H) over [x ; h] and bias (4H,),
    order i, j, f, o; the cell adds ``forget_bias`` to f when it runs, so it goes into the bias here."""
    bias = tensor("bias", bias, None)
    size = bias.shape[0] // 4
    kernel = tensor("kernel", kernel, None, 4 * size)
    order = (0, 2, 1, 3)
    bias = reorder(bias, order)
    bias = bias + torch.cat([bias.new_full((size,), forget_bias if i == 1 else 0.0) for i in range(4)])
    weights = reorder(kernel, order).T.split([kernel.shape[0] - size, size], 1)
    return state_dict(Cell("lstm", *weights, bias, None), suffix)
