"""The loss over the vocabulary against F.cross_entropy of F.linear, in float64 and as eager PyTorch has it."""

import pytest
import torch
from helpers import DTYPES, Random, assert_within_rule, error, strided, transposed
from torch import library
from torch.nn.functional import cross_entropy, linear

import s2s_kernels as sk
from s2s_kernels import extension

NAMES = ("loss", "d features", "d weight", "d bias")


def made(rows=37, width=19, words=101, scale=1.0, bias=True, seed=0):
    """features, weight, bias, targets."""
    r = Random(seed)
    tensors = [r.normal(rows, width, scale=scale), r.normal(words, width), r.normal(words) if bias else None]
    return *tensors, torch.randint(0, max(1, words), (rows,), generator=r.generator)


def cast(inputs, dtype, device="cpu"):
    *tensors, targets = inputs
    return *(None if x is None else x.to(device, dtype) for x in tensors), targets.to(device)


def eager(features, weight, bias, targets, smoothing=0.0):
    return cross_entropy(linear(features, weight, bias), targets, label_smoothing=smoothing, reduction="sum")


def run(function, inputs, smoothing=0.0, wrt=(True, True, True), layout=torch.clone):
    """The loss, and its gradients three times over so that the incoming gradient is not 1."""
    *tensors, targets = inputs
    tensors = [None if x is None else layout(x).requires_grad_(need) for x, need in zip(tensors, wrt, strict=True)]
    value = function(*tensors, targets, smoothing)
    found = {"loss": value.detach()}
    wanted = {f"d {name}": x for name, x in zip(("features", "weight", "bias"), tensors, strict=True)}
    wanted = {name: x for name, x in wanted.items() if x is not None and x.requires_grad}
    found.update(zip(wanted, torch.autograd.grad(3 * value, list(wanted.values())), strict=True))
    return found


def draw(inputs, dtype, device="cpu", smoothing=0.0, **options):
    """What the op found, the errors of eager PyTorch and the truth, as `helpers.draw` has them."""
    inputs = cast(inputs, dtype)
    narrow = torch.float32 if dtype == torch.float64 else dtype
    truth = run(eager, cast(inputs, torch.float64), smoothing, options.get("wrt", (True,) * 3))
    rounded = run(eager, cast(inputs, narrow, device), smoothing)
    errors = {name: error(rounded[name], true) for name, true in truth.items()}
    if dtype == torch.float64:  # there eager and the truth are one computation, see helpers.draw
        scale = 2 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        errors = {name: e * scale for name, e in errors.items()}
    found = run(sk.linear_cross_entropy, cast(inputs, dtype, device), smoothing, **options)
    assert found["loss"].dtype == torch.promote_types(dtype, torch.float32)
    found["loss"] = found["loss"].to(dtype)  # in 16 bits it is the sum of logits that may be rounded to them
    return found, errors, truth


def assert_parity(*args, **options):
    assert_within_rule([draw(*args, **options)], args[1], "linear_cross_entropy")


