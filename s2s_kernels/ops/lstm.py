"""An LSTM over a whole sequence."""

import torch

from .. import cudnn, reference, transforms
from ..backend import resolve
from ..checks import check_flag
from ..recording import for_onnx
from . import registration
from .recurrence import check_sequence, given, pair, register_recurrence


def lstm(
    x,
    state,
    weight_ih,
    weight_hh,
    bias_ih=None,
    bias_hh=None,
    *,
    lengths=None,
    reverse=False,
    resets=None,
    reset_states=None,
):
    """One layer and direction of torch.nn.LSTM over a padded batch.

    ``i, f, o = sigmoid(W_i x + b_i + W_h h + b_h)``, ``g = tanh(...)``, ``c' = f c + i g``, ``h' = o tanh(c')``.

    Args:
        x: (B, T, I).
        state: (h0, c0), each (B, H).
        weight_ih, weight_hh: (4H, I) and (4H, H), in the order i, f, g, o.
        bias_ih, bias_hh: (4H,) or None.
        lengths: (B,) integers, the number of valid steps of each row; None: T.
        reverse: read each row's valid part backwards.
        resets: (B, T) bool: where True, the state of that row is replaced before that step, by what ``reset_states``
            holds there. Past a row's length they are not read. With ``reverse``, before x_t is read: after x_{t+1}.
        reset_states: a pair of (B, T, H), read where there is a reset and nowhere else; None: zeros.

    Returns:
        output (B, T, H), zeros past a row's length, and (h_n, c_n), each row's last valid state.

    float32, float64, bfloat16 or float16, all arguments the same; accumulated in float32 or wider. For backward
    the inputs, ``output``, the activated gates (B, T, 4H) and cell states (B, T, H) are saved, the last two in
    the accumulation's dtype. On a GPU "auto" takes cuDNN where it can and there are neither ``lengths`` nor resets (see
    s2s_kernels/cudnn.py), which keeps its states in the inputs' dtype and saves a reserve of its own.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    if not isinstance(reverse, bool):  # the dispatcher takes numbers and None too
        check_flag("reverse", reverse)
    args = (x, state, weight_ih, weight_hh, bias_ih, bias_hh)
    if lengths is None and resets is None and reset_states is None and cudnn.takes(x):
        check(*args, lengths=lengths, reverse=reverse)
        return registration.cast_and_call(cudnn.lstm, "cuda", *args, reverse=reverse)
    options = given(lengths, reverse, resets, reset_states)
    result = registration.check_and_run("lstm", reference.lstm, check, *args, **options)
    if len(result) == 2:
        return result
    output, h_n, c_n = result  # torch ops cannot return a nested pair
    return output, (h_n, c_n)


def lstm_and_cells(x, state, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, resets, reset_states=None):
    """`lstm` with resets, and c after each step, which a reset may replace: (output, (h_n, c_n), cells (B, T, H))."""
    cell = (weight_ih, weight_hh, bias_ih, bias_hh)
    check(x, state, *cell, resets=resets, reset_states=reset_states)

    def run(x, state, *cell, resets, reset_states):
        if transforms.at_work() or resolve(x.device.type) == "reference" or for_onnx():
            return reference.lstm(x, state, *cell, resets=resets, reset_states=reset_states, cells=True)
        inputs = [x, *state, *cell, resets, *(reset_states or (None, None))]
        save = torch.is_grad_enabled() and any(y is not None and y.requires_grad for y in inputs)
        output, h_n, c_n, cells, *_ = torch.ops.s2s_kernels.lstm_forward(inputs, None, None, False, save)
        return output, (h_n, c_n), cells

    options = {"resets": resets, "reset_states": reset_states}
    return registration.cast_and_call(run, x.device.type, x, state, *cell, **options)


def check(x, state, *cell, lengths=None, reverse=False, resets=None, reset_states=None):
    h0, c0 = pair("state", state)
    if reset_states is not None:
        pair("reset_states", reset_states, "h, c", "B, T, H")
    check_sequence(4, x, (("h0", h0), ("c0", c0)), *cell, lengths, resets, reset_states)


register_recurrence("lstm", 4)
