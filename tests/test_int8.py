"""Products in 8 bits: every instruction set makes the reference's integers, and so its numbers, to the bit."""

import pytest
import torch
from helpers import Random

import s2s_kernels as sk
from s2s_kernels import extension
from s2s_kernels.quantize import QuantizedWeights, pack, quantize_matrix, unpack
from s2s_kernels.reference.int8 import int8_linear, quantize_rows

LANES = extension._C.int8_lanes() if extension.built else []
ROWS, OUTPUTS, INPUTS = (1, 2, 3, 12, 13, 30), (1, 15, 16, 17, 48, 64, 129), (1, 3, 4, 5, 31, 64, 511, 2048)


@pytest.fixture(params=LANES)
def lane(request):
    """An instruction set, now in force."""
    extension._C.pretend_int8_lane(request.param)
    yield request.param
    extension._C.pretend_int8_lane("")


def check_product(x, weight):
    matrix = quantize_matrix("weight", weight)
    found = extension._C.int8_linear(x, *pack(matrix), weight)
    torch.testing.assert_close(found, int8_linear(x, matrix), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_the_integers_are_the_reference_s(lane, outputs, inputs):
    r = Random(outputs * inputs)
    for rows in ROWS:
        check_product(r.normal(rows, inputs).float(), r.normal(outputs, inputs).float())


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums(lane, sign):
    """Every product as large as can be, where 16 bits would saturate and a float32 sum would round."""
    for inputs in (2, 4, 256, 4099, 30_000):
        check_product(torch.full((3, inputs), 0.7), torch.full((17, inputs), sign * 1.3))


def test_halves_go_to_the_even_integer(lane):
    x = torch.tensor([[127, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -127], [63.5, 0.25, 0.75, 1.25, -0.25, 0, 0, 1]])
    assert quantize_rows(x)[0].tolist() == [[127, 0, 2, 2, 0, -2, 126, -127], [127, 0, 2, 2, 0, 0, 0, 2]]
    check_product(x, torch.eye(8))


def test_what_is_no_number_and_what_is_next_to_nothing(lane):
    x = Random().normal(7, 20).float()
    x[1, 3], x[2, 19], x[3, 0], x[4], x[5] = torch.nan, torch.inf, -torch.inf, 0, 2.0**-110
    weight = Random(1).normal(18, 20).float()
    weight[2, 5], weight[17, 0], weight[3] = torch.inf, torch.nan, 0
    check_product(x, weight)
    found = int8_linear(x, quantize_matrix("weight", weight))
    assert found.isnan().all(1).tolist() == [False, True, True, True, False, False, False]
    assert found.isnan().all(0).nonzero().flatten().tolist() == [2, 17]
    assert not found[4:6, 3:17].any() and not found[6, 3]


def test_rows_apart(lane):
    """Rows of a wider matrix, as those that a search reads."""
    x, weight = Random().normal(5, 40).float(), Random(1).normal(33, 40).float()
    check_product(x, weight)
    together = int8_linear(x, quantize_matrix("weight", weight))
    for i in range(5):
        assert torch.equal(
            extension._C.int8_linear(x[i : i + 1], *pack(quantize_matrix("w", weight)), weight)[0], together[i]
        )


def test_error_of_8_bits():
    """An integer is within a half of what it stands for."""
    x, weight = Random().normal(40, 300).float(), Random(1).normal(50, 300).float()
    matrix = quantize_matrix("weight", weight)
    assert ((matrix.integers * matrix.scale[:, None] - weight).abs() <= 0.5001 * matrix.scale[:, None]).all()
    error = (int8_linear(x, matrix) - x @ weight.t()).pow(2).mean().sqrt() / (x @ weight.t()).pow(2).mean().sqrt()
    assert 0.001 < error < 0.02


@pytest.mark.parametrize("shape", [(1, 1), (16, 4), (17, 5), (40, 64), (33, 0), (0, 8)], ids=str)
def test_packing_and_back(shape):
    matrix = quantize_matrix("weight", Random().normal(*shape))
    again = unpack(*pack(matrix), *shape)
    assert torch.equal(again.integers, matrix.integers) and torch.equal(again.scale, matrix.scale)


@pytest.mark.skipif(not extension.built, reason="the compiled extension, which has the lanes, is not built here")
def test_lanes_are_named():
    assert LANES[-1] == "baseline" and len(set(LANES)) == len(LANES)
    with pytest.raises(ValueError, match="name is 'sse9', expected one of int8_lanes"):
        extension._C.pretend_int8_lane("sse9")


def matrices(**more):
    r = Random()
    return {"weight_ih": r.normal(9, 7), "weight_hh": r.normal(9, 3), "w_output": r.normal(11, 3), **more}


def test_by_name_and_back(tmp_path):
    from safetensors.torch import load_file, save_file

    r = Random(1)
    layers = [(r.normal(9, 3), r.normal(9, 3), None, None) for _ in range(12)]
    packed = sk.quantize(**matrices(), w_query=r.normal(5, 3), layers=layers)
    assert len(packed) == 4 + 24 and packed["layers.11.weight_hh"].shape == (9, 3)
    save_file(packed.tensors(), tmp_path / "int8.safetensors")
    again = QuantizedWeights.from_tensors(load_file(tmp_path / "int8.safetensors"))
    assert again.keys() == packed.keys()
    assert all(torch.equal(a, b) for a, b in zip(again.packed(), packed.packed(), strict=True))
    for name, x in {"weight_ih": matrices()["weight_ih"], "layers.3.weight_hh": layers[3][1]}.items():
        tensors = packed.tensors()
        near = tensors[name] * tensors[f"{name}.scale"][:, None]
        torch.testing.assert_close(near.double(), x, rtol=0, atol=x.abs().max().item() / 250)


@pytest.mark.parametrize(
    "wrong, kind, message",
    [
        ({"w_output": None}, TypeError, "w_output is a NoneType, expected a torch.Tensor"),
        ({"w_output": torch.zeros(3)}, ValueError, r"w_output has shape \(3,\), expected \(N, K\)"),
        (
            {"weight_ih": torch.zeros(3, 3, dtype=torch.int8)},
            TypeError,
            "weight_ih has dtype torch.int8, expected float",
        ),
        ({"weight_hh": torch.zeros(1, 133_001)}, ValueError, "weight_hh has 133001 columns, expected at most 133000"),
        ({"layers": [(torch.zeros(3, 3),)]}, ValueError, r"layers.0 has 1 elements"),
        ({"transition": 3}, TypeError, "transition is a int"),
    ],
    ids=str,
)
def test_wrong_matrices(wrong, kind, message):
    with pytest.raises(kind, match=message):
        sk.quantize(**matrices() | wrong)


@pytest.mark.parametrize(
    "wrong, kind, message",
    [
        ({"weight_ih.scale": None}, ValueError, "tensors has 'weight_ih', but no 'weight_ih.scale', expected both"),
        ({"weight_ih": None}, ValueError, "tensors has 'weight_ih.scale', but no 'weight_ih', expected both"),
        ({"weight_ih": torch.zeros(9, 7)}, TypeError, "weight_ih has dtype torch.float32, expected torch.int8"),
        (
            {"weight_ih.scale": torch.zeros(8)},
            ValueError,
            r"weight_ih.scale has shape \(8,\), expected \(N,\) = \(9,\)",
        ),
    ],
    ids=str,
)
def test_wrong_tensors(wrong, kind, message):
    tensors = {name: x for name, x in (sk.quantize(**matrices()).tensors() | wrong).items() if x is not None}
    with pytest.raises(kind, match=message):
        QuantizedWeights.from_tensors(tensors)
