"""AdditiveAttention, AttentionGRU and AttentionLSTM: the ops with their parameters."""

import math

import pytest
import torch
from helpers import Random

import s2s_kernels as sk

FORMS = [
    {},
    {"num_heads": 2},
    {"feed_size": 4, "bias": False},
    {"num_heads": 2, "feed_size": 4, "normalize": True},
]

PARTS = [
    {"score": "general", "num_layers": 2},
    {"score": "dot", "hidden_size": 7, "feed_size": 4, "feed": "linear"},
    {"location": "previous", "location_size": 3, "normalize": True},
    {"location": "cumulative", "normalization": "sigmoid", "num_layers": 3, "feed": "gate"},
    {"location": "both", "location_size": 5, "normalization": "forward", "feed_size": 4},
    {"normalization": "forward"},
    {"num_heads": 2, "normalization": "sigmoid", "feed": "linear"},
]


def tensors(target, *shapes, dtype=torch.float64):
    r = Random(0)
    return [r.normal(*shape).to(target.device, dtype) for shape in shapes]


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("steps", [(), (3,)], ids=["one query", "T queries"])
def test_additive_attention_is_its_formula(anywhere, heads, normalize, bias, steps):
    module = sk.nn.AdditiveAttention(5, 6, 7, heads, normalize=normalize, bias=bias).to(anywhere.device).double()
    query, memory = tensors(anywhere, (2, *steps, 5), (2, 4, 6))
    mask = torch.tensor([[True, True, False, True], [True] * 4], device=anywhere.device)
    context, weights = module(query, memory, mask=mask)
    q = query @ module.query_layer.weight.T + (module.query_layer.bias if bias else 0)
    q = q.reshape(2, -1, 1, heads, 7)
    k = (memory @ module.key_layer.weight.T).reshape(2, 1, 4, heads, 7)
    v = module.v.reshape(heads, 7)
    if normalize:
        v = module.g.reshape(heads, 1) * v / v.norm(dim=-1, keepdim=True)
    scores = (torch.tanh(q + k) * v).sum(-1).masked_fill(~mask[:, None, :, None], -torch.inf)
    expected = torch.softmax(scores, 2).transpose(2, 3)  # (B, T, N, S)
    shape = (2, *steps, heads) if heads > 1 else (2, *steps)
    assert torch.allclose(weights, expected.reshape(*shape, 4), rtol=0, atol=1e-13)
    assert torch.allclose(context, (expected @ memory[:, None]).reshape(*shape, 6), rtol=0, atol=1e-13)


def test_normalised_starts_with_the_scale_of_tensorflow():
    module = sk.nn.AdditiveAttention(5, 6, 16, 3, normalize=True)
    assert torch.allclose(module.score_vector().norm(dim=-1), torch.full((3,), math.sqrt(1 / 16)))


def test_keys_are_projected_once(anywhere):
    module = sk.nn.AdditiveAttention(5, 6, 7).to(anywhere.device).double()
    query, memory, values, bias = tensors(anywhere, (2, 5), (2, 4, 6), (2, 4, 3), (2, 4))
    keys = module.project_keys(memory)
    for x, y in zip(module(query, memory), module(query, memory, keys=keys), strict=True):
        assert torch.equal(x, y)
    context, weights = module(query, None, values, keys=keys, bias=bias)
    expected = torch.softmax(torch.tanh(module.query_layer(query)[:, None] + keys) @ module.v + bias, 1)
    assert torch.allclose(weights, expected, rtol=0, atol=1e-13)
    assert torch.allclose(context, (expected[:, None] @ values)[:, 0], rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="memory is None"):
        module(query, None, keys=keys)


@pytest.mark.parametrize("kind", ["AttentionGRU", "AttentionLSTM"])
@pytest.mark.parametrize("form", FORMS + PARTS, ids=str)
@pytest.mark.parametrize("first", [False, True])
def test_steps_equal_the_scan(anywhere, kind, form, first):
    """Outputs and the gradients of every parameter."""
    sizes = {"input_size": 5, "hidden_size": 6, "key_size": 7, "attention_size": 8}
    decoder = getattr(sk.nn, kind)(**sizes | form).to(anywhere.device).double()
    many = decoder.num_layers > 1
    of_state = (*[decoder.num_layers] * many, 3, decoder.hidden_size)
    x, h0, c0, memory, first_feed = tensors(anywhere, (3, 4, 5), of_state, of_state, (3, 5, 7), (3, decoder.feed_size))
    start = h0 if kind == "AttentionGRU" else (h0, c0)
    source = {
        "lengths": torch.tensor([5, 2, 0], device=anywhere.device),
        "mask": torch.tensor([[True, False, True, True, True]], device=anywhere.device).expand(3, 5),
    }
    first_feed = first_feed if first else None
    more = {}
    if decoder.location is not None:
        more["first_weights"] = torch.rand(3, 5, dtype=torch.float64).to(anywhere.device)
    out = decoder(x, start, memory, first_feed=first_feed, **source, **more)
    keys = decoder.project_keys(memory)
    state = decoder.start(start, memory, keys=keys, first_feed=first_feed, **source, **more)
    states = [state]
    for t in range(4):
        state = decoder.step(x[:, t], state, memory, keys=keys, **source)
        states.append(state)
    found = [
        torch.stack([s.h[:, -1] if many else s.h for s in states[1:]], 1),
        torch.stack([s.context for s in states], 1),
        torch.stack([s.weights for s in states], 1),
        *([torch.stack([s.feed for s in states], 1)] if decoder.feed_layer is not None else []),
        *(x.transpose(0, 1) if many else x for x in states[-1][: 1 + (kind == "AttentionLSTM")]),
    ]
    expected = [y for name, y in zip(out._fields, out, strict=True) if name != "feeds" or decoder.feed_layer]
    cotangents = [Random(i).normal(*y.shape).to(y.device) for i, y in enumerate(expected)]
    for y, z in zip(found, expected, strict=True):
        assert torch.allclose(y, z, rtol=0, atol=1e-13)
    parameters = list(decoder.parameters())
    for y, z in zip(
        torch.autograd.grad(found, parameters, cotangents, materialize_grads=True, allow_unused=True),
        torch.autograd.grad(expected, parameters, cotangents),
        strict=True,
    ):
        assert torch.allclose(y, z, rtol=0, atol=1e-12)


