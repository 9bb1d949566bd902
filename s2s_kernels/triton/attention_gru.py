"""The halves of attention_gru on Triton."""

from .attention_recurrence import attention_recurrence_backward, attention_recurrence_forward
from .gru_step import GRU


def attention_gru_forward(inputs, lengths, mask, reverse, save):
    return attention_recurrence_forward(GRU, inputs, lengths, mask, save)


def attention_gru_backward(grads, inputs, lengths, mask, reverse, outputs, needs):
    return attention_recurrence_backward(GRU, grads, inputs, lengths, mask, outputs, needs)
