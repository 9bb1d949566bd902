"""Every Triton kernel on the CPU, in Triton's interpreter, on tiny shapes (lane "triton interpreter")."""

from importlib import metadata

import pytest
import torch
from decoder_inputs import ALL, PARTS, as_the_op_takes, decoder_inputs, of
from helpers import (
    DTYPES,
    Random,
    Target,
    assert_parity,
    assert_parity_when_drawn,
    assert_within_rule,
    call,
    error,
    example,
    leaves,
    negated,
    outputs_and_gradients,
    place,
    strided,
)

import s2s_kernels as sk
from s2s_kernels import extension, reference, triton

pytestmark = [
    pytest.mark.skipif(
        not triton.runs_on("cpu"), reason="Triton is not installed, or runs on this machine's GPU and is tested there"
    ),
    pytest.mark.filterwarnings("ignore:overflow encountered"),  # numpy's, of saturated gates
]


@pytest.fixture
def interpreted():
    with sk.backend("triton"):
        yield Target("cpu", "triton")


# The first take one query from beginning to end, those with T or a longer source go the other ways.
ATTENTION = {
    "one query": {},
    "one query, empty row": {"lengths": torch.int64, "bias": 2},
    "long source": {"S": 19, "lengths": torch.int32, "mask": True},
    "heads": {"N": 2, "mask": True, "bias": 2},
    "T queries": {"T": 3, "S": 18, "lengths": torch.int64, "bias": 3},
    "T heads": {"T": 9, "N": 2, "mask": True, "bias": 2},
}


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", ATTENTION.values(), ids=ATTENTION.keys())
def test_additive_attention(interpreted, dtype, form):
    inputs = example("additive_attention", **form)
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    assert_parity("additive_attention", inputs, dtype, interpreted)


def test_weights_of_16_bits_lose_nothing_on_average(interpreted):
    """Cut off to tf32, and not rounded, they would sum to less than 1."""
    inputs = example("additive_attention", T=16, S=40)
    inputs["values"] = torch.ones_like(inputs["values"])
    context, _ = call(sk, "additive_attention", place(inputs, dtype=torch.float16))
    assert (context.double() - 1).mean().abs() < 1e-4


@pytest.mark.parametrize("form", [{"A": 1, "D": 1, "S": 1}, {"A": 130, "D": 33, "S": 17}, {"A": 33, "D": 65, "T": 2}])
def test_sizes_of_attention(interpreted, form):
    assert_parity("additive_attention", example("additive_attention", **form), torch.float32, interpreted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 100.0])
def test_tanh_at_both_ends(interpreted, dtype, scale):
    """Small sums keep their digits, large ones saturate."""
    inputs = example("additive_attention", A=33, scale=scale)
    # Where tanh is straight, a query's gradient is a sum that cancels to rounding in any implementation.
    wrt = None if scale > 1 else ("keys", "values", "v")
    assert_parity("additive_attention", inputs, dtype, interpreted, wrt=wrt)


def test_info(interpreted):
    info = sk.info()
    assert info["triton"] == metadata.version("triton") and info["backends"]["cpu"] == "triton"


def test_a_chosen_backend_stands_in_front(interpreted):
    """Triton's kernels run inside `sk.backend("triton")`, also for torch.ops, and the compiled ones after it."""
    inputs = [x.float() for x in example("additive_attention").values()]
    op = torch.ops.s2s_kernels.additive_attention
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2s_kernels.triton.additive_attention.launch", lambda *args, **constants: calls.append(args))
        op(*inputs)
        assert len(calls) == 1
        with sk.backend("reference"):
            op(*inputs)
        assert len(calls) == 1


STEPS = ["gru_step", "lstm_step"]


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("op", STEPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("B", "H", "scale"), [(1, 1, 1.0), (3, 19, 1.0), (2, 130, 1e-3), (3, 19, 1e4)])
def test_steps(interpreted, op, dtype, B, H, scale):
    assert_parity(op, example(op, B=B, H=H, scale=scale), dtype, interpreted)


@pytest.mark.parametrize("use", ["h", "c"])
def test_one_output_of_lstm_step(interpreted, use):
    assert_parity("lstm_step", example("lstm_step"), torch.float32, interpreted, use=[use])