# Fewer rows than a vector, an odd number, several chunks; words and widths that are no multiple of anything.
SHAPES = [(1, 1, 2), (3, 5, 2), (37, 19, 101), (37, 34, 101), (150, 64, 1000), (700, 33, 203), (257, 32, 400)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "width", "words"), SHAPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_parity(anywhere, dtype, rows, width, words, smoothing):
    assert_parity(made(rows, width, words), dtype, anywhere.device, smoothing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_large_logits(anywhere, dtype, smoothing):
    assert_parity(made(scale=30.0), dtype, anywhere.device, smoothing)


@pytest.mark.parametrize("layout", [strided, transposed])
def test_layouts(anywhere, layout):
    def arranged(x):
        return layout(x).detach()

    assert_parity(made(), torch.float32, anywhere.device, layout=arranged)


@pytest.mark.parametrize("wrt", [(True, False, False), (False, True, False), (False, False, True), (True, True, False)])
def test_some_gradients(anywhere, wrt):
    assert_parity(made(400), torch.float32, anywhere.device, 0.1, wrt=wrt)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sums_of_many_equal_terms(anywhere, dtype):
    """Rows, or words, that are all alike: whatever is added one by one is rounded to the same side each time."""
    features, weight, bias, targets = made(64, 5, 2)
    assert_parity((features * 0, weight, bias, targets), dtype, anywhere.device, 0.1)
    features, weight, _, targets = made(7, 7, 160)
    alike = (features[:1].expand(7, 7), weight[:1].expand(160, 7), None, targets)
    found, errors, truth = draw(alike, dtype, anywhere.device, 1.0)
    assert_within_rule([tuple({"loss": x["loss"]} for x in (found, errors, truth))], dtype)


def test_without_a_bias(anywhere):
    assert_parity(made(bias=False), torch.float32, anywhere.device, 0.1)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_threads(kernel, threads, count):
    threads(count)
    assert_parity(made(400, 64, 1000), torch.float32, kernel.device)
    inputs = cast(made(400, 64, 1000), torch.float32, kernel.device)
    one, two = (run(sk.linear_cross_entropy, inputs) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in NAMES)


def test_a_word_that_is_never_an_output(anywhere):
    """Minus infinity in the bias takes a word out."""
    features, weight, bias, targets = cast(made(), torch.float32, anywhere.device)
    targets = targets.clamp(min=4)
    bias[:3] = -torch.inf
    found, expected = (run(f, (features, weight, bias, targets)) for f in (sk.linear_cross_entropy, eager))
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-4)
    assert not found["d bias"][:3].any()


def test_nothing_to_learn_and_no_rows(anywhere):
    inputs = cast(made(rows=0), torch.float32, anywhere.device)
    assert sk.linear_cross_entropy(*inputs).item() == 0
    found = run(sk.linear_cross_entropy, inputs, 0.1)
    assert not found["d weight"].any() and not found["d bias"].any() and found["d features"].shape == (0, 19)
    inputs = cast(made(), torch.float32, anywhere.device)
    assert not sk.linear_cross_entropy(*inputs).requires_grad


def test_targets_of_other_integer_types(anywhere):
    *tensors, targets = cast(made(), torch.float32, anywhere.device)
    expected = sk.linear_cross_entropy(*tensors, targets)
    assert torch.equal(sk.linear_cross_entropy(*tensors, targets.to(torch.int32)), expected)


def test_the_reference_in_chunks(monkeypatch):
    import importlib

    module = importlib.import_module("s2s_kernels.reference.linear_cross_entropy")
    for chunk in (1, 700):
        monkeypatch.setattr(module, "CHUNK", chunk)
        with sk.backend("reference"):
            assert_parity(made(), torch.float32, smoothing=0.1)


def test_gradcheck(anywhere):
    *tensors, targets = cast(made(5, 3, 7), torch.float64, anywhere.device)
    tensors = [x.requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda *x: sk.linear_cross_entropy(*x, targets, 0.1), tensors)


def test_a_second_derivative(anywhere):
    if anywhere.backend == "cpp":
        *tensors, targets = cast(made(3, 4, 5), torch.float64, anywhere.device)
        tensors = [x.requires_grad_() for x in tensors]
        assert torch.autograd.gradgradcheck(lambda *x: sk.linear_cross_entropy(*x, targets, 0.1), tensors)
        return
    *tensors, targets = cast(made(), torch.float32, anywhere.device)
    features = tensors[0].requires_grad_()
    loss = sk.linear_cross_entropy(features, *tensors[1:], targets)
    with pytest.raises(RuntimeError):
        (grad,) = torch.autograd.grad(loss, features, create_graph=True)
        grad.sum().backward()


