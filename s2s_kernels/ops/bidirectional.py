"""Both directions of a GRU's or an LSTM's layer as one op, which ``s2s_kernels.nn.GRU`` and ``LSTM`` run.

What it computes is two calls of ``gru`` or ``lstm``, the second in reverse. CUDA makes one launch of both where it has
a plan (csrc/plan.h), a CPU takes a thread for each where the rows are few. These functions are not public; the
dispatcher has the ops as torch.ops.s2s_kernels.gru_bidirectional and lstm_bidirectional.
"""

from collections.abc import Sequence

from torch import Tensor

from .. import cudnn, reference
from ..checks import of_ops
from . import registration
from .gru import gru
from .lstm import lstm
from .recurrence import check_cell, check_sequence, given, pair, register_halves, sequence_outputs


def gru_bidirectional(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    h0_reverse: Tensor,
    weight_ih_reverse: Tensor,
    weight_hh_reverse: Tensor,
    bias_ih_reverse: Tensor | None = None,
    bias_hh_reverse: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """x (B, T, I), states (B, H), lengths (B,): output (B, T, 2H) and h_n (2, B, H), both forward first.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    reverse = (h0_reverse, weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    args = (x, h0, weight_ih, weight_hh, bias_ih, bias_hh, *reverse)
    if cudnn.takes(x):
        check_gru(*args, lengths=lengths)
        return reference.gru_bidirectional(*args, lengths=lengths, op=gru)
    options = given(lengths, False, None, None)
    return registration.check_and_run("gru_bidirectional", reference.gru_bidirectional, check_gru, *args, **options)


def lstm_bidirectional(
    x: Tensor,
    state: Sequence[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    state_reverse: Sequence[Tensor],
    weight_ih_reverse: Tensor,
    weight_hh_reverse: Tensor,
    bias_ih_reverse: Tensor | None = None,
    bias_hh_reverse: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, T, I), states pairs of (B, H), lengths (B,): output (B, T, 2H), h_n and c_n (2, B, H), all forward first.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    reverse = (state_reverse, weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    args = (x, state, weight_ih, weight_hh, bias_ih, bias_hh, *reverse)
    if lengths is None and cudnn.takes(x):
        check_lstm(*args)
        return reference.lstm_bidirectional(*args, op=lstm)
    options = given(lengths, False, None, None)
    return registration.check_and_run("lstm_bidirectional", reference.lstm_bidirectional, check_lstm, *args, **options)


def check_gru(x, *inputs, lengths=None):
    check(3, x, inputs, lengths)


def check_lstm(x, state, *inputs, lengths=None):
    reverse = pair("state_reverse", inputs[4], "h0_reverse, c0_reverse")
    check(4, x, [*pair("state", state), *inputs[:4], *reverse, *inputs[5:]], lengths)


def check(gates, x, inputs, lengths):
    """inputs: states and weights of the one direction, then of the other, as the halves of the ops have them."""
    states, own = gates - 2, gates + 2
    forward, reverse = inputs[:own], [*inputs[own:], None, None][:own]
    first = tuple(zip(("h0", "c0"), forward[:states]))
    check_sequence(gates, x, first, *forward[states:], lengths)
    second = (first[0], *zip(("h0_reverse", "c0_reverse"), reverse[:states]))
    check_cell(gates, x, second, *reverse[states:], suffix="_reverse")


def register_bidirectional(name, gates):
    own, states = gates + 2, gates - 2

    def check_inputs(inputs, lengths, mask, reverse, save):
        check(gates, inputs[0], inputs[1:], lengths)

    of_ops[f"{name}_forward"] = check_inputs

    @registration.fake(f"{name}_forward")
    def _(inputs, lengths, mask, reverse, save):
        check_inputs(inputs, lengths, mask, reverse, save)
        x, *inputs = inputs
        batch, hidden = inputs[0].shape
        kept = [sequence_outputs(gates, x, inputs[d : d + states], None, save) for d in (0, own)]
        last = [x.new_empty(2, batch, hidden) for _ in range(states)]
        return [x.new_empty(batch, x.shape[1], 2 * hidden), *last, *kept[0], *kept[1]]

    def run(inputs, lengths, mask, reverse):
        if gates == 3:
            return reference.gru_bidirectional(*inputs, lengths=lengths)
        x, *inputs = inputs
        forward, reverse = inputs[:own], inputs[own:]
        args = (x, forward[:2], *forward[2:], reverse[:2], *reverse[2:])
        return reference.lstm_bidirectional(*args, lengths=lengths)

    register_halves(name, run)
    registration.autocast(name)


register_bidirectional("gru_bidirectional", 3)
register_bidirectional("lstm_bidirectional", 4)
