"""torch.library.opcheck: schema, fakes, autograd registration and AOT dispatch of every registered op."""

import pytest
import torch
from helpers import example, leaves, place

from s2s_kernels import extension

FORMS = [
    ("additive_attention", {}),
    ("additive_attention", {"T": 3, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {}),
    ("gru", {"lengths": torch.int32, "reverse": True, "biases": "none"}),
    ("lstm", {}),
    ("lstm", {"lengths": torch.int64, "biases": "hh"}),
    ("gru_bidirectional", {}),
    ("lstm_bidirectional", {"lengths": torch.int64, "biases": "ih"}),
    ("attention_gru", {}),
    ("attention_gru", {"N": 2, "F": 4, "first": True, "lengths": torch.int64, "mask": True}),
    ("attention_lstm", {"biases": "ih", "b_query": False}),
    ("attention_lstm", {"F": 4, "first": True, "b_feed": False}),
]


@pytest.mark.exhaustive(every=3)
@pytest.mark.skipif(not extension.built, reason="the ops are registered by the compiled extension, not built here")
@pytest.mark.parametrize(("op", "form"), FORMS, ids=str)
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(kernel, op, form, grad):
    inputs = place(example(op, **form), kernel.device, torch.float32)
    if grad:
        inputs = leaves(inputs)
    if "c0" in inputs:
        first = (inputs.pop("x"), [inputs.pop("h0"), inputs.pop("c0")])
    else:
        first = ()
    if "c0_reverse" in inputs:
        inputs["state_reverse"] = [inputs.pop("h0_reverse"), inputs.pop("c0_reverse")]
    keywords = ("lengths", "mask", "bias", "reverse", "w_feed", "b_feed", "first_feed")
    kwargs = {name: x for name, x in inputs.items() if name in keywords}
    cell = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    order = {
        "gru": ("x", "h0", *cell),
        "attention_gru": ("x", "h0", "keys", "values", "v", "w_query", "b_query", *cell),
    }
    reverse = [f"{name}_reverse" for name in cell]
    order["gru_bidirectional"] = (*order["gru"], "h0_reverse", *reverse)
    order["lstm_bidirectional"] = (*cell, "state_reverse", *reverse)
    order["lstm"], order["attention_lstm"] = order["gru"][2:], order["attention_gru"][2:]
    names = order.get(op, [name for name in inputs if name not in keywords])
    torch.library.opcheck(
        getattr(torch.ops.s2s_kernels, op).default, (*first, *(inputs[name] for name in names)), kwargs
    )
