import pytest
import scan_tests as shared
import torch
from helpers import DTYPES

OP = "attention_gru"
FORMS = shared.FORMS


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_parity(kernel, dtype, form):
    shared.parity(OP, kernel, dtype, **form)


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", shared.SIZES, ids=str)
def test_sizes(kernel, dtype, sizes):
    shared.parity(OP, kernel, dtype, **sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_larger(kernel, dtype):
    shared.parity(OP, kernel, dtype, B=8, T=12, S=25, I=32, H=70, A=64, D=96, lengths=torch.int64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_saturated_scores(kernel, dtype):
    shared.saturated(OP, kernel, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [22.0, 60.0, -60.0])
def test_large_query_meets_large_negative_key(kernel, dtype, offset):
    shared.large_query_meets_large_negative_key(OP, kernel, dtype, offset)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mixed_ranges(kernel, dtype):
    shared.mixed_ranges(OP, kernel, dtype)


@pytest.mark.parametrize("form", shared.GRADCHECK_FORMS.values(), ids=shared.GRADCHECK_FORMS.keys())
def test_gradcheck(kernel, form):
    shared.gradcheck(OP, kernel, form)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_numpy_loops(anywhere, form):
    shared.numpy_loops(OP, anywhere, form)


def test_attention_after_the_cell(anywhere):
    shared.decoders(OP, anywhere)


def test_outputs_are_named(anywhere):
    shared.outputs_are_named(OP, anywhere)