SEQUENCES = {
    "plain": {"T": 3},
    "lengths": {"lengths": torch.int64, "biases": "ih"},
    "reverse": {"reverse": True, "T": 3, "biases": "none"},
    "reverse lengths": {"reverse": True, "lengths": torch.int32, "biases": "hh"},
}


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("op", ["gru", "lstm"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", SEQUENCES.values(), ids=SEQUENCES.keys())
def test_sequences(interpreted, op, dtype, form):
    inputs = example(op, **form)
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    assert_parity(op, inputs, dtype, interpreted)


@pytest.mark.parametrize("op", ["gru_bidirectional", "lstm_bidirectional"])
def test_both_directions(interpreted, op):
    assert_parity(op, example(op, B=2, T=3, lengths=torch.int64), torch.float32, interpreted)


SCANS = {
    "plain": {"lengths": torch.int64},
    "first, heads": {"first": True, "N": 2, "b_query": False, "biases": "none"},
    "feed": {"F": 9, "mask": True, "biases": "hh"},
    "feed first": {"F": 5, "first": True, "lengths": torch.int32, "b_feed": False},
    "long source": {"S": 18, "mask": True},
}


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("op", ["attention_gru", "attention_lstm"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", SCANS.values(), ids=SCANS.keys())
def test_scans(interpreted, op, dtype, form):
    inputs = example(op, T=2, **form)
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    assert_parity(op, inputs, dtype, interpreted)


DECODERS = [
    pytest.param(op, form, id=f"{op[10:]}-{name}")
    for op in ("attention_gru", "attention_lstm")
    for name, form in of(op, PARTS | ALL).items()
]


@pytest.mark.exhaustive(every=9)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("op", "form"), DECODERS)
def test_decoders_with_parts(interpreted, op, form, dtype):
    def make(seed):
        inputs = decoder_inputs(op, T=2, seed=seed, **form)
        if "lengths" in inputs:
            inputs["lengths"][1] = 0
        return inputs

    assert_parity_when_drawn(op, make, dtype, interpreted)


def test_backward_of_a_location_saves_no_sums(interpreted):
    """Its (B, S, A) sum of each step is made again."""
    from s2s_kernels.triton.attention_decoder import run

    steps, sizes = 12, {"B": 2, "S": 40, "I": 2, "H": 3, "A": 50, "D": 4}
    inputs = leaves(decoder_inputs("attention_gru", T=steps, K=3, **sizes))
    args = as_the_op_takes("attention_gru", inputs)
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        run(*args)
    one = 8 * sizes["B"] * sizes["S"] * sizes["A"]
    assert sum(kept.values()) < 4 * one


@pytest.mark.parametrize("op", ["additive_attention", "gru_step", "gru", "attention_lstm"])
@pytest.mark.parametrize("layout", [strided, negated])
def test_layouts(interpreted, op, layout):
    assert_parity(op, example(op), torch.float32, interpreted, layout=layout)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [1, 60, 61])
def test_sums_over_many_rows(steps, dtype):
    """A weight's gradient is as exact as a sum of one product a step; as a scan of so many steps is slow here."""
    from s2s_kernels.triton.recurrence import outer_products

    r = Random(3)
    a, b = (r.normal(steps, 40, columns).add(1).to(dtype) for columns in (39, 5))
    truth = torch.einsum("tbi,tbj->ij", a.double(), b.double())
    by_step = sum(x.t() @ y for x, y in zip(a, b, strict=True))
    made = outer_products(a.flatten(0, 1), b.flatten(0, 1))
    draw = ({"sum": made}, {"sum": error(by_step, truth)}, {"sum": truth})
    assert_within_rule([draw], dtype)


@pytest.mark.parametrize("op", ["additive_attention", "gru_step", "lstm_step", "gru", "attention_lstm"])
def test_opcheck(interpreted, op):
    inputs = leaves(place(example(op, B=1), dtype=torch.float32))
    if op == "attention_lstm":
        inputs = {"x": inputs["x"], "state": [inputs.pop("h0"), inputs.pop("c0")], **inputs}
        names = ("keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
        inputs = {name: inputs[name] for name in ("x", "state", *names)}
    torch.library.opcheck(getattr(torch.ops.s2s_kernels, op).default, tuple(inputs.values()))


@pytest.mark.parametrize("op", ["additive_attention", "lstm", "attention_gru"])
def test_gradients_outside_the_backend(interpreted, op):
    """What one backend saved, another can read: the compiled ones go on where Triton left off."""
    inputs = example(op, B=2)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    expected = outputs_and_gradients(reference, op, inputs, cotangents)
    wanted = leaves(inputs)
    outputs = call(sk, op, wanted)
    with sk.backend("auto" if extension.built else "triton"):
        gradients = torch.autograd.grad(outputs, list(wanted.values()), cotangents)
    for name, gradient in zip(wanted, gradients, strict=True):
        assert torch.allclose(gradient, expected[f"d {name}"], rtol=0, atol=1e-12), name


@pytest.mark.parametrize("op", ["additive_attention", "gru_step", "lstm_step", "gru_forward", "attention_lstm_forward"])
def test_torch_ops_are_checked(interpreted, op):
    """Kernels read memory by the sizes of some arguments: the others must have them, whichever way they come."""
    inputs = place(example(op.removesuffix("_forward")), dtype=torch.float32)
    last = [name for name in inputs if name in ("v", "h", "c", "weight_hh")][-1]
    inputs[last] = inputs[last][..., :-1].contiguous()
    args = ([*inputs.values()] + [None] * 9,) if op.endswith("_forward") else tuple(inputs.values())
    if op == "gru_forward":
        args = (args[0][:6],)
    if op == "attention_lstm_forward":
        names = ("x", "h0", "c0", "keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih")
        args = ([inputs[name] for name in names] + [None] * 4,)
    rest = (None, None, False, False) if op.endswith("_forward") else ()
    with pytest.raises(ValueError, match=f"(gates_x|{last}|keys|query).* has shape"):
        getattr(torch.ops.s2s_kernels, op)(*args, *rest)
