"""GRUCell and LSTMCell, in the place of torch.nn's."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import linear

from .. import ops
from ..recording import recorded


def _batched(
    cell: nn.RNNCellBase, input: Tensor, states: Sequence[Tensor | None]
) -> tuple[Tensor, Sequence[Tensor], bool]:
    """The input and the states with a batch dimension, the states zero when None; and whether it was there."""
    if not isinstance(input, Tensor):
        raise TypeError(f"input is a {type(input).__name__}, expected a torch.Tensor")
    if input.dim() not in (1, 2):
        raise ValueError(f"input has {input.dim()} dimensions, expected 2, or 1 when unbatched")
    if input.shape[-1] != cell.input_size:
        raise ValueError(
            f"input has shape {tuple(input.shape)}, expected a last dimension of input_size = {cell.input_size}"
        )
    shape = (*input.shape[:-1], cell.hidden_size)
    if states[0] is None:
        states = [input.new_zeros(shape)] * len(states)
    for state in states:
        if not isinstance(state, Tensor):
            raise TypeError(f"hx holds a {type(state).__name__}, expected a torch.Tensor of shape {shape}")
        if state.shape != shape:
            raise ValueError(f"hx has shape {tuple(state.shape)}, expected {shape}")
    if input.dim() == 2:
        return input, states, True
    return input.unsqueeze(0), [state.unsqueeze(0) for state in states], False


class GRUCell(nn.GRUCell):
    """torch.nn.GRUCell with ``s2s_kernels.gru_step`` inside; same constructor, state_dict and forward.

    Args:
        input_size, hidden_size, bias, device, dtype: as nn.GRUCell.
    """

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """h' (B, hidden_size) from input (B, input_size) and hx (B, hidden_size) or None; also without B.

        Raises:
            ValueError, TypeError: a wrong shape, dtype or device, named in the message.
        """
        if recorded():
            return super().forward(input, hx)
        if not (hx is None or isinstance(hx, Tensor)):
            raise TypeError(f"hx is a {type(hx).__name__}, expected a torch.Tensor of shape (B, hidden_size)")
        input, (h,), batched = _batched(self, input, [hx])
        gates_x = linear(input, self.weight_ih, self.bias_ih)
        h = ops.gru_step(gates_x, linear(h, self.weight_hh, self.bias_hh), h)
        return h if batched else h.squeeze(0)


class LSTMCell(nn.LSTMCell):
    """torch.nn.LSTMCell with ``s2s_kernels.lstm_step`` inside; same constructor, state_dict and forward.

    Args:
        input_size, hidden_size, bias, device, dtype: as nn.LSTMCell.
    """

    def forward(self, input: Tensor, hx: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(h', c') from input (B, input_size) and hx = (h, c), each (B, hidden_size), or None; also without B.

        Raises:
            ValueError, TypeError: a wrong shape, dtype or device, named in the message.
        """
        if recorded():
            return super().forward(input, hx)
        if not (hx is None or (isinstance(hx, (tuple, list)) and len(hx) == 2)):
            raise TypeError(f"hx is a {type(hx).__name__}, expected a pair (h, c) of tensors of shape (B, hidden_size)")
        input, (h, c), batched = _batched(self, input, [None, None] if hx is None else list(hx))
        gates_x = linear(input, self.weight_ih, self.bias_ih)
        h, c = ops.lstm_step(gates_x, linear(h, self.weight_hh, self.bias_hh), c)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))
