"""The halves of attention_lstm on Triton."""

from .attention_recurrence import attention_recurrence_backward, attention_recurrence_forward
from .lstm_step import LSTM


def attention_lstm_forward(inputs, lengths, mask, reverse, save):
    return attention_recurrence_forward(LSTM, inputs, lengths, mask, save)


def attention_lstm_backward(grads, inputs, lengths, mask, reverse, outputs, needs):
    return attention_recurrence_backward(LSTM, grads, inputs, lengths, mask, outputs, needs)
