"""The model: the scan against single steps, padding, and every choice of the configuration."""

import pytest
import torch

from s2s.model import Seq2Seq
from s2s.model.config import Config
from s2s.search.beam import beam_search
from s2s.search.forced import force
from s2s.text.data import make_batch, source_batch
from s2s.text.vocab import BOS

SMALL = {
    "embedding_size": 6,
    "encoder_size": 5,
    "hidden_size": 10,
    "attention_size": 7,
    "readout_size": 6,
    "dropout": 0.0,
    "vocab_size": 0,
}
VARIANTS = {
    "bahdanau": {},
    "lstm": {"cell": "lstm"},
    "unidirectional": {"bidirectional": False},
    "two layers": {"encoder_layers": 2, "cell": "lstm"},
    "heads": {"attention_heads": 2},
    "normalized": {"normalize_attention": True},
    "last state": {"initial_state": "last"},
    "zero state": {"initial_state": "zeros", "cell": "lstm"},
    "zero context": {"first_context": "zeros"},
    "state": {"readout": "state"},
    "state and context": {"readout": "state_context"},
    "deep": {"readout": "state_context_input", "attention_heads": 2},
    "tied": {"tied_embeddings": True, "shared_vocab": True},
    "tensorflow": {"order": "after", "readout": "state_context"},
    "tensorflow, initial attention": {"order": "after", "first_context": "attend"},
    "luong": {"order": "after", "feed": "attentional"},
    "luong lstm": {"order": "after", "feed": "attentional", "cell": "lstm", "attention_heads": 2},
    "reset before": {"gru_reset": "before", "encoder_layers": 2},
    "two decoder layers": {"decoder_layers": 2, "encoder_layers": 2, "initial_state": "last"},
    "two decoder layers, no feeding": {"decoder_layers": 2, "order": "after", "feed": "none", "cell": "lstm"},
    "no attention": {"attention": "none"},
    "fixed": {"attention": "fixed", "readout": "maxout"},
    "fixed, read only": {"attention": "fixed", "feed": "none", "readout": "linear", "cell": "lstm"},
    "backward state": {"initial_state": "backward", "readout": "maxout", "attention_bias": False},
    "dot": {"attention": "dot", "order": "after", "feed": "none"},
    "dot, fed": {"attention": "dot"},
    "general": {"attention": "general", "attention_heads": 2, "order": "after", "feed": "none"},
    "general, fed": {"attention": "general", "attention_heads": 2, "order": "after", "feed": "attentional"},
    "concat": {"attention": "concat", "order": "after", "feed": "attentional", "cell": "lstm"},
    "local-m": {"attention_window": "local-m", "order": "after", "feed": "none", "window_size": 1},
    "local-m, before": {"attention_window": "local-m", "window_size": 1, "attention_heads": 2},
    "local-m, fed": {"attention_window": "local-m", "order": "after", "feed": "attentional", "window_size": 1},
    "local-m, general": {
        "attention_window": "local-m",
        "window_size": 1,
        "attention": "general",
        "attention_heads": 2,
        "order": "after",
        "feed": "none",
    },
    "local-p": {"attention_window": "local-p", "order": "after", "feed": "none", "window_size": 1, "cell": "lstm"},
    "local-p, heads": {
        "attention_window": "local-p",
        "window_size": 2,
        "attention_heads": 2,
        "order": "after",
        "feed": "none",
    },
    "local-p, dot, fed": {"attention_window": "local-p", "window_size": 2, "attention": "dot"},
    "luong, two layers": {
        "attention": "general",
        "order": "after",
        "feed": "attentional",
        "decoder_layers": 2,
        "cell": "lstm",
    },
    "the top of three layers": {"decoder_layers": 3, "attention_layer": "top", "attention": "dot"},
    "local-m, two layers": {"decoder_layers": 2, "attention_layer": "top", "attention_window": "local-m"},
    "asked with c and h": {"cell": "lstm", "attention_query": "state", "attention_heads": 2},
    "general, asked with c and h": {"cell": "lstm", "attention_query": "state", "attention": "general"},
    "two cells": {"order": "between", "initial_state": "mean", "readout": "tanh_input"},
    "two cells, lstm": {"order": "between", "cell": "lstm", "attention_heads": 2, "attention_query": "state"},
    "two cells, reset before": {"order": "between", "gru_reset": "before", "initial_state": "mean"},
    "two cells, local-m": {"order": "between", "attention_window": "local-m", "window_size": 1},
    "two cells under a layer": {"order": "between", "decoder_layers": 2},
    "no feeding": {"order": "after", "feed": "none"},
    "no feeding, lstm": {"order": "after", "feed": "none", "cell": "lstm", "attention_heads": 2},
}
ROWS = [([4, 5, 6, 7, 8], [4, 5, 6]), ([9, 4], [7, 7, 8, 9, 4]), ([5], [6])]


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def config(request):
    return Config(**SMALL | request.param)


