"""The attention decoder with its parts under PyTorch's tools: compilers, exporters, autocast and transforms."""

import pytest
import torch
from decoder_inputs import ALL, PARTS, as_the_op_takes, decoder_inputs, of
from helpers import Random, call, is_mask, leaves, place
from test_convert_tools import EXPORTERS, through_onnx

import s2s_kernels as sk
from s2s_kernels import extension, reference

OPS = ("attention_gru", "attention_lstm")
SMALL = {"B": 2, "S": 3, "T": 2, "I": 2, "H": 4, "A": 3, "D": 2}
NAMES = ("all", "all of heads", "dot of the state", "forward", "three layers", "gate", "c_h", "zone_c")
FORMS = [
    pytest.param(op, form, id=f"{op[10:]}-{name}")
    for op in OPS
    for name, form in of(op, PARTS | ALL).items()
    if name in NAMES
]


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def small(op, form, device="cpu", dtype=torch.float64):
    sizes = SMALL | ({"F": 2} if "F" in form else {})
    return place(decoder_inputs(op, **form | sizes), device, dtype)


def differentiable(inputs):
    return [
        x for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.is_floating_point() and not is_mask(name)
    ]


@pytest.mark.exhaustive(every=9)
@pytest.mark.skipif(not extension.built, reason="the ops are registered by the compiled extension, not built here")
@pytest.mark.parametrize(("op", "form"), FORMS)
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(kernel, op, form, grad):
    inputs = small(op, form, kernel.device, torch.float32)
    args = as_the_op_takes(op, leaves(inputs) if grad else inputs)
    torch.library.opcheck(torch.ops.s2s_kernels.attention_decoder.default, tuple(args))
    if not grad:
        for save in (False, True):
            torch.library.opcheck(torch.ops.s2s_kernels.attention_decoder_forward.default, (*args, save))


@pytest.mark.exhaustive(every=9)
@pytest.mark.parametrize(("op", "form"), FORMS)
def test_in_one_graph(kernel, op, form):
    inputs = leaves(small(op, form, kernel.device))

    def function(inputs):
        return sum((0.5 * y).square().sum() for y in call(sk, op, inputs))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(f(inputs), differentiable(inputs)) for f in (compiled, function))
    for x, y in zip(found, expected, strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-12)


@pytest.mark.exhaustive(every=9)
@pytest.mark.parametrize(("op", "form"), FORMS)
def test_one_graph_of_all_sizes(kernel, op, form):
    if kernel.backend == "reference":
        pytest.skip("the reference's loop is unrolled, and compiled again, for each length")
    compiled = torch.compile(lambda inputs: call(sk, op, inputs), fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        # Of sizes that no other is equal to, twice or the sum of: each would be a guard.
        for sizes in ({"B": 6, "S": 8, "T": 28}, {"B": 4, "S": 9, "T": 7}, {"B": 5, "S": 10, "T": 3}):
            inputs = place(decoder_inputs(op, **form | sizes), kernel.device)
            for x, y in zip(compiled(inputs), call(sk, op, inputs), strict=True):
                assert torch.allclose(x, y, rtol=0, atol=1e-13)


class Decoder(torch.nn.Module):
    """The decoder of one form; its weights are parameters."""

    def __init__(self, op, inputs):
        super().__init__()
        self.op, self.given = op, {name: x for name, x in inputs.items() if not isinstance(x, torch.Tensor)}
        weights = {name: x for name, x in inputs.items() if name.startswith(("w", "b_")) and name not in self.given}
        self.weights = torch.nn.ParameterDict(weights)

    def forward(self, inputs):
        return tuple(call(sk, self.op, {**inputs, **self.weights, **self.given}))

    def rest(self, inputs):
        return {name: x for name, x in inputs.items() if name not in self.weights and name not in self.given}


@pytest.mark.exhaustive(every=9)
@pytest.mark.parametrize(("op", "form"), FORMS)
@pytest.mark.parametrize("strict", [False, True])
def test_export(kernel, op, form, strict):
    inputs = small(op, form, kernel.device)
    model = Decoder(op, inputs)
    program = torch.export.export(model, (model.rest(inputs),), strict=strict)
    other = model.rest(small(op, form | {"seed": 5}, kernel.device))
    for x, y in zip(program.module()(other), model(other), strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-13)


class Positional(torch.nn.Module):
    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors):
        return self.model(dict(zip(self.names, tensors, strict=True)))[0]


