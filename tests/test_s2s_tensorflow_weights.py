"""Weights from Keras and TensorFlow 1 against the cells written from their documentation, and what is refused."""

import preset_oracles as oracles
import pytest
import torch

import s2s_kernels as sk
from s2s import tensorflow_weights as foreign

I, H = 5, 6


@pytest.mark.parametrize("after", [True, False], ids=["reset after", "reset before"])
def test_a_keras_gru_loads(after):
    parameters, step = oracles.keras_gru(after)
    p = parameters(oracles.randoms(), I, H)
    gru = (sk.nn.GRU if after else sk.nn.ResetBeforeGRU)(I, H, batch_first=True).double()
    gru.load_state_dict(foreign.keras_gru(*(array.detach().numpy() for array in p.values()), suffix="_l0"))
    x, h = torch.randn(1, 4, I, dtype=torch.float64), torch.zeros(H, dtype=torch.float64)
    output, _ = gru(x)
    for t in range(4):
        h = step(p, x[0, t], h)
        torch.testing.assert_close(output[0, t], h, rtol=1e-12, atol=1e-13)


def test_a_tensorflow_lstm_loads():
    """BasicLSTMCell: i, j, f, o = [x, h] W + b; c' = sigmoid(f + 1) c + sigmoid(i) tanh(j)."""
    r = oracles.randoms()
    kernel, bias = r(I + H, 4 * H).detach(), r(4 * H).detach()
    cell = sk.nn.LSTMCell(I, H).double()
    cell.load_state_dict(foreign.tf1_lstm(kernel.numpy(), bias.numpy()))
    x, h, c = (torch.randn(1, size, dtype=torch.float64) for size in (I, H, H))
    i, j, f, o = (torch.cat([x, h], 1) @ kernel + bias).split(H, 1)
    expected = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(j)
    found_h, found_c = cell(x, (h, c))
    torch.testing.assert_close(found_c, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found_h, torch.sigmoid(o) * torch.tanh(expected), rtol=1e-12, atol=1e-13)


def test_no_bias_is_a_zero_bias():
    weights = foreign.keras_gru(torch.randn(I, 3 * H), torch.randn(H, 3 * H))
    assert weights["bias_ih"].shape == weights["bias_hh"].shape == (3 * H,) and not weights["bias_hh"].any()
    assert not foreign.keras_lstm(torch.randn(I, 4 * H), torch.randn(H, 4 * H))["bias_ih"].any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: foreign.keras_gru(torch.ones(I, 4 * H), torch.ones(H, 3 * H)), "kernel has shape (5, 24), expected"),
        (lambda: foreign.keras_gru(torch.ones(I, 3 * H), torch.ones(H, H)), "recurrent_kernel has shape (6, 6)"),
        (lambda: foreign.keras_gru(torch.ones(I, 18), torch.ones(H, 18), torch.ones(9)), "bias has shape (9,)"),
        (lambda: foreign.keras_lstm(torch.ones(I, 24), torch.ones(H, 24), torch.ones(2, 24)), "bias has shape (2, 24)"),
        (
            lambda: foreign.tf1_gru(torch.ones(11, 6), torch.ones(12), torch.ones(11, 6), torch.ones(6)),
            "gates_kernel has shape (11, 6), expected (any, 12)",
        ),
    ],
)
def test_a_wrong_shape_is_named(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