@pytest.mark.skipif(not extension.built, reason="the op is registered by the compiled extension, not built here")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("wrt", [(), (0,), (0, 1, 2)])
def test_opcheck(bias, wrt):
    inputs = cast(made(bias=bias), torch.float32)
    for i in wrt:
        if inputs[i] is not None:
            inputs[i].requires_grad_()
    library.opcheck(torch.ops.s2s_kernels.linear_cross_entropy.default, (*inputs, 0.1))


def test_compile(kernel):
    inputs = cast(made(), torch.float32, kernel.device)
    compiled = torch.compile(sk.linear_cross_entropy, fullgraph=True, backend="aot_eager", dynamic=True)
    for rows in (37, 300):
        inputs = cast(made(rows), torch.float32, kernel.device)
        found, expected = (run(f, inputs, 0.1) for f in (compiled, sk.linear_cross_entropy))
        for name in NAMES:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)


def test_autocast_multiplies_in_its_dtype_and_sums_in_float32(anywhere):
    truth = run(eager, cast(made(64, 32, 50), torch.float64), 0.1)
    inputs = cast(made(64, 32, 50), torch.float32, anywhere.device)
    with torch.autocast(anywhere.device, dtype=torch.bfloat16):
        errors = {name: error(value, truth[name]) for name, value in run(eager, inputs, 0.1).items()}
        found = run(sk.linear_cross_entropy, inputs, 0.1)
    assert found["loss"] != run(sk.linear_cross_entropy, inputs, 0.1)["loss"]
    assert_within_rule([(found, errors, truth)], torch.float32, "linear_cross_entropy under autocast")


WRONG = [
    ("features", lambda x: x[0], ValueError),
    ("features", lambda x: x.long(), TypeError),
    ("features", lambda x: x.tolist(), TypeError),
    ("weight", lambda x: x[:, 1:], ValueError),
    ("weight", lambda x: x[0], ValueError),
    ("weight", torch.Tensor.double, TypeError),
    ("weight", lambda x: x.to("meta"), ValueError),
    ("bias", lambda x: x[1:], ValueError),
    ("bias", torch.Tensor.double, TypeError),
    ("bias", lambda x: x.tolist(), TypeError),
    ("targets", lambda x: x[1:], ValueError),
    ("targets", lambda x: x[:, None], ValueError),
    ("targets", lambda x: x.float(), TypeError),
    ("targets", lambda x: x.tolist(), TypeError),
    ("targets", lambda x: None, TypeError),
    ("targets", lambda x: x + 101, ValueError),
    ("targets", lambda x: x - 101, ValueError),
    ("label_smoothing", lambda x: -0.1, ValueError),
    ("label_smoothing", lambda x: 1.5, ValueError),
    ("label_smoothing", lambda x: None, TypeError),
]


@pytest.mark.parametrize(("name", "change", "wrong"), WRONG)
def test_a_bad_argument_is_named(anywhere, monkeypatch, name, change, wrong):
    monkeypatch.setenv("S2S_CHECK", "1")
    inputs = cast(made(), torch.float32, anywhere.device)
    inputs = dict(zip(("features", "weight", "bias", "targets"), inputs, strict=True)) | {"label_smoothing": 0.1}
    inputs[name] = change(inputs[name])
    with pytest.raises(wrong, match=rf"\b{name}\b"):
        sk.linear_cross_entropy(**inputs)
    if anywhere.backend == "cpp" and isinstance(inputs[name], (torch.Tensor, float)):
        with pytest.raises((ValueError, TypeError, RuntimeError)):  # nothing stands between this and memory
            torch.ops.s2s_kernels.linear_cross_entropy(*inputs.values())


def test_the_message_says_what_came_and_what_was_expected():
    features, weight, bias, targets = cast(made(), torch.float32)
    targets[5] = 101
    with pytest.raises(ValueError) as caught:
        sk.linear_cross_entropy(features, weight, bias, targets)
    assert str(caught.value) == "targets holds 101, expected values from 0 to V - 1 = 100"