def test_states_reorder_as_a_beam_search_does(anywhere):
    decoder = sk.nn.AttentionLSTM(5, 6, 7, 8, num_heads=2, feed_size=3).to(anywhere.device).double()
    x, h0, c0, memory = tensors(anywhere, (3, 5), (3, 6), (3, 6), (1, 4, 7))
    memory = memory.expand(3, 4, 7)  # one sentence, three hypotheses
    state = decoder.step(x, decoder.start((h0, c0), memory), memory)
    order = torch.tensor([2, 2, 0], device=anywhere.device)
    reordered = type(state)(*(field[order] for field in state))
    found = decoder.step(x[order], reordered, memory)
    expected = decoder.step(x, state, memory)
    for y, z in zip(found, expected, strict=True):
        assert torch.allclose(y, z[order], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"score": "cosine"}, "score is 'cosine', expected 'additive' or 'dot' or 'general'"),
        ({"score": "dot"}, "key_size is 7, expected 6 as the query"),
        ({"score": "general", "location": "both"}, "score is 'general' with normalize or location"),
        ({"num_heads": 2, "location": "both"}, "num_heads is 2, expected 1 with"),
        ({"num_layers": 0}, "num_layers is 0, expected 1 or more"),
        ({"location": "next"}, "location is 'next', expected"),
        ({"location": "both", "location_size": 4}, "location_size is 4, expected an odd number"),
        ({"feed": "gate", "feed_size": 4}, "feed_size is 4, expected 7"),
    ],
    ids=str,
)
def test_parts_that_there_are_not(form, message):
    with pytest.raises(ValueError, match=message):
        sk.nn.AttentionGRU(5, 6, 7, 8, **form)


def test_masks_of_one_call(anywhere):
    """What is made for one call goes to the op as it is."""
    decoder = sk.nn.AttentionLSTM(5, 6, 7, 8).to(anywhere.device).double()
    x, h0, c0, memory = tensors(anywhere, (3, 4, 5), (3, 6), (3, 6), (3, 5, 7))
    out = decoder(x, (h0, c0), memory, zone_h=torch.ones(3, 4, 6).to(x), zone_c=torch.ones(3, 4, 6).to(x))
    assert torch.equal(out.h_n, h0) and torch.equal(out.c_n, c0)


@pytest.mark.parametrize("kind", ["AttentionGRU", "AttentionLSTM"])
def test_parameters_load_from_the_layers_of_an_existing_decoder(kind):
    cell = getattr(torch.nn, "GRUCell" if kind == "AttentionGRU" else "LSTMCell")(5 + 4, 6)
    combine = torch.nn.Linear(6 + 7, 4)
    decoder = getattr(sk.nn, kind)(5, 6, 7, 8, feed_size=4)
    decoder.cell.load_state_dict(cell.state_dict())
    decoder.feed_layer.load_state_dict(combine.state_dict())
    assert torch.equal(decoder.cell.weight_ih, cell.weight_ih)


@pytest.mark.parametrize("kind", ["AttentionGRU", "AttentionLSTM"])
def test_errors_name_the_argument(kind):
    decoder = getattr(sk.nn, kind)(5, 6, 7, 8)
    h0 = torch.randn(3, 6)
    state = h0 if kind == "AttentionGRU" else (h0, h0)
    with pytest.raises(ValueError, match="weight_ih"):  # x decides what weight_ih must be
        decoder(torch.randn(3, 2, 4), state, torch.randn(3, 5, 7))
    with pytest.raises(ValueError, match="h0"):
        decoder(torch.randn(2, 2, 5), state, torch.randn(2, 5, 7))
    with pytest.raises(ValueError, match="first_feed"):
        decoder(torch.randn(3, 2, 5), state, torch.randn(3, 5, 7), first_feed=torch.randn(3, 6))
