import pytest
import sequence_tests as shared
import torch
from helpers import DTYPES, assert_parity, sequence_inputs

OP = "gru"
FORMS = shared.FORMS


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_parity(kernel, dtype, form):
    shared.parity(OP, kernel, dtype, **form)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("B", "T", "I", "H"), shared.SIZES)
def test_sizes(kernel, dtype, B, T, I, H):
    shared.parity(OP, kernel, dtype, B=B, T=T, I=I, H=H)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_larger(kernel, dtype):
    shared.parity(OP, kernel, dtype, B=16, T=25, I=48, H=130, lengths=torch.int64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sums_over_many_rows(kernel, dtype):
    """Of the biases' gradients, B T = 8,320 numbers each; 16 bits would lose those that come last."""
    inputs = sequence_inputs(OP, B=64, T=130, I=2, H=3)
    inputs["x"], inputs["bias_ih"] = inputs["x"] * 0.1, inputs["bias_ih"] * 0.1
    assert_parity(OP, inputs, dtype, kernel)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_saturated_gates(kernel, dtype):
    inputs = sequence_inputs(OP)
    inputs["x"] *= 100
    assert_parity(OP, inputs, dtype, kernel)


@pytest.mark.parametrize("form", shared.GRADCHECK_FORMS.values(), ids=shared.GRADCHECK_FORMS.keys())
def test_gradcheck(kernel, form):
    shared.gradcheck(OP, kernel, form)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_numpy_loops(anywhere, form):
    shared.numpy_loops(OP, anywhere, form)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_equals_torch(anywhere, dtype, reverse):
    shared.equals_torch(OP, anywhere, dtype, reverse)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_torch_packed(anywhere, bidirectional):
    shared.equals_packed(OP, anywhere, bidirectional)
