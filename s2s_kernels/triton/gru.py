"""The halves of gru on Triton."""

from .gru_step import GRU
from .recurrence import recurrence_backward, recurrence_forward


def gru_forward(inputs, lengths, mask, reverse, save):
    return recurrence_forward(GRU, inputs, lengths, reverse, save)


def gru_backward(grads, inputs, lengths, mask, reverse, outputs, needs):
    return recurrence_backward(GRU, grads, inputs, lengths, reverse, outputs, needs)
