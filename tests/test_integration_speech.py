"""What the integrations of the speech packages share, against PyTorch's own; the packages: tests/integrations."""

import pytest
import torch
from torch import nn

from s2s_kernels.integrations import speech

ROWS, STEPS, SOURCE, INPUT, SIZE = 3, 5, 7, 4, 6


def double(*shape):
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def carrying(x, cell, drop_h=None, drop_c=None, zone_h=None, zone_c=None):
    """The LSTM as a loop of its cell, which a package would write."""
    state, states = (x.new_zeros(ROWS, SIZE), x.new_zeros(ROWS, SIZE)), []
    for t in range(STEPS):
        new = list(cell(x[:, t], state))
        for i, (drop, zone) in enumerate(((drop_h, zone_h), (drop_c, zone_c))):
            if drop is not None:
                new[i] = new[i] * drop[:, t]
            if zone is not None:
                new[i] = zone[:, t] * state[i] + (1 - zone[:, t]) * new[i]
        state = tuple(new)
        states.append(state[0])
    return torch.stack(states, 1)


@pytest.mark.parametrize("names", [(), ("drop_h",), ("zone_h", "zone_c"), ("drop_h", "drop_c", "zone_h")])
@pytest.mark.parametrize("bias", [True, False])
def test_an_lstm_with_parts_is_the_loop_of_its_cell(names, bias):
    torch.manual_seed(0)
    cell, x = nn.LSTMCell(INPUT, SIZE, bias=bias, dtype=torch.float64), double(ROWS, STEPS, INPUT)
    parts = {name: torch.rand(ROWS, STEPS, SIZE, dtype=torch.float64) for name in names}
    found = []
    for run in (carrying, speech.lstm):
        states = run(x, cell, **parts)
        found.append([states, *torch.autograd.grad(states.square().sum(), [x, *cell.parameters()])])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_parts_that_are_none_leave_the_plain_lstm():
    torch.manual_seed(0)
    cell, x = nn.LSTMCell(INPUT, SIZE, dtype=torch.float64), double(ROWS, STEPS, INPUT)
    assert torch.equal(speech.lstm(x, cell, drop_h=None), speech.lstm(x, cell))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_location_is_a_convolution_and_a_dense_layer(dimensions):
    torch.manual_seed(0)
    channels, filters, width = (2, 3, 5) if dimensions == 1 else (1, 3, 5)
    dense, history = double(SIZE, filters), double(ROWS, channels, SOURCE)
    if dimensions == 1:
        convolution = double(filters, channels, width)
        found = nn.functional.conv1d(history, convolution, padding=width // 2)
    else:  # as ESPnet has it
        convolution = double(filters, channels, 1, width)
        found = nn.functional.conv2d(history.unsqueeze(2), convolution, padding=(0, width // 2)).squeeze(2)
    truth = nn.functional.linear(found.transpose(1, 2), dense)
    parts = speech.location(dense, convolution)
    ours = nn.functional.conv1d(history, parts["w_location"], padding=width // 2)
    ours = nn.functional.linear(ours.transpose(1, 2), parts["w_dense"])
    torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-12)


def test_uniform_weights_of_a_row_without_a_source_are_zero():
    like = torch.empty(3, 4, 2, dtype=torch.float64)
    weights = speech.uniform(torch.tensor([4, 0, 3]), like)
    truth = torch.tensor([[0.25] * 4, [0.0] * 4, [1 / 3] * 3 + [0.0]], dtype=torch.float64)
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights, truth)


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_a_hook_inside_is_seen_and_one_on_the_decoder_is_not(register):
    decoder = nn.ModuleDict({"attention": nn.Sequential(nn.Linear(1, 1))})
    getattr(decoder, register)(lambda *_: None)
    assert not speech.watched(decoder)
    handle = getattr(decoder["attention"][0], register)(lambda *_: None)
    assert speech.watched(decoder)
    handle.remove()
    assert not speech.watched(decoder)
