"""A bad argument raises before anything runs, in a message that names it."""

import helpers
import pytest
import torch
from helpers import call, example, place

import s2s_kernels as sk
from s2s_kernels import extension

FORMS = [
    ("additive_attention", {"T": 3, "lengths": torch.int64, "mask": True, "bias": 3}),
    ("additive_attention", {"N": 2, "bias": 2}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64}),
    ("lstm", {"lengths": torch.int64}),
    ("gru_bidirectional", {"lengths": torch.int64}),
    ("lstm_bidirectional", {"lengths": torch.int64}),
    ("attention_gru", {"lengths": torch.int64, "mask": True, "F": 4, "first": True}),
    ("attention_lstm", {"lengths": torch.int64, "mask": True, "N": 2, "F": 4, "first": True}),
]
ARGUMENTS = [
    (op, form, name) for op, form in FORMS for name, x in example(op, **form).items() if isinstance(x, torch.Tensor)
]
# As the halves of the recurrences take their inputs.
ORDER = ("x", "h0", "c0", "keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
ORDER += ("w_feed", "b_feed", "first_feed")
ORDER += tuple(f"{name}_reverse" for name in ("h0", "c0", "weight_ih", "weight_hh", "bias_ih", "bias_hh"))
# The arguments that set the sizes, dtype and device which the others are held to.
FIRST = {"query", "h", "c", "x"}


def bad(op, form, name, change, error, target, match=None):
    inputs = place(example(op, **form), target.device, torch.float32)
    inputs[name] = change(inputs[name])
    with pytest.raises(error, match=match or rf"\b{name}\b"):
        call(sk, op, inputs)


@pytest.mark.parametrize(("op", "form", "name"), ARGUMENTS, ids=str)
def test_dimensions(anywhere, op, form, name):
    bad(op, form, name, lambda x: x[..., None, None, None], ValueError, anywhere)


@pytest.mark.parametrize(("op", "form", "name"), [a for a in ARGUMENTS if a[2] not in FIRST], ids=str)
def test_batch_or_first_size(anywhere, op, form, name):
    bad(op, form, name, lambda x: torch.cat([x, x]), ValueError, anywhere, match=r"has shape \(.*expected \(")


@pytest.mark.parametrize(("op", "form", "name"), ARGUMENTS, ids=str)
def test_a_list(anywhere, op, form, name):
    bad(op, form, name, lambda x: x.tolist(), TypeError, anywhere)


@pytest.mark.parametrize(("op", "form", "name"), [a for a in ARGUMENTS if a[2] != "lengths"], ids=str)
def test_integers(anywhere, op, form, name):
    bad(op, form, name, lambda x: x.long(), TypeError, anywhere)


@pytest.mark.parametrize(("op", "form", "name"), [a for a in ARGUMENTS if a[2] not in ("lengths", "mask")], ids=str)
def test_another_dtype(anywhere, op, form, name):
    bad(op, form, name, torch.Tensor.double, TypeError, anywhere)


@pytest.mark.parametrize(("op", "form", "name"), [a for a in ARGUMENTS if a[2] not in FIRST], ids=str)
def test_another_device(anywhere, op, form, name):
    bad(op, form, name, lambda x: x.to("meta"), ValueError, anywhere)


LAYOUTS = {
    "sparse": torch.Tensor.to_sparse,
    "csr": lambda x: x.reshape(len(x), -1).to_sparse_csr(),
    "mkldnn": lambda x: x.float().to_mkldnn(),
    "nested": lambda x: torch.nested.nested_tensor(list(x[None])),
    "jagged": lambda x: torch.nested.nested_tensor(list(x[None]), layout=torch.jagged),
}


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize(("op", "form", "name"), ARGUMENTS, ids=str)
@pytest.mark.filterwarnings("ignore:(The PyTorch API of nested|Sparse CSR)")
def test_another_layout(anywhere, op, form, name, layout):
    bad(op, form, name, layout, TypeError, anywhere, match=rf"^{name} (is a nested tensor|has layout torch\.)")


@pytest.mark.parametrize("op", ["gru", "lstm"])
@pytest.mark.parametrize("reverse", ["yes", 1, 0, None, 0.0])
def test_reverse(anywhere, op, reverse):
    with pytest.raises(TypeError, match=f"reverse is {reverse!r}, expected True or False"):
        call(sk, op, place(example(op), anywhere.device) | {"reverse": reverse})


@pytest.mark.parametrize("op", ["additive_attention", "gru", "lstm", "attention_gru", "attention_lstm"])
@pytest.mark.parametrize("value", [-1, 100, -(2**31), 2**31 - 1])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_lengths_out_of_range(anywhere, monkeypatch, op, value, dtype):
    monkeypatch.setenv("S2S_CHECK", "1")  # on a GPU they are read only then

    def change(lengths):
        lengths = lengths.to(dtype)
        lengths[-1] = value
        return lengths

    bad(
        op,
        {"lengths": torch.int64},
        "lengths",
        change,
        ValueError,
        anywhere,
        match=rf"lengths holds {value}\b",
    )


@pytest.mark.parametrize("op", ["additive_attention", "gru", "lstm", "attention_gru", "attention_lstm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_lengths_not_integer(anywhere, op, dtype):
    bad(op, {"lengths": torch.int64}, "lengths", lambda x: x.to(dtype), TypeError, anywhere)


@pytest.mark.parametrize("op", ["additive_attention", "attention_gru", "attention_lstm"])
def test_mask(anywhere, op):
    for dtype in (torch.float32, torch.uint8):
        bad(op, {"mask": True}, "mask", lambda x, dtype=dtype: x.to(dtype), TypeError, anywhere)
    bad(op, {"mask": True}, "mask", lambda x: x[:, 1:], ValueError, anywhere)


def test_source_sizes_that_differ(anywhere):
    for name in ("keys", "values"):
        for op in ("additive_attention", "attention_gru", "attention_lstm"):
            bad(op, {}, name, lambda x: x[:, 1:], ValueError, anywhere, match=r"\b(keys|values)\b")


def test_attention_sizes_that_differ(anywhere):
    bad("additive_attention", {}, "keys", lambda x: x[..., 1:], ValueError, anywhere)
    bad("additive_attention", {"N": 2}, "keys", lambda x: x[:, :, :1], ValueError, anywhere)
    bad("additive_attention", {"N": 2}, "query", lambda x: x[:, 0], ValueError, anywhere)
    bad("additive_attention", {"bias": 2}, "bias", lambda _: torch.zeros(3, 2, 7), ValueError, anywhere)


def test_state_pairs(anywhere):
    inputs = place(example("lstm"), anywhere.device)
    x, h0 = inputs["x"], inputs["h0"]
    for state in (h0, (h0,), (h0, h0, h0), None):
        with pytest.raises(TypeError, match="state"):
            sk.lstm(x, state, inputs["weight_ih"], inputs["weight_hh"])


def test_a_feed_bias_without_a_feed(anywhere):
    inputs = place(example("attention_gru"), anywhere.device)
    with pytest.raises(ValueError, match="b_feed"):
        call(sk, "attention_gru", inputs | {"b_feed": inputs["h0"][0]})


def test_complex_numbers_are_refused(anywhere):
    inputs = {name: x.to(torch.complex64) for name, x in place(example("gru_step"), anywhere.device).items()}
    with pytest.raises(TypeError, match=r"\bh\b"):
        sk.gru_step(**inputs)


@pytest.mark.skipif(not extension.built, reason="the checks before memory are in the compiled extension")
@pytest.mark.parametrize("op", ["gru_step", "lstm_step"])
def test_a_gradient_of_another_shape(op):
    """Nothing of torch.ops stands between a caller of a backward op and memory."""
    inputs = list(example(op).values())
    grads = [inputs[-1]] * (2 if op == "lstm_step" else 1)
    backward = getattr(torch.ops.s2s_kernels, op + "_backward")
    backward(*grads, *inputs)
    with pytest.raises(ValueError, match="grad_h has shape"):
        backward(grads[0][:1], *grads[1:], *inputs)
    with pytest.raises(ValueError, match="gates_x has shape"):
        backward(*grads, inputs[0][:1], *inputs[1:])


@pytest.mark.skipif(not extension.built, reason="the checks before memory are in the compiled extension")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "op", ["gru", "lstm", "gru_bidirectional", "lstm_bidirectional", "attention_gru", "attention_lstm"]
)
def test_what_a_backward_op_is_handed(op, dtype):
    """One tensor at a time is too small, or missing; none of them is read past its end."""
    inputs = place(example(op, **({"F": 4, "first": True} if op.startswith("attention") else {})), dtype=dtype)
    inputs = [inputs[name] for name in ORDER if name in inputs]
    forward, backward = (getattr(torch.ops.s2s_kernels, f"{op}_{half}") for half in ("forward", "backward"))
    outputs = forward(inputs, None, None, False, True)
    count = len(helpers.OUTPUTS[op])
    grads, needs = [torch.ones_like(x) for x in outputs[:count]], [True] * len(inputs)
    if op.endswith("bidirectional"):
        outputs = outputs[count:]
    backward(grads, inputs, None, None, False, outputs, needs)
    for i in range(count):
        wrong = [*grads[:i], grads[i][:1], *grads[i + 1 :]]
        with pytest.raises(ValueError, match=r"the gradient of \w+ has shape"):
            backward(wrong, inputs, None, None, False, outputs, needs)
    for i, x in enumerate(outputs):
        if not x.numel():
            continue
        for wrong, message in ((x[:1], "has shape"), (x.double(), "has dtype"), (helpers.strided(x), "has strides")):
            with pytest.raises((ValueError, TypeError), match=rf"[\w ]+ {message}"):
                backward(grads, inputs, None, None, False, [*outputs[:i], wrong, *outputs[i + 1 :]], needs)
    for wrong in ((grads[:-1], outputs, needs), (grads, outputs[:-1], needs), (grads, outputs, needs[:-1])):
        with pytest.raises(ValueError, match=r"(grads|outputs|needs) has \d+"):
            backward(wrong[0], inputs, None, None, False, wrong[1], wrong[2])
    with pytest.raises(ValueError, match=r"inputs\[0\] is None"):
        backward(grads, [None, *inputs[1:]], None, None, False, outputs, needs)


@pytest.mark.skipif(not extension.built, reason="the checks before memory are in the compiled extension")
def test_what_the_backward_of_attention_is_handed():
    inputs = list(place(example("additive_attention")).values())
    outputs = torch.ops.s2s_kernels.additive_attention(*inputs)
    backward, needs = torch.ops.s2s_kernels.additive_attention_backward, [True] * 4 + [False]
    args = [*outputs, *inputs, outputs[1], None, None, None]
    backward(*args, needs)
    for i, name in ((0, "grad_context"), (1, "grad_weights"), (6, "weights")):
        with pytest.raises(ValueError, match=f"{name} has shape"):
            backward(*args[:i], args[i][:1], *args[i + 1 :], needs)
    with pytest.raises(ValueError, match="needs has a gradient of bias"):
        backward(*args, [True] * 5)


def test_the_message_says_what_came_and_what_was_expected(anywhere):
    inputs = place(example("gru"), anywhere.device)
    inputs["weight_ih"] = inputs["weight_ih"][:-1]
    with pytest.raises(ValueError) as caught:
        call(sk, "gru", inputs)
    assert str(caught.value) == "weight_ih has shape (32, 7), expected (3H, I) = (33, 7)"
