from functools import partial

import numpy as np
import oracles
import pytest
import torch
from helpers import (
    DTYPES,
    assert_parity,
    assert_parity_of_draws,
    assert_parity_when_drawn,
    attention_inputs,
    call,
    leaves,
    place,
    targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import s2s_kernels as sk

OP = "additive_attention"
FORMS = {
    "one query": {},
    "T queries": {"T": 5},
    "lengths": {"lengths": torch.int64},
    "lengths32": {"T": 4, "lengths": torch.int32},
    "mask": {"mask": True},
    "T mask": {"T": 4, "mask": True},
    "both": {"T": 3, "lengths": torch.int64, "mask": True},
    "bias": {"bias": 2},
    "T bias": {"T": 4, "bias": 2},
    "T bias of each": {"T": 4, "bias": 3, "lengths": torch.int64},
    "heads": {"N": 3},
    "T heads": {"T": 4, "N": 2},
    "one head": {"T": 2, "N": 1},
    "all": {"T": 4, "N": 3, "lengths": torch.int32, "mask": True, "bias": 3},
    "heads bias": {"N": 2, "bias": 2, "mask": True},
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_parity(kernel, dtype, form):
    assert_parity(OP, attention_inputs(**form), dtype, kernel)


# Sizes that leave tails in vectors of any width, and sizes of one.
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("S", "A", "D"),
    [
        (1, 1, 1),
        (1, 17, 7),
        (2, 3, 33),
        (5, 33, 1),
        (17, 8, 16),
        (19, 100, 31),
        (33, 64, 65),
        (70, 15, 5),
        (9, 257, 3),
    ],
)
@pytest.mark.parametrize("T", [None, 3])
def test_sizes(kernel, dtype, S, A, D, T):
    make = partial(attention_inputs, S=S, A=A, D=D, T=T, lengths=torch.int64)
    assert_parity_when_drawn(OP, make, dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [None, 6])
@pytest.mark.parametrize("S", [9, 33, 200])
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "off by one"])
def test_wide_loads_and_split_sources(kernel, dtype, T, S, shift):
    """Sizes that vectors divide, in memory that they may and may not read; sources long enough to be split."""

    def shifted(x):
        memory = torch.full((x.numel() + 8,), float("nan"), dtype=x.dtype, device=x.device)
        return memory[shift : shift + x.numel()].view(x.shape).copy_(x)

    inputs = attention_inputs(B=2, S=S, A=64, D=40, T=T, N=2, lengths=torch.int64, mask=True)
    inputs["lengths"][1] = 5  # nothing valid in the later parts
    assert_parity(OP, inputs, dtype, kernel, layout=shifted)


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("B", "T", "N"), [(66, 7, 1), (33, 9, 2)])
@pytest.mark.parametrize("S", [9, 300])
def test_several_queries_of_many_rows(kernel, dtype, B, T, N, S):
    """As many rows as fill a GPU: a block then has several queries, the last fewer, and nothing is split."""
    inputs = attention_inputs(B=B, S=S, A=16, D=8, T=T, N=N, lengths=torch.int64, mask=True)
    assert_parity(OP, inputs, dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [None, 2])
