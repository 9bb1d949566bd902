"""The halves of gru_bidirectional and lstm_bidirectional on Triton: two calls of gru's or lstm's."""

import torch

from .gru_step import GRU
from .lstm_step import LSTM
from .recurrence import recurrence_backward, recurrence_forward


def split(cell, inputs):
    """The inputs of each direction, of which x is one."""
    own = cell.gates + 2
    return [[inputs[0], *inputs[1 + d * own : 1 + (d + 1) * own]] for d in (0, 1)]


def forward(cell, inputs, lengths, save):
    found = [recurrence_forward(cell, x, lengths, d == 1, save) for d, x in enumerate(split(cell, inputs))]
    (output, *last), (output_reverse, *last_reverse) = (one[: cell.gates - 1] for one in found)
    states = [torch.stack(pair) for pair in zip(last, last_reverse, strict=True)]
    return [torch.cat([output, output_reverse], -1), *states, *found[0], *found[1]]


def backward(cell, grads, inputs, lengths, outputs, needs):
    each = len(outputs) // 2
    grad_output, *grad_last = grads
    found = []
    for d, (x, need) in enumerate(zip(split(cell, inputs), split(cell, needs), strict=True)):
        mine = None if grad_output is None else grad_output.chunk(2, -1)[d]
        mine = [mine, *(None if grad is None else grad[d] for grad in grad_last)]
        found.append(recurrence_backward(cell, mine, x, lengths, d == 1, outputs[d * each : (d + 1) * each], need))
    (grad_x, *first), (more, *second) = found
    return [grad_x + more if needs[0] else grad_x, *first, *second]


def gru_bidirectional_forward(inputs, lengths, mask, reverse, save):
    return forward(GRU, inputs, lengths, save)


def gru_bidirectional_backward(grads, inputs, lengths, mask, reverse, outputs, needs):
    return backward(GRU, grads, inputs, lengths, outputs, needs)


def lstm_bidirectional_forward(inputs, lengths, mask, reverse, save):
    return forward(LSTM, inputs, lengths, save)


def lstm_bidirectional_backward(grads, inputs, lengths, mask, reverse, outputs, needs):
    return backward(LSTM, grads, inputs, lengths, outputs, needs)
