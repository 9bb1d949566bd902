"""The GRU that no fused kernel has.

torch.nn, cuDNN and Keras (``reset_after=True``, its default since TensorFlow 2) apply a GRU's reset gate after the
recurrent product, ``r * (W_hn h + b_hn)``. Cho et al. (2014), Bahdanau et al. (2015), TensorFlow 1's ``GRUCell``,
Haiku and Keras with ``reset_after=False`` apply it before, ``W_hn (r * h) + b_hn``. The product then has to wait for
the gate, so this form takes two products a step; it runs in plain PyTorch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..recording import recorded
from .cells import GRUCell, _batched
from .recurrent import GRU, States


def reset_before_step(gates_x: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor | None) -> Tensor:
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


class ResetBeforeGRU(GRU):
    """``GRU`` with the reset gate before the recurrent product; same constructor, parameters and forward."""

    _bidirectional = None
    _recorded_as_torch = False  # nn.GRU, which a trace or an ONNX graph holds otherwise, is another function

    def _layer(
        self, x: Tensor, states: States, weights: Sequence[Tensor], lengths: Tensor | None, reverse: bool
    ) -> tuple[Tensor, States]:
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

    def _hand_out(self, output: Tensor, time_first: bool) -> Tensor:
        if not recorded():
            return super()._hand_out(output, time_first)
        return output.transpose(0, 1) if time_first else output  # the same graph whether or not gradients are wanted


class ResetBeforeGRUCell(GRUCell):
    """``GRUCell`` with the reset gate before the recurrent product; same constructor, parameters and forward."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        input, (h,), batched = _batched(self, input, [hx])
        h = reset_before_step(linear(input, self.weight_ih, self.bias_ih), h, self.weight_hh, self.bias_hh)
        return h if batched else h.squeeze(0)
