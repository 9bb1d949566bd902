import pytest
import torch
from helpers import call, example, outputs_and_gradients, place

import s2s_kernels as sk

# Large enough for every thread to get work, in forms that reduce over batch, time and source.
OPS = [
    ("additive_attention", {"B": 9, "S": 40, "A": 65, "D": 48, "T": 7, "bias": 2}),
    ("additive_attention", {"B": 1, "S": 300, "A": 128, "D": 64, "lengths": torch.int64}),
    ("gru_step", {"B": 64, "H": 130}),
    ("lstm_step", {"B": 64, "H": 130}),
    ("gru", {"B": 9, "T": 12, "I": 40, "H": 70, "lengths": torch.int64}),
    ("lstm", {"B": 2, "T": 12, "I": 40, "H": 150}),
    ("gru_bidirectional", {"B": 3, "T": 12, "I": 40, "H": 150, "lengths": torch.int64}),
    ("attention_gru", {"B": 9, "T": 8, "S": 20, "H": 64, "A": 70, "D": 48, "lengths": torch.int64}),
    ("attention_lstm", {"B": 2, "T": 8, "S": 20, "H": 64, "A": 70, "D": 48, "F": 30}),
]


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_runs_give_the_same_bits(kernel, threads, op, form, dtype, count):
    threads(count)
    inputs = place(example(op, **form), kernel.device, dtype)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    first = outputs_and_gradients(sk, op, inputs, cotangents)
    second = outputs_and_gradients(sk, op, inputs, cotangents)
    for name, x in first.items():
        assert torch.equal(x, second[name]), name
