import pytest
import torch
from helpers import DTYPES, assert_parity, leaves, place, step_inputs

import s2s_kernels as sk

OP = "gru_step"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("B", "H"), [(1, 1), (3, 5), (2, 16), (5, 19), (4, 100), (64, 65)])
def test_parity(kernel, dtype, B, H):
    assert_parity(OP, step_inputs(OP, B, H), dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [10.0, 100.0, 1e4])
def test_saturated_gates(kernel, dtype, scale):
    assert_parity(OP, step_inputs(OP, 4, 19, scale=scale), dtype, kernel)


def test_gradcheck(kernel):
    inputs = leaves(place(step_inputs(OP, 2, 3), kernel.device))
    assert torch.autograd.gradcheck(sk.gru_step, list(inputs.values()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_is_the_step_of_nn_grucell(anywhere, dtype):
    cell = torch.nn.GRUCell(5, 7).to(anywhere.device, dtype)
    x, h = (
        torch.randn(4, 5, dtype=dtype).to(anywhere.device),
        torch.randn(4, 7, dtype=dtype).to(anywhere.device),
    )
    gates_x = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih)
    gates_h = torch.nn.functional.linear(h, cell.weight_hh, cell.bias_hh)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert torch.allclose(sk.gru_step(gates_x, gates_h, h), cell(x, h), rtol=0, atol=tolerance)
