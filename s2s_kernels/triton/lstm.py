"""The halves of lstm on Triton."""

from .lstm_step import LSTM
from .recurrence import recurrence_backward, recurrence_forward


def lstm_forward(inputs, lengths, mask, reverse, save):
    return recurrence_forward(LSTM, inputs, lengths, reverse, save)


def lstm_backward(grads, inputs, lengths, mask, reverse, outputs, needs):
    return recurrence_backward(LSTM, grads, inputs, lengths, reverse, outputs, needs)