def test_saturated_scores(kernel, dtype, T):
    """Queries and keys of scale 100: tanh is at its ends nearly everywhere."""
    assert_parity(OP, attention_inputs(T=T, A=33, scale=100.0, lengths=torch.int64), dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_saturated_softmax(kernel, dtype):
    """A v of scale 100: one weight is nearly 1."""
    draws = [attention_inputs(T=3, seed=seed) for seed in range(8)]
    for inputs in draws:
        inputs["v"] *= 100
    assert_parity_of_draws(OP, draws, dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [10.0, 21.0, 22.0, 43.0, 60.0, 500.0])
@pytest.mark.parametrize("T", [None, 3])
def test_large_query_meets_large_negative_key(kernel, dtype, offset, T):
    """q + k is ordinary while exp(2q) and exp(2k) are not: clamping either would give wrong answers.

    Both signs, and rows where only some elements are large.
    """
    inputs = attention_inputs(B=4, S=9, A=33, T=T)
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    large = torch.ones(4, 33, dtype=torch.float64)
    large[2, ::2] = 0  # every other element
    large[3, 1:] = 0  # one element
    shift = offset * sign[:, None] * large
    inputs["query"] += shift if T is None else shift[:, None]
    inputs["keys"] -= shift[:, None]
    assert_parity(OP, inputs, dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_keys_of_one_position(kernel, dtype):
    """Large and ordinary positions in one row, of both signs, and large ones that are masked."""
    inputs = attention_inputs(B=2, S=12, A=20, T=3, mask=True)
    inputs["keys"][:, 3] += 70
    inputs["keys"][:, 5] -= 70
    inputs["keys"][:, 7] = 1e4
    inputs["mask"][:, 3], inputs["mask"][:, 5], inputs["mask"][:, 7] = True, True, False
    assert_parity(OP, inputs, dtype, kernel)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", [{}, {"T": 24}, {"T": 8, "N": 4, "bias": 3}], ids=["one query", "T queries", "heads"])
def test_larger(kernel, dtype, form):
    assert_parity(OP, attention_inputs(B=6, S=50, A=128, D=96, lengths=torch.int64, **form), dtype, kernel)


# Values of a mean make gradients of the weights that are much alike: all that they share cancels in the gradient of the
# query, and what is left of a rounding that they share does not.
@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("T", [None, 2], ids=["one query", "T queries"])
@pytest.mark.parametrize(("S", "offset"), [(1000, 0.0), (1000, 5.0), (20_000, 0.0), (20_000, 5.0)])
def test_long_sources(kernel, S, offset, T):
    draws = [attention_inputs(B=2, S=S, A=24, D=16, T=T, seed=seed) for seed in range(4)]
    for inputs in draws:
        inputs["values"] += offset
    assert_parity_of_draws(OP, draws, torch.float32, kernel)


@settings(max_examples=30)
@given(
    B=st.integers(1, 5), S=st.integers(1, 40), A=st.integers(1, 70), D=st.integers(1, 40),
    T=st.none() | st.integers(1, 6), N=st.none() | st.integers(1, 3),
    lengths=st.sampled_from([None, torch.int64]), mask=st.booleans(),
    bias=st.sampled_from([None, 2]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape(B, S, A, D, T, N, lengths, mask, bias, seed):
    inputs = attention_inputs(B, S, A, D, T, N, lengths, mask, bias, seed=seed)
    for target in targets(reference=False):
        with sk.backend(target.backend):
            assert_parity(OP, inputs, torch.float32, target)


@pytest.mark.parametrize(
    "form",
    [{}, {"T": 2}, {"T": 2, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3}, {"N": 2, "bias": 2}],
)
def test_gradcheck(kernel, form):
    inputs = leaves(place(attention_inputs(B=2, S=4, A=3, D=2, **form), kernel.device))
    names = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.requires_grad]

    def function(*tensors):
        return tuple(call(sk, OP, inputs | dict(zip(names, tensors, strict=True))))

    assert torch.autograd.gradcheck(function, [inputs[name] for name in names])


@pytest.mark.parametrize("lengths", [None, torch.int64])
@pytest.mark.parametrize("bias", [None, 3])
def test_scalar_loops(anywhere, lengths, bias):
    """Against math.tanh and math.exp, one element after another."""
    inputs = attention_inputs(B=3, S=6, A=5, D=4, T=2, N=2, lengths=lengths, mask=True, bias=bias)
    context, weights = call(sk, OP, place(inputs, anywhere.device))
    a = {name: x.numpy() for name, x in inputs.items()}
    for b, t, n in np.ndindex(3, 2, 2):
        valid = a["mask"][b] if lengths is None else a["mask"][b] & (np.arange(6) < a["lengths"][b])
        c, w = oracles.attention(
            a["query"][b, t, n],
            a["keys"][b, :, n],
            a["values"][b],
            a["v"][n],
            valid,
            bias and a["bias"][b, t],
        )
        assert np.allclose(context[b, t, n].cpu(), c, rtol=0, atol=1e-13)
        assert np.allclose(weights[b, t, n].cpu(), w, rtol=0, atol=1e-13)


def test_the_eager_code_it_replaces(anywhere):
    """What a Bahdanau layer in plain torch.nn computes."""
    query, keys, values, v = place(attention_inputs(B=2, S=5), anywhere.device).values()
    score = torch.nn.functional.linear(torch.tanh(query[:, None] + keys), v[None])
    weights = torch.softmax(score, 1)
    context = (weights * values).sum(1)
    found = sk.additive_attention(query, keys, values, v)
    assert torch.allclose(found[0], context, rtol=0, atol=1e-14)
    assert torch.allclose(found[1], weights[..., 0], rtol=0, atol=1e-14)


def test_one_query_is_T_of_one(anywhere):
    inputs = place(attention_inputs(N=2, lengths=torch.int64), anywhere.device)
    one = call(sk, OP, inputs)
    many = call(sk, OP, inputs | {"query": inputs["query"][:, None]})
    for x, y in zip(one, many, strict=True):
        assert torch.allclose(x, y[:, 0], rtol=0, atol=1e-14)


def test_weights_sum_to_one(anywhere):
    inputs = attention_inputs(T=3, N=2, lengths=torch.int64, mask=True, scale=5.0)
    _, weights = call(sk, OP, place(inputs, anywhere.device, torch.float32))
    assert torch.allclose(weights.sum(-1), torch.ones_like(weights.sum(-1)), rtol=0, atol=1e-6)
    valid = inputs["mask"] & (torch.arange(7) < inputs["lengths"][:, None])
    assert (weights.cpu().masked_select(~valid[:, None, None]) == 0).all()
