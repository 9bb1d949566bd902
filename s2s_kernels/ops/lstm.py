"""An LSTM over a whole sequence."""

from .. import cudnn, reference
from ..checks import check_flag
from . import registration
from .recurrence import check_sequence, pair, register_recurrence


def lstm(x, state, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, lengths=None, reverse=False):
    """One layer and direction of torch.nn.LSTM over a padded batch.

    ``i, f, o = sigmoid(W_i x + b_i + W_h h + b_h)``, ``g = tanh(...)``, ``c' = f c + i g``, ``h' = o tanh(c')``.

    Args:
        x: (B, T, I).
        state: (h0, c0), each (B, H).
        weight_ih, weight_hh: (4H, I) and (4H, H), in the order i, f, g, o.
        bias_ih, bias_hh: (4H,) or None.
        lengths: (B,) integers, the number of valid steps of each row; None: T.
        reverse: read each row's valid part backwards.

    Returns:
        output (B, T, H), zeros past a row's length, and (h_n, c_n), each row's last valid state.

    float32, float64, bfloat16 or float16, all arguments the same; accumulated in float32 or wider. For backward
    the inputs, ``output``, the activated gates (B, T, 4H) and cell states (B, T, H) are saved, the last two in
    the accumulation's dtype. On a GPU "auto" takes cuDNN where it can and there are no ``lengths`` (see
    s2s_kernels/cudnn.py), which keeps its states in the inputs' dtype and saves a reserve of its own.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    if not isinstance(reverse, bool):  # the dispatcher takes numbers and None too
        check_flag("reverse", reverse)
    args = (x, state, weight_ih, weight_hh, bias_ih, bias_hh)
    if lengths is None and cudnn.takes(x):
        check(*args, lengths=lengths, reverse=reverse)
        return registration.cast_and_call(cudnn.lstm, "cuda", *args, reverse=reverse)
    result = registration.check_and_run("lstm", reference.lstm, check, *args, lengths=lengths, reverse=reverse)
    if len(result) == 2:
        return result
    output, h_n, c_n = result  # torch ops cannot return a nested pair
    return output, (h_n, c_n)


def check(x, state, *cell, lengths, reverse):
    h0, c0 = pair("state", state)
    check_sequence(4, x, (("h0", h0), ("c0", c0)), *cell, lengths)


register_recurrence("lstm", 4)
