"""The attention decoder of the model layer as one op, against the loop of its own steps under the same dropout."""

import pytest
import torch

from s2s.model.config import Config
from s2s.model.decoder import Decoder, loop_reason
from s2s_kernels import nn as fused

B, S, T = 3, 5, 4
SIZES = {"embedding_size": 6, "encoder_size": 5, "hidden_size": 10, "attention_size": 7, "readout_size": 6}
AFTER = {"order": "after", "feed": "attentional"}
FORMS = {
    "additive": {},
    "additive, heads": {"attention_heads": 2},
    "concat, normalised": {"attention": "concat", "normalize_attention": True, **AFTER},
    "dot": {"attention": "dot"},
    "dot, attentional": {"attention": "dot", **AFTER},
    "general": {"attention": "general", "order": "after"},
    "general, heads": {"attention": "general", "attention_heads": 2, **AFTER},
    "two layers": {"decoder_layers": 2, "attention_layer": "top"},
    "two cells": {"order": "between", "attention_heads": 2},
    "two cells, general": {"order": "between", "attention": "general"},
    "three layers, dot": {"decoder_layers": 3, "attention": "dot", **AFTER},
}
# "state" is [c;h] of an LSTM and h of a GRU; a dot score of [c;h] needs a memory as wide.
STATE = {
    "asked with the state": {"attention_query": "state", "attention_heads": 2},
    "asked with the state, general": {"attention_query": "state", "attention": "general", "attention_heads": 2},
    "asked with the state, layers": {"attention_query": "state", "decoder_layers": 2, **AFTER},
}


def loop(cell, options, **dropout):
    torch.manual_seed(3)
    config = Config(**SIZES | options | {"cell": cell, "dropout": 0.0} | dropout)
    assert loop_reason(config) is None
    return Decoder(config).double().scan


def arguments(scan, lengths=(5, 1, 3)):
    """x, first states, memory, lengths and first feed; all but the lengths need a gradient."""
    random = lambda *shape: torch.randn(*shape, dtype=torch.float64).requires_grad_()
    size = scan.cell.hidden_size
    cells = tuple(tuple(random(B, size) for _ in range(2 if scan.lstm else 1)) for _ in scan.cells)
    return random(B, T, 6), cells, random(B, S, 10), torch.tensor(lengths), random(B, scan.feed_size)


def run(scan, how, inputs, given):
    """Outputs, and the gradients of a sum of them by every parameter and input."""
    x, cells, memory, lengths, first_feed = inputs
    first_feed = first_feed if given else None
    keys = scan.project_keys(memory)
    outputs = getattr(scan, how)(x, cells, memory, keys, lengths, first_feed, scan.masks(x, T))
    torch.manual_seed(5)
    loss = sum((torch.randn_like(y) * y).sum() for y in outputs)
    leaves = [
        x,
        memory,
        *(part for cell in cells for part in cell),
        *scan.parameters(),
        *([first_feed] if given else []),
    ]
    return [*outputs, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("dropout", [{}, {"dropout": 0.3, "loop_dropout": 0.4}], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("options", (FORMS | STATE).values(), ids=(FORMS | STATE).keys())
def test_one_op_equals_its_steps(options, cell, dropout):
    scan = loop(cell, options, **dropout).train()
    inputs = arguments(scan)
    for given in (False,) if scan.transition else (True, False):  # no feed comes before the first of two cells
        found = []
        for how in ("_run_op", "_run_steps"):
            torch.manual_seed(4)  # the masks
            found.append(run(scan, how, inputs, given))
        for mine, expected in zip(*found, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)
    scan.one_op = False  # and what the model calls is one of the two
    torch.manual_seed(4)
    with torch.no_grad():
        x, cells, memory, lengths, _ = inputs
        called = scan(x, cells, memory, keys=scan.project_keys(memory), lengths=lengths)
    for mine, expected in zip(called, found[1]):
        torch.testing.assert_close(mine, expected)


def test_where_dropout_falls():
    """Of a whole number of steps one mask each, with factors 0 and 1 / (1 - p); none in evaluation."""
    scan = loop("gru", FORMS["three layers, dot"], dropout=0.25, loop_dropout=0.5)
    masks = scan.masks(torch.ones(B, T, 6), T)
    assert {name: tuple(mask.shape) for name, mask in masks.items()} == {
        "drop_fed": (B, T, 6),
        "drop_attended": (B, T + 1, 20),
        "drop_layers": (2, B, T, 10),
    }
    assert set(masks["drop_fed"].unique().tolist()) == {0, 2} == set(masks["drop_attended"].unique().tolist())
    torch.testing.assert_close(masks["drop_layers"].unique(), torch.tensor([0, 1 / 0.75]))
    assert not scan.eval().masks(torch.ones(B, T, 6), T)
    assert set(loop("gru", {}, loop_dropout=0.5).masks(torch.ones(B, T, 6), T)) == {"drop_fed"}
    assert set(loop("gru", FORMS["two layers"], dropout=0.5).masks(torch.ones(B, T, 6), T)) == {"drop_layers"}
    assert not loop("gru", {}, dropout=0.5).masks(torch.ones(B, T, 6), T)


def test_dropout_of_all_that_is_fed_leaves_the_inputs_alone():
    """With what is fed dropped out whole, another memory makes the same states, over all steps and step by step."""
    scan = loop("gru", FORMS["dot"]).eval()
    (x, cells, memory, lengths, _), other = arguments(scan), torch.randn(B, S, 10, dtype=torch.float64)
    none = {"drop_fed": torch.zeros(B, T, scan.feed_size, dtype=torch.float64)}
    for how in (scan._run_op, scan._run_steps):
        a, b = (how(x, cells, m, m, lengths, None, none) for m in (memory, other))
        torch.testing.assert_close(a.states, b.states)
        assert (a.contexts - b.contexts).abs().max() > 0.1


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("options", [{}, {**AFTER, "attention_heads": 2, "attention_bias": False}])
def test_one_seed_keeps_making_one_model(options, cell):
    """The plain decoder's initial values are those of the modules of s2s_kernels.nn, of which it was made."""
    config = Config(**SIZES | options | {"cell": cell})
    heads, feed_size = config.attention_heads, 6 if options else None
    torch.manual_seed(8)
    found = Decoder(config).scan
    torch.manual_seed(8)
    kind = fused.AttentionGRU if cell == "gru" else fused.AttentionLSTM
    expected = kind(6, 10, 10, 7, num_heads=heads, feed_size=feed_size)
    expected.attention = fused.AdditiveAttention(10, 10, 7, heads, bias=config.attention_bias)
    mine, theirs = found.state_dict(), expected.state_dict()
    assert set(mine) == set(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)
