"""Every size of every op at zero: right values, zeros where a sum has no terms, never what fresh memory held."""

from functools import partial
from itertools import combinations

import pytest
import torch
from helpers import Target, assert_parity, example
from search_tests import cast, check_parity, run, search_inputs
from test_linear_cross_entropy import assert_parity as assert_loss_parity
from test_linear_cross_entropy import made

import s2s_kernels as sk
from s2s_kernels import triton

SCAN_FORMS = [
    {},
    {"N": 2, "mask": True, "first": True},
    {"F": 4, "first": True, "lengths": torch.int64},
    {"F": 4, "N": 2, "biases": "none"},
]
# By op: its sizes, and its forms, the last with all of them.
OPS = {
    "additive_attention": (
        "BSADTN",
        [
            {"lengths": torch.int64},
            {"T": 3, "bias": 3},
            {"N": 2, "bias": 2},
            {"T": 5, "N": 2, "mask": True, "bias": 2},
        ],
    ),
    "gru_step": ("BH", [{}]),
    "lstm_step": ("BH", [{}]),
    "gru": ("BTIH", [{}, {"reverse": True, "lengths": torch.int64, "biases": "none"}]),
    "lstm": ("BTIH", [{"lengths": torch.int64}, {"reverse": True, "biases": "hh"}]),
    "gru_bidirectional": ("BTIH", [{"lengths": torch.int64}]),
    "lstm_bidirectional": ("BTIH", [{"biases": "none"}]),
    "attention_gru": ("BTSIHADNF", SCAN_FORMS),
    "attention_lstm": ("BTSIHADNF", SCAN_FORMS),
}


def cases():
    """(op, form): one size of each form at zero, and two of the last."""
    for op, (sizes, forms) in OPS.items():
        for form in forms:
            for size in sizes:
                if size in form or size not in ("NF" if op.startswith("attention") else "TNF"[: 2 * (op[0] == "a")]):
                    yield op, form | {size: 0}
        for pair in combinations(sizes, 2):
            yield op, forms[-1] | dict.fromkeys(pair, 0)


CASES = list(cases())
TRITON = pytest.mark.skipif(
    not triton.runs_on("cpu"), reason="Triton is not installed, or runs on this machine's GPU and is tested there"
)


@pytest.fixture
def interpreted():
    with sk.backend("triton"):
        yield Target("cpu", "triton")


@pytest.mark.exhaustive(every=2)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("op", "form"), CASES, ids=str)
def test_an_op(anywhere, op, form, dtype):
    assert_parity(op, example(op, **form), dtype, anywhere)


@TRITON
@pytest.mark.exhaustive(every=16)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("op", "form"), CASES, ids=str)
def test_an_op_on_triton(interpreted, op, form, dtype):
    assert_parity(op, example(op, **form), dtype, interpreted)


@pytest.mark.parametrize("sizes", [{"rows": 0}, {"width": 0}, {"rows": 0, "width": 0}], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss(anywhere, sizes, smoothing):
    assert_loss_parity(made(**{"rows": 37} | sizes), torch.float32, anywhere.device, smoothing)


def test_a_loss_over_no_words(anywhere):
    inputs = [torch.zeros(shape, device=anywhere.device) for shape in ((3, 4), (0, 4), (0,))]
    targets = torch.zeros(3, dtype=torch.int64, device=anywhere.device)
    with pytest.raises(ValueError, match="targets holds 0"):
        sk.linear_cross_entropy(*inputs, targets)
    for smoothing in (0.0, 0.1):
        assert sk.linear_cross_entropy(inputs[0][:0], *inputs[1:], targets[:0], smoothing).item() == 0


SEARCHES = {
    "state": {"readout": "state"},
    "fed, lstm": {"readout": "state_context_input", "lstm": True, "R": 5},
    "after": {"order": "after", "readout": "feed", "F": 4, "N": 2},
    "after, first feed": {"order": "after", "readout": "state_context", "first": True},
    "dot, layers": {"order": "after", "readout": "feed", "F": 4, "parts": {"L": 2, "score": "dot"}},
    "location": {"readout": "state_context", "parts": {"K": 3, "location": "both", "first_weights": True}},
    "gate of heads": {"readout": "state_context", "N": 2, "parts": {"feed": "gate", "own_values": True}},
}
SEARCH_CASES = [
    pytest.param(form | {size: 0}, id=f"{name}, {size}=0")
    for name, form in SEARCHES.items()
    for size in "BSHADENFR"
    if (size in form or size not in "NFR") and not (size == "D" and "first" in form)
]
SEARCH_CASES.append(pytest.param({"readout": "state_context", "H": 0, "D": 0}, id="nothing to read"))


def search_of_nothing(op, form, **options):
    # Where nothing of a state reaches the output layer the same tokens in another order have the same score: one token
    # is all that can be told apart.
    longest = 1 if 0 in (form.get("H"), form.get("R")) else 3
    inputs = search_inputs(**{"B": 2} | form)
    check_parity(op, inputs, (torch.float32,), max_length=longest, **options)
    exact, rounded = (
        run(getattr(sk, op), cast(inputs, partial(torch.Tensor.to, dtype=dtype)), max_length=longest, **options)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rounded.ids.shape[0] == exact.ids.shape[0] and rounded.scores.shape == exact.scores.shape


def test_a_feed_of_no_width(search_anywhere):
    inputs = search_inputs(B=2, D=0, order="after", readout="state", first=True)
    with pytest.raises(ValueError, match="first_feed is given, but weight_ih has no columns"):
        run(sk.beam_search, inputs)


@pytest.mark.parametrize("form", SEARCH_CASES)
def test_a_search(search_anywhere, form):
    search_of_nothing("beam_search", form, beam=3, n_best=2, coverage_penalty=0.3)
    search_of_nothing("greedy_search", form)


@TRITON
@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("form", SEARCH_CASES)
def test_a_search_on_triton(interpreted, form):
    search_of_nothing("beam_search", form, beam=2, n_best=2, coverage_penalty=0.3)


def test_a_search_without_words(search_anywhere):
    for name in ("w_output", "embedding"):
        inputs = search_inputs(B=2)
        inputs |= {"w_output": inputs["w_output"][:0], "b_output": inputs["b_output"][:0]}
        inputs[name] = inputs[name][:0]
        with pytest.raises(ValueError, match=r"(eos|bos) is"):
            run(sk.beam_search, inputs)
