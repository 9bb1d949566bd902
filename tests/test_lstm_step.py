import pytest
import torch
from helpers import DTYPES, assert_parity, leaves, place, step_inputs

import s2s_kernels as sk

OP = "lstm_step"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("B", "H"), [(1, 1), (3, 5), (2, 16), (5, 19), (4, 100), (64, 65)])
def test_parity(kernel, dtype, B, H):
    assert_parity(OP, step_inputs(OP, B, H), dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [10.0, 100.0, 1e4])
def test_saturated_gates(kernel, dtype, scale):
    assert_parity(OP, step_inputs(OP, 4, 19, scale=scale), dtype, kernel)


@pytest.mark.parametrize("use", ["h", "c"])
def test_one_output_used(kernel, use):
    assert_parity(OP, step_inputs(OP), torch.float32, kernel, use=[use])


def test_gradcheck(kernel):
    inputs = leaves(place(step_inputs(OP, 2, 3), kernel.device))
    assert torch.autograd.gradcheck(sk.lstm_step, list(inputs.values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_is_the_step_of_nn_lstmcell(anywhere, dtype):
    cell = torch.nn.LSTMCell(5, 7).to(anywhere.device, dtype)
    x, h, c = (torch.randn(4, n, dtype=dtype).to(anywhere.device) for n in (5, 7, 7))
    gates_x = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih)
    gates_h = torch.nn.functional.linear(h, cell.weight_hh, cell.bias_hh)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    for found, expected in zip(sk.lstm_step(gates_x, gates_h, c), cell(x, (h, c)), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=tolerance)