def build(config):
    torch.manual_seed(1)
    return Seq2Seq(config, 10, 10).double().eval()


def test_stepping_equals_the_scan(config):
    model, batch = build(config), make_batch(ROWS)
    features, weights = model(batch.source, batch.source_lengths, batch.inputs)
    expected = torch.log_softmax(model.output(features), -1)
    memory, state = model.start(batch.source, batch.source_lengths)
    for t in range(batch.inputs.shape[1]):
        logp, looked, state = model.step(batch.inputs[:, t], state, memory)
        torch.testing.assert_close(logp.double(), expected[:, t], rtol=1e-5, atol=1e-5)
        if config.attends:
            torch.testing.assert_close(looked, weights[:, t])
        else:
            assert looked is None and weights is None
        assert all(len(field) == len(ROWS) for field in state)
    if config.attends and config.attention_window != "local-p":
        assert (weights.sum(-1) - 1).abs().max() < 1e-9


def test_a_beam_carries_every_state(config):
    """What a beam search finds has the score that teacher forcing gives it, in rows that end at different times."""
    model = build(config)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)  # untrained weights make every output alike; these have opinions
    sources = [source for source, _ in ROWS]
    found = beam_search(model, *source_batch(sources), 7, beam=3, n_best=2)
    for source, best in zip(sources, found, strict=True):
        forced = force(model, make_batch([(source, hypothesis.ids) for hypothesis in best]))
        assert [h.score for h in forced] == pytest.approx([h.score for h in best], abs=1e-4)


def test_padding_does_not_change_the_loss(config):
    """A batch costs what its rows cost one at a time, and its gradient is theirs."""
    model, batch = build(config), make_batch(ROWS)
    loss = model.loss(batch)
    loss.backward()
    together = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    alone = sum(model.loss(make_batch([row])) for row in ROWS)
    alone.backward()
    torch.testing.assert_close(loss, alone)
    for name, p, grad in zip(dict(model.named_parameters()), model.parameters(), together, strict=True):
        torch.testing.assert_close(grad, p.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_every_parameter_learns(config):
    model = build(config)
    model.loss(make_batch(ROWS)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_autocast(config):
    """bfloat16 changes the loss by its rounding, and every gradient is finite and in the weights' dtype."""
    model, batch = build(config).float(), make_batch(ROWS)
    expected = model.loss(batch).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=0.02)
    for p in model.parameters():
        assert p.grad.dtype == torch.float32 and p.grad.isfinite().all()


def test_the_loss_is_the_negative_log_likelihood():
    model, batch = build(Config(**SMALL)), make_batch(ROWS)
    features, _ = model(batch.source, batch.source_lengths, batch.inputs)
    logp = torch.log_softmax(model.output(features), -1)
    expected = sum(-logp[b, t, token] for b, (_, target) in enumerate(ROWS) for t, token in enumerate([*target, 3]))
    torch.testing.assert_close(model.loss(batch), expected)
    smoothed = model.loss(batch, label_smoothing=0.1)
    real = batch.outputs != 0
    torch.testing.assert_close(smoothed, 0.9 * expected - 0.1 * logp.mean(-1)[real].sum())


def test_a_token_cannot_see_later_ones():
    model, batch = build(Config(**SMALL)), make_batch(ROWS)
    changed = batch.inputs.clone()
    changed[:, 2:] = 9
    a, b = (model(batch.source, batch.source_lengths, x)[0] for x in (batch.inputs, changed))
    assert torch.equal(a[:, :2], b[:, :2]) and not torch.equal(a[:, 2:], b[:, 2:])


@pytest.mark.parametrize(
    "options", [{"encoder_layers": 2}, {"decoder_layers": 2}, {"decoder_layers": 2, "order": "after", "feed": "none"}]
)
def test_dropout_is_between_layers_too(options):
    """With the dropout of embeddings, memory and readout off, what is left is that between the layers."""
    model, batch = build(Config(**SMALL | options | {"dropout": 0.5})).train(), make_batch(ROWS)
    model.dropout.p = model.encoder.dropout.p = 0.0
    a, b = (model(batch.source, batch.source_lengths, batch.inputs)[0] for _ in range(2))
    assert not torch.equal(a, b)
    model.eval()
    a, b = (model(batch.source, batch.source_lengths, batch.inputs)[0] for _ in range(2))
    assert torch.equal(a, b)


def test_the_seed_decides_the_initial_values():
    from s2s.training import build_model

    vocab = range(10)
    a, b, c = (build_model(Config(**SMALL, seed=seed), vocab, vocab) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.output.weight, c.output.weight)
    assert not a.embedding.weight[0].any() and BOS != 0
