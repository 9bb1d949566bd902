"""Gradients of some inputs from some outputs: whatever is not asked for changes nothing."""

from functools import partial

import pytest
import torch
from helpers import OUTPUTS, assert_parity, assert_parity_when_drawn, call, example, is_float, leaves, place

import s2s_kernels as sk

OPS = [
    ("additive_attention", {"T": 3, "lengths": torch.int64, "bias": 3}),
    ("additive_attention", {"N": 2, "bias": 2}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64}),
    ("lstm", {"reverse": True}),
    ("gru_bidirectional", {"lengths": torch.int64}),
    ("lstm_bidirectional", {}),
    ("attention_gru", {"F": 4, "first": True, "lengths": torch.int64}),
    ("attention_gru", {"N": 2}),
    ("attention_lstm", {"F": 4}),
    ("attention_lstm", {"first": True, "mask": True}),
]
INPUTS = [(op, form, name) for op, form in OPS for name, x in example(op, **form).items() if is_float(x)]
SINGLE_OUTPUTS = [(op, form, name) for op, form in OPS for name in OUTPUTS[op]]


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize(("op", "form", "name"), INPUTS, ids=str)
def test_one_input(kernel, op, form, name):
    assert_parity(op, example(op, **form), torch.float32, kernel, wrt=[name])


@pytest.mark.parametrize(("op", "form", "name"), SINGLE_OUTPUTS, ids=str)
def test_one_output(kernel, op, form, name):
    assert_parity_when_drawn(op, partial(example, op, **form), torch.float32, kernel, use=[name])


def test_all_inputs_but_the_weights(kernel):
    """A frozen decoder that still trains its encoder."""
    wrt = ("x", "h0", "keys", "values")
    assert_parity("attention_gru", example("attention_gru", F=4), torch.float32, kernel, wrt=wrt)


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
def test_backward_twice_through_one_graph(anywhere, op, form):
    inputs = leaves(place(example(op, **form), anywhere.device))
    wanted = [x for x in inputs.values() if is_float(x)]
    total = sum(y.square().sum() for y in call(sk, op, inputs))
    first = torch.autograd.grad(total, wanted, retain_graph=True, allow_unused=True)
    second = torch.autograd.grad(total, wanted, allow_unused=True)
    for x, y in zip(first, second, strict=True):
        assert x is y is None or torch.equal(x, y)


def test_gradients_accumulate(anywhere):
    inputs = leaves(place(example("gru"), anywhere.device))
    for _ in range(2):
        call(sk, "gru", inputs)[0].square().sum().backward()
    once = torch.autograd.grad(call(sk, "gru", inputs)[0].square().sum(), inputs["weight_hh"])[0]
    assert torch.equal(inputs["weight_hh"].grad, 2 * once)


def test_one_tensor_in_two_places(anywhere):
    """Keys that are the values, as when the key projection is the identity."""
    inputs = place(example("additive_attention", A=9, D=9), anywhere.device)
    memory = inputs["keys"].requires_grad_()
    context, _ = sk.additive_attention(inputs["query"], memory, memory, inputs["v"])
    (both,) = torch.autograd.grad(context.sum(), memory)
    keys, values = memory.detach().requires_grad_(), memory.detach().requires_grad_()
    context, _ = sk.additive_attention(inputs["query"], keys, values, inputs["v"])
    parts = torch.autograd.grad(context.sum(), [keys, values])
    assert torch.allclose(both, parts[0] + parts[1], rtol=0, atol=1e-14)


@pytest.mark.exhaustive(every=6)
@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("some", [False, True])
def test_second_derivatives(kernel, op, form, some):
    """Of inputs that are made of one another too, and where some need no gradient and some outputs are not used."""
    sizes = {"B": 2, "S": 3, "T": 2, "I": 2, "H": 3, "A": 2, "D": 2}
    if "attention" not in op:
        sizes = {"B": 2, "H": 3} if "step" in op else {"B": 2, "T": 3, "I": 2, "H": 3}
    elif op == "additive_attention":
        sizes = {"B": 2, "S": 3, "A": 2, "D": 2}
    inputs = place(example(op, **(sizes | form)), kernel.device)
    names = [name for name, x in inputs.items() if is_float(x)]
    if some:
        names = names[::2]

    def function(factor, *tensors):
        made, of_first = {}, 0
        for name, x in zip(names, tensors, strict=True):
            made[name] = x * factor + of_first
            of_first = made[names[0]].sum()
        outputs = call(sk, op, inputs | made)
        return tuple(outputs[-1:] if some else outputs)

    factor = torch.tensor(0.7, dtype=torch.float64, device=kernel.device, requires_grad=True)
    tensors = [factor, *(inputs[name].requires_grad_() for name in names)]
    once, twice = (
        torch.autograd.grad(sum(y.square().sum() for y in function(*tensors)), tensors, create_graph=create)
        for create in (False, True)
    )
    assert all(torch.allclose(x, y, rtol=0, atol=1e-12) for x, y in zip(once, twice, strict=True))
    assert torch.autograd.gradgradcheck(function, tensors)
    assert torch.autograd.gradcheck(function, tensors)
