"""A GRU over a whole sequence."""

from .. import cudnn, reference
from ..checks import check_flag
from . import registration
from .recurrence import check_sequence, given, register_recurrence


def gru(
    x,
    h0,
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
    """One layer and direction of torch.nn.GRU over a padded batch.

    ``r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)``, z likewise, ``n = tanh(W_in x + b_in + r (W_hn h + b_hn))``,
    ``h' = (1 - z) n + z h``.

    Args:
        x: (B, T, I).
        h0: (B, H).
        weight_ih, weight_hh: (3H, I) and (3H, H), in the order r, z, n.
        bias_ih, bias_hh: (3H,) or None.
        lengths: (B,) integers, the number of valid steps of each row; None: T.
        reverse: read each row's valid part backwards.
        resets: (B, T) bool: where True, the state of that row is replaced before that step, by what ``reset_states``
            holds there. Past a row's length they are not read. With ``reverse``, before x_t is read: after x_{t+1}.
        reset_states: (B, T, H), read where there is a reset and nowhere else; None: zeros.

    Returns:
        output (B, T, H), zeros past a row's length, and h_n (B, H), each row's last valid state.

    float32, float64, bfloat16 or float16, all arguments the same; accumulated in float32 or wider. For backward
    the inputs, ``output`` and the activated gates (B, T, 4H) are saved, the gates in the accumulation's dtype. On a
    GPU "auto" takes cuDNN where it can and there are no resets (see s2s_kernels/cudnn.py), which keeps its states in
    the inputs' dtype and saves a reserve of its own.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    if not isinstance(reverse, bool):  # the dispatcher takes numbers and None too
        check_flag("reverse", reverse)
    args = (x, h0, weight_ih, weight_hh, bias_ih, bias_hh)
    if resets is None and reset_states is None and cudnn.takes(x):
        check(*args, lengths=lengths, reverse=reverse)
        return registration.cast_and_call(cudnn.gru, "cuda", *args, lengths=lengths, reverse=reverse)
    options = given(lengths, reverse, resets, reset_states)
    return registration.check_and_run("gru", reference.gru, check, *args, **options)


def check(x, h0, *cell, lengths=None, reverse=False, resets=None, reset_states=None):
    reset_states = None if reset_states is None else (reset_states,)
    check_sequence(3, x, (("h0", h0),), *cell, lengths, resets, reset_states)


register_recurrence("gru", 3)
