"""What test_gru.py and test_lstm.py share: the tests of a recurrence over a sequence, for a given op; and what tests of
the modules share."""

from functools import partial

import numpy as np
import oracles
import torch
from helpers import Random, assert_parity_when_drawn, call, leaves, place, sequence_inputs

import s2s_kernels as sk

FORMS = {
    "plain": {},
    "no bias": {"biases": "none"},
    "bias_ih": {"biases": "ih"},
    "bias_hh": {"biases": "hh"},
    "lengths": {"lengths": torch.int64},
    "lengths32": {"lengths": torch.int32},
    "reverse": {"reverse": True},
    "reverse lengths": {"reverse": True, "lengths": torch.int64, "biases": "hh"},
    "one step": {"T": 1},
    "one step, bias_ih": {"T": 1, "biases": "ih"},
    "one step, lengths": {"T": 1, "lengths": torch.int64},
}
SIZES = [
    (1, 1, 1, 1),
    (2, 1, 3, 5),
    (4, 6, 1, 16),
    (5, 3, 33, 19),
    (3, 9, 17, 100),
    (17, 2, 8, 33),
    (2, 20, 4, 64),
    (2, 3, 530, 200),  # products in several blocks
    (60, 20, 3, 5),
    (300, 1, 7, 6),
]
GRADCHECK_FORMS = {name: FORMS[name] for name in ("plain", "bias_ih", "reverse lengths")}


def parity(op, kernel, dtype, **form):
    assert_parity_when_drawn(op, partial(sequence_inputs, op, **form), dtype, kernel)


def gradcheck(op, kernel, form):
    inputs = leaves(place(sequence_inputs(op, B=2, T=3, I=2, H=3, **form), kernel.device))
    names = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.requires_grad]

    def function(*tensors):
        return tuple(call(sk, op, inputs | dict(zip(names, tensors, strict=True))))

    assert torch.autograd.gradcheck(function, [inputs[name] for name in names])


def numpy_loops(op, anywhere, form):
    inputs = sequence_inputs(op, **form)
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    found = call(sk, op, place(inputs, anywhere.device))
    arrays = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    for y, expected in zip(found, oracles.sequence(op, arrays), strict=True):
        assert np.allclose(y.cpu(), expected, rtol=0, atol=1e-13)


def equals_torch(op, anywhere, dtype, reverse):
    """torch.nn's output and gradients; reverse against the reverse direction of a bidirectional one."""
    kind = torch.nn.LSTM if op == "lstm" else torch.nn.GRU
    module = kind(6, 9, batch_first=True, bidirectional=True).to(anywhere.device, dtype)
    r = Random(3)
    x = r.normal(4, 7, 6).to(anywhere.device, dtype).requires_grad_()
    states = [r.normal(2, 4, 9).to(anywhere.device, dtype).requires_grad_() for _ in range(1 if op == "gru" else 2)]
    output, last = module(x, tuple(states) if op == "lstm" else states[0])
    last = [last] if op == "gru" else list(last)
    expected = [output[..., 9:] if reverse else output[..., :9], *(y[int(reverse)] for y in last)]
    suffix = "_l0_reverse" if reverse else "_l0"
    weights = [getattr(module, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    mine = [s[int(reverse)] for s in states]
    output, last = getattr(sk, op)(x, tuple(mine) if op == "lstm" else mine[0], *weights, reverse=reverse)
    found = [output, *([last] if op == "gru" else last)]
    cotangents = [r.normal(*y.shape).to(anywhere.device, dtype) for y in expected]
    wanted = [x, *states, *weights]
    expected += torch.autograd.grad(expected, wanted, cotangents)
    found += torch.autograd.grad(found, wanted, cotangents)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-13
    for y, z in zip(found, expected, strict=True):
        assert (y - z).abs().max() <= tolerance * z.abs().max().clamp(min=1)


def equals_packed(op, anywhere, bidirectional):
    """lengths and reverse compute what torch.nn does with a packed sequence."""
    kind = torch.nn.LSTM if op == "lstm" else torch.nn.GRU
    module = kind(5, 8, batch_first=True, bidirectional=bidirectional).to(anywhere.device, torch.float64)
    inputs = place(sequence_inputs(op, B=4, T=6, I=5, H=8, lengths=torch.int64), anywhere.device)
    x, lengths = inputs["x"], inputs["lengths"]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    output, last = module(packed)
    output, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    last = [last] if op == "gru" else list(last)
    for d in range(1 + bidirectional):
        weights = module._flat_weights[4 * d : 4 * d + 4]
        zero = x.new_zeros(4, 8)
        mine = getattr(sk, op)(x, (zero, zero) if op == "lstm" else zero, *weights, lengths=lengths, reverse=d == 1)
        assert torch.allclose(mine[0], output[..., 8 * d : 8 * d + 8], rtol=0, atol=1e-14)
        for y, z in zip([mine[1]] if op == "gru" else mine[1], last, strict=True):
            assert torch.allclose(y, z[d], rtol=0, atol=1e-14)


def pair(kind, target, dtype=torch.float64, **form):
    """torch.nn's module and ours with the same weights."""
    theirs = getattr(torch.nn, kind)(5, 6, **form).to(target.device, dtype)
    ours = getattr(sk.nn, kind)(5, 6, **form).to(target.device, dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def flat(result):
    output, states = result
    return [output, *(states if isinstance(states, tuple) else (states,))]


def assert_same(found, expected, tolerance=1e-13):
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        assert torch.allclose(x, y, rtol=0, atol=tolerance), (x - y).abs().max()
