"""The loss over the vocabulary against F.cross_entropy."""

import pytest
import torch
from helpers import Random, assert_within_rule, error
from torch.nn.functional import cross_entropy, linear

from s2s import loss

NAMES = ("loss", "d features", "d weight", "d bias")


def eager(features, weight, bias, targets, smoothing):
    return cross_entropy(linear(features, weight, bias), targets, label_smoothing=smoothing, reduction="sum")


def run(function, inputs, targets, smoothing):
    """The loss, three times over so that the incoming gradient is not 1, and its gradients."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = function(*inputs, targets, smoothing)
    return dict(zip(NAMES, (value.detach(), *torch.autograd.grad(3 * value, inputs))))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("chunk", [1, 700, 1 << 20])
def test_it_is_cross_entropy(smoothing, scale, chunk, monkeypatch):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    r = Random()
    inputs = [x.float() for x in (r.normal(37, 19, scale=scale), r.normal(101, 19), r.normal(101))]
    targets = torch.randint(0, 101, (37,), generator=r.generator)
    truth = run(eager, [x.double() for x in inputs], targets, smoothing)
    errors = {name: error(value, truth[name]) for name, value in run(eager, inputs, targets, smoothing).items()}
    found = run(loss.linear_cross_entropy, inputs, targets, smoothing)
    assert_within_rule([(found, errors, truth)], torch.float32, "linear_cross_entropy")
    double = run(loss.linear_cross_entropy, [x.double() for x in inputs], targets, smoothing)
    for name, value in double.items():
        torch.testing.assert_close(value, truth[name], rtol=1e-12, atol=1e-12)


def test_nothing_to_learn_and_no_rows():
    r = Random()
    inputs = [x.float() for x in (r.normal(0, 5), r.normal(7, 5), r.normal(7))]
    none = torch.zeros(0, dtype=torch.long)
    assert loss.linear_cross_entropy(*inputs, none).item() == 0
    found = run(loss.linear_cross_entropy, inputs, none, 0.1)
    assert not found["d weight"].any() and found["d features"].shape == (0, 5)


def test_autocast_multiplies_in_its_dtype_and_sums_in_float32():
    r = Random()
    inputs = [x.float() for x in (r.normal(64, 32), r.normal(50, 32), r.normal(50))]
    targets = torch.randint(0, 50, (64,), generator=r.generator)
    truth = run(eager, [x.double() for x in inputs], targets, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        errors = {name: error(value, truth[name]) for name, value in run(eager, inputs, targets, 0.1).items()}
        found = run(loss.linear_cross_entropy, inputs, targets, 0.1)
    assert found["loss"] != run(loss.linear_cross_entropy, inputs, targets, 0.1)["loss"]
    assert_within_rule([(found, errors, truth)], torch.float32, "linear_cross_entropy under autocast")