@pytest.mark.exhaustive(every=9)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("op", "form"), FORMS)
@EXPORTERS
def test_onnx(op, form, dynamo, tmp_path):
    inputs = small(op, form, dtype=torch.float32)
    model = Decoder(op, inputs)
    rest = {name: x for name, x in model.rest(inputs).items() if x is not None}
    (found,) = through_onnx(Positional(model, tuple(rest)).eval(), tuple(rest.values()), tmp_path / "m.onnx", dynamo)
    assert torch.allclose(torch.from_numpy(found), model(rest)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("op", "form"), FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(anywhere, op, form, dtype):
    form = {name: x for name, x in form.items() if name != "scale"}  # which is multiplied in before the cast
    inputs = leaves(place(decoder_inputs(op, **form), anywhere.device, torch.float32))
    with torch.autocast(anywhere.device, dtype):
        found = call(sk, op, inputs)
    narrow = leaves(place(inputs, anywhere.device, dtype))
    expected = call(sk, op, narrow)
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == dtype and torch.equal(x, y)
    cotangents = [torch.randn_like(y) for y in expected]
    gradients = (torch.autograd.grad(*pair, cotangents) for pair in
                 ((found, differentiable(inputs)), (expected, differentiable(narrow))))  # fmt: skip
    for x, y in zip(*gradients, strict=True):
        assert x.dtype == torch.float32 and torch.equal(x, y.float())


@pytest.mark.parametrize(("op", "form"), FORMS)
@pytest.mark.parametrize("some", [False, True])
def test_second_derivatives(kernel, op, form, some):
    """Of inputs that are made of one another too, and where some need no gradient and some outputs are not used."""
    inputs = small(op, form, kernel.device)
    names = [name for name, x in leaves(inputs).items() if isinstance(x, torch.Tensor) and x.requires_grad]
    names = names[::2] if some else names

    def function(factor, *tensors):
        made, of_first = {}, 0
        for name, x in zip(names, tensors, strict=True):
            made[name] = x * factor + of_first
            of_first = made[names[0]].sum()
        outputs = call(sk, op, inputs | made)
        return sum(y.square().sum() for y in (outputs[-1:] if some else outputs))

    factor = torch.tensor(0.7, dtype=torch.float64, device=kernel.device, requires_grad=True)
    tensors = [factor, *(inputs[name].requires_grad_() for name in names)]
    once, twice = (torch.autograd.grad(function(*tensors), tensors, create_graph=c) for c in (False, True))
    assert all(torch.allclose(x, y, rtol=1e-12, atol=1e-12) for x, y in zip(once, twice, strict=True))
    of_ours, of_reference = (
        torch.autograd.grad(sum(g.square().sum() for g in twice), tensors, allow_unused=True, materialize_grads=True)
        if backend is None
        else second_of(backend, function, tensors)
        for backend in (None, "reference")
    )
    assert all(torch.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in zip(of_ours, of_reference, strict=True))


def second_of(backend, function, tensors):
    with sk.backend(backend):
        made = torch.autograd.grad(function(*tensors), tensors, create_graph=True)
        return torch.autograd.grad(
            sum(g.square().sum() for g in made), tensors, allow_unused=True, materialize_grads=True
        )


@pytest.mark.parametrize(("op", "form"), FORMS)
def test_transforms(op, form):
    """As the reference, in all of torch.func."""
    inputs = small(op, form)
    names = [name for name, x in leaves(inputs).items() if isinstance(x, torch.Tensor) and x.requires_grad]

    def loss(floats, module=sk):
        return sum(y.square().sum() for y in call(module, op, inputs | floats))

    floats = {name: inputs[name] for name in names}
    r = Random(9)
    directions = {name: r.normal(*x.shape) for name, x in floats.items()}
    wanted = leaves(floats)
    expected = torch.autograd.grad(loss(wanted, reference), list(wanted.values()))
    for x, y in zip(torch.func.grad(loss)(floats).values(), expected, strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-12)
    product = sum((g * directions[name]).sum() for name, g in zip(names, expected, strict=True))
    assert torch.allclose(torch.func.jvp(loss, (floats,), (directions,))[1], product, rtol=1e-12, atol=1e-12)
    batched = {name: torch.stack([x, x + directions[name]]) for name, x in floats.items()}
    for i, found in enumerate(torch.func.vmap(loss)(batched)):
        assert torch.allclose(found, loss({name: x[i] for name, x in batched.items()}), rtol=1e-12, atol=0)


def test_what_has_no_derivative_says_so(kernel):
    op = "attention_gru"
    args = as_the_op_takes(op, small(op, {"b_score": True}, kernel.device))
    tangent = torch.ones_like(args[0][0])
    with torch.autograd.forward_ad.dual_level():
        args[0][0] = torch.autograd.forward_ad.make_dual(args[0][0], tangent)
        with pytest.raises(NotImplementedError, match="attention_gru and attention_lstm have"):
            torch.ops.s2s_kernels.attention_decoder(*args)
    if kernel.backend == "reference":
        return
    inputs = leaves(small(op, {"b_score": True}, kernel.device))
    y = call(sk, op, inputs)[0].flatten()[:2]
    with pytest.raises(NotImplementedError, match="attention_decoder has no backward of batched gradients"):
        torch.autograd.grad(y, inputs["x"], torch.eye(2, dtype=y.dtype, device=y.device), is_grads_batched=True)


@pytest.mark.parametrize(("op", "form"), FORMS)
def test_meta(op, form):
    inputs = small(op, form)
    for x, y in zip(call(sk, op, place(inputs, "meta")), call(sk, op, inputs), strict=True):
        assert x.is_meta and x.shape == y.shape and x.dtype == y.dtype


@pytest.mark.parametrize(("op", "form"), FORMS)
def test_checkpoint(anywhere, op, form):
    inputs = leaves(small(op, form, anywhere.device))
    made = torch.utils.checkpoint.checkpoint(lambda given: call(sk, op, given), inputs, use_reentrant=False)
    cotangents = [torch.randn_like(y) for y in made]
    expected = torch.autograd.grad(call(sk, op, inputs), differentiable(inputs), cotangents)
    for x, y in zip(torch.autograd.grad(made, differentiable(inputs), cotangents), expected, strict=True):
        assert torch.equal(x, y)
