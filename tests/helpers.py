"""The tolerance rule, in this one place, and what the tests share: inputs, calls, layouts."""

import math
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk
from s2s_kernels import extension, reference
from s2s_kernels.backend import available
from s2s_kernels.ops import bidirectional

THREADS = torch.get_num_threads()
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OUTPUTS = {
    "additive_attention": ("context", "weights"),
    "gru_step": ("h",),
    "lstm_step": ("h", "c"),
    "gru": ("output", "h_n"),
    "lstm": ("output", "h_n", "c_n"),
    "gru_bidirectional": ("output", "h_n"),
    "lstm_bidirectional": ("output", "h_n", "c_n"),
    "attention_gru": reference.AttentionGRUOutput._fields,
    "attention_lstm": reference.AttentionLSTMOutput._fields,
}


def set_threads(count, own=False):
    """torch's number of threads, and as many cores, which are the most that ops use; own: never libgomp's threads.

    0: as it was before the first call, on the cores that there are.
    """
    torch.set_num_threads(count or THREADS)
    if extension.built:
        extension._C.pretend_cores(count)
        extension._C.use_own_threads(own)


class Target(NamedTuple):
    device: str
    backend: str

    def __str__(self):
        return f"{self.device}-{self.backend}"


def targets(reference):
    """Every backend that can run here. With no compiled one the reference stands in, to test the harness.

    Not Triton's interpreter: that is slow, and has tests of its own.
    """
    found = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        names = [name for name in available(device) if (device, name) != ("cpu", "triton")]
        if not reference and len(names) > 1:
            names = [name for name in names if name != "reference"]
        found += [Target(device, name) for name in names]
    return found


# --- inputs: dictionaries of float64 tensors by argument name -----------------------------------------------


class Random:
    """Random float64 tensors, never zeros, the same for the same seed."""

    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, scale=1.0):
        return scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def lengths(self, batch, limit, dtype=torch.int64):
        """From 1 to limit, the first row full; of nothing, 0."""
        lengths = torch.randint(min(1, limit), limit + 1, (batch,), generator=self.generator, dtype=dtype)
        lengths[:1] = limit
        return lengths

    def factors(self, *shape, zone=False):
        """Of dropout, 0 or 1.25; of zoneout, shares from 0 to 1."""
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return (drawn * 5).floor() / 4 if zone else 1.25 * (drawn < 0.8).double()

    def mask(self, batch, size):
        """About two thirds True; every row has a valid position."""
        mask = torch.rand(batch, size, generator=self.generator) < 0.66
        mask[:, :1] = True
        return mask


def shrink(inputs):
    """The scale of a matrix that keeps the size of what it multiplies."""
    return max(inputs, 1) ** -0.5


def attention_inputs(B=3, S=7, A=17, D=9, T=None, N=None, lengths=None, mask=False, bias=None, scale=1.0, seed=0):
    """T None: one query a row. N None: no head dimension. lengths: a dtype. bias: 2 or 3 dimensions."""
    r = Random(seed)
    heads, steps = () if N is None else (N,), () if T is None else (T,)
    inputs = {
        "query": r.normal(B, *steps, *heads, A, scale=scale),
        "keys": r.normal(B, S, *heads, A, scale=scale),
        "values": r.normal(B, S, D),
        "v": r.normal(*heads, A),
    }
    if lengths is not None:
        inputs["lengths"] = r.lengths(B, S, lengths)
    if mask:
        inputs["mask"] = r.mask(B, S)
    if bias is not None:
        inputs["bias"] = r.normal(B, *(steps if bias == 3 else ()), S)
    return inputs


def step_inputs(op, B=3, H=19, scale=1.0, seed=0):
    r = Random(seed)
    gates, state = (3, "h") if op == "gru_step" else (4, "c")
    return {
        "gates_x": r.normal(B, gates * H, scale=scale),
        "gates_h": r.normal(B, gates * H, scale=scale),
        state: r.normal(B, H),
    }


def _cell(r, op, B, H, width, biases):
    gates = 4 if "lstm" in op else 3
    inputs = {"h0": r.normal(B, H)}
    if "lstm" in op:
        inputs["c0"] = r.normal(B, H)
    inputs["weight_ih"] = r.normal(gates * H, width, scale=shrink(width))
    inputs["weight_hh"] = r.normal(gates * H, H, scale=shrink(H))
    inputs["bias_ih"] = r.normal(gates * H) if biases in ("both", "ih") else None
    inputs["bias_hh"] = r.normal(gates * H) if biases in ("both", "hh") else None
    return inputs


def sequence_inputs(op, B=3, T=5, I=7, H=11, biases="both", lengths=None, reverse=False, resets=None, seed=0):
    """biases: both, ih, hh or none. resets: to zeros or to states; or None."""
    r = Random(seed)
    inputs = {"x": r.normal(B, T, I), **_cell(r, op, B, H, I, biases)}
    if op.endswith("bidirectional"):
        inputs |= {f"{name}_reverse": x for name, x in _cell(r, op, B, H, I, biases).items()}
    if lengths is not None:
        inputs["lengths"] = r.lengths(B, T, lengths)
    if reverse:
        inputs["reverse"] = True
    if resets is not None:
        inputs["resets"] = torch.rand(B, T, generator=r.generator) < 0.4
    if resets == "states":
        inputs |= {name: r.normal(B, T, H) for name in (("reset_h", "reset_c") if op == "lstm" else ("reset_states",))}
    return inputs


def scan_inputs(
    op, B=3, T=4, S=6, I=5, H=11, A=13, D=7, N=None, F=None, first=False, lengths=None, mask=False,
    biases="both", b_query=True, b_feed=True, scale=1.0, seed=0,
):  # fmt: skip
    """F: the width of w_feed, None for no w_feed. first: whether there is a first_feed.

    scale is that of the keys and of the queries' constant part. It is not in w_query: states would then grow apart
    step by step, and the last ones compare nothing but luck.
    """
    r = Random(seed)
    heads, n = ((), 1) if N is None else ((N,), N)
    context = n * D
    feed = context if F is None else F
    inputs = {
        "x": r.normal(B, T, I),
        **_cell(r, op, B, H, I + feed, biases),
        "keys": r.normal(B, S, *heads, A, scale=scale),
        "values": r.normal(B, S, D),
        "v": r.normal(*heads, A),
        "w_query": r.normal(n * A, H, scale=shrink(H)),
        "b_query": r.normal(n * A, scale=scale) if b_query else None,
    }
    if F is not None:
        inputs["w_feed"] = r.normal(F, H + context, scale=shrink(H + context))
        inputs["b_feed"] = r.normal(F) if b_feed else None
    if first:
        inputs["first_feed"] = r.normal(B, feed)
    if lengths is not None:
        inputs["lengths"] = r.lengths(B, S, lengths)
    if mask:
        inputs["mask"] = r.mask(B, S)
    return inputs


def example(op, **kwargs):
    """Inputs for any op, with what the op's own maker takes."""
    if op == "additive_attention":
        return attention_inputs(**kwargs)
    if op in ("gru_step", "lstm_step"):
        return step_inputs(op, **kwargs)
    return (scan_inputs if op.startswith("attention") else sequence_inputs)(op, **kwargs)


# --- calls --------------------------------------------------------------------------------------------------


def call(module, op, inputs):
    """``module.op`` on a dictionary of arguments; its outputs as a flat list, named by OUTPUTS[op]."""
    args = dict(inputs)
    if module is sk and op.endswith("bidirectional"):  # not public
        module = bidirectional
    if "c0_reverse" in args:
        args["state_reverse"] = (args.pop("h0_reverse"), args.pop("c0_reverse"))
    layers = [args.pop(name) for name in inputs if name.startswith("layers[")]  # layers[0][0] .. layers[0][3], ...
    if layers:
        args["layers"] = [layers[i : i + 4] for i in range(0, len(layers), 4)]
    transition = [args.pop(name) for name in inputs if name.startswith("transition[")]
    if transition:
        args["transition"] = transition
    if "reset_h" in args:
        args["reset_states"] = (args.pop("reset_h"), args.pop("reset_c"))
    if "c0" in args:
        first = (args.pop("x"), (args.pop("h0"), args.pop("c0")))
        return tree_leaves(getattr(module, op)(*first, **args))
    return tree_leaves(getattr(module, op)(**args))


def is_float(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def place(inputs, device="cpu", dtype=None):
    """``inputs`` on ``device``, the floating ones in ``dtype``."""
    return {
        name: x.to(device=device, dtype=dtype if is_float(x) else None) if isinstance(x, torch.Tensor) else x
        for name, x in inputs.items()
    }


def strided(x):
    """The same values, every other element of memory that holds NaN in between, off by one element."""
    memory = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), float("nan"), dtype=x.dtype, device=x.device)
    view = memory[..., 1::2]
    view.copy_(x)
    return view


def transposed(x):
    """The same values with the first two dimensions swapped in memory."""
    return x if x.dim() < 2 else x.transpose(0, 1).contiguous().transpose(0, 1)


def negated(x):
    """The same values as a view of memory that holds their negatives, as the imaginary part of a conjugate is one."""
    return torch._neg_view(-x)


def is_mask(name):
    """Whether an argument holds the factors of dropout or zoneout, which have no gradient."""
    return name.startswith(("drop_", "zone_"))


def leaves(inputs, wrt=None, layout=None):
    """Fresh leaves that require a gradient: all floating inputs but masks, or those named in ``wrt``."""
    made = {}
    for name, x in inputs.items():
        if is_float(x):
            x = x.detach().clone() if layout is None else layout(x.detach())
            x.requires_grad_(not is_mask(name) if wrt is None else name in wrt)
        made[name] = x
    return made


def outputs_and_gradients(module, op, inputs, cotangents, wrt=None, layout=None):
    """Everything that ``op`` computes, by name: outputs, and ``d <input>`` for every floating input.

    ``cotangents``: one an output, None where the loss does not use it.
    """
    inputs = leaves(inputs, wrt, layout)
    outputs = call(module, op, inputs)
    found = dict(zip(OUTPUTS[op], outputs, strict=True))
    wanted = {name: x for name, x in inputs.items() if is_float(x) and x.requires_grad}
    used = [
        (y, g.to(y.device, y.dtype))
        for y, g in zip(outputs, cotangents, strict=True)
        if g is not None and y.requires_grad
    ]
    gradients = torch.autograd.grad(
        [y for y, _ in used], list(wanted.values()), [g for _, g in used], allow_unused=True
    )
    for (name, x), gradient in zip(wanted.items(), gradients, strict=True):
        found[f"d {name}"] = torch.zeros_like(x) if gradient is None else gradient
    return {name: x.detach() for name, x in found.items()}


# --- the rule -----------------------------------------------------------------------------------------------


def floor(truth, dtype):
    """The epsilon of the rule: what a kernel's error may be where eager PyTorch happens to make none."""
    largest = truth.abs().max().item() if truth.numel() else 0.0
    if dtype == torch.float32:
        return 1e-6 * largest
    if dtype == torch.float64:
        return 1e-14 * largest
    if largest == 0:
        return 0.0
    info = torch.finfo(dtype)
    return info.eps * max(2.0 ** math.floor(math.log2(largest)), info.tiny)  # one unit in the last place of it


def error(found, truth):
    if not truth.numel():
        return 0.0
    difference = (found.double().to(truth.device) - truth).abs()
    return difference.max().item() if difference.isfinite().all() else math.inf


def assert_within_rule(draws, dtype, what=""):
    """error(found) <= 2 error(eager) + epsilon for each named tensor; the truth is in float64.

    draws: (found, errors of eager, truth) of each; the worst error of each side counts.
    """
    wrong = []
    for name in draws[0][2]:
        kernel, eager, epsilon = 0.0, 0.0, 0.0
        for found, eager_errors, truth in draws:
            true = truth[name]
            assert found[name].shape == true.shape, f"{what} {name}: shape {found[name].shape}, not {true.shape}"
            assert found[name].dtype == dtype, f"{what} {name}: {found[name].dtype}, not {dtype}"
            assert true.isfinite().all(), f"{what} {name}: the truth itself is not finite"
            kernel = max(kernel, error(found[name], true))
            if math.isfinite(eager_errors[name]):
                eager = max(eager, eager_errors[name])
            epsilon = max(epsilon, floor(true, dtype))
        if not kernel <= 2 * eager + epsilon:
            wrong.append(f"{name}: error {kernel:.3g} > 2 * {eager:.3g} (eager) + {epsilon:.3g}")
    assert not wrong, f"{what} {dtype}: " + "; ".join(wrong)


def assert_within_rule_when_drawn(make, dtype, what="", draws=8):
    """The rule for the draw ``make(0)``. Where that breaks it, for all of ``make(0)``, ``make(1)``, ... together: eager
    PyTorch may be exact by luck, on one machine and not on another, and one draw then says nothing."""
    made = [make(0)]
    try:
        assert_within_rule(made, dtype, what)
    except AssertionError:
        made += [make(i) for i in range(1, draws)]
        assert_within_rule(made, dtype, what)


def draw(op, inputs, dtype, target, wrt=None, use=None, layout=None, seed=1):
    """What the kernel found, the errors of eager PyTorch on the kernel's device, and the truth."""
    inputs = place(place(inputs, target.device, dtype), "cpu")
    shapes = [y.shape for y in call(reference, op, place(inputs))]
    r = Random(seed)
    cotangents = [r.normal(*shape).to(dtype) for shape in shapes]
    if use is not None:
        cotangents = [g if name in use else None for name, g in zip(OUTPUTS[op], cotangents, strict=True)]

    def errors_of_eager(inputs):
        truth = outputs_and_gradients(reference, op, place(inputs, dtype=torch.float64), cotangents, wrt)
        eager = outputs_and_gradients(reference, op, place(inputs, target.device), cotangents, wrt)
        return truth, {name: error(eager[name], true) for name, true in truth.items()}

    # In float64 the truth and eager are one computation: take float32's error, scaled by how much less a float64
    # rounds, and twice, since the truth is off by as much.
    truth, eager_errors = errors_of_eager(place(inputs, dtype=torch.float32) if dtype == torch.float64 else inputs)
    if dtype == torch.float64:
        scale = 2 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps
        truth = outputs_and_gradients(reference, op, inputs, cotangents, wrt)
        eager_errors = {name: e * scale for name, e in eager_errors.items()}
    found = outputs_and_gradients(sk, op, place(inputs, target.device), cotangents, wrt, layout)
    return found, eager_errors, truth


def assert_parity(op, inputs, dtype, target, *, wrt=None, use=None, layout=None, seed=1):
    """The rule for every output and every gradient of ``op``, with random cotangents.

    wrt: names of the inputs that require a gradient; use: names of the outputs that the loss uses. None: all.
    All computations start from the same values, those that ``dtype`` can hold.
    """
    one = draw(op, inputs, dtype, target, wrt, use, layout, seed)
    assert_within_rule([one], dtype, f"{op} on {target}")
    return one[0]


def assert_parity_when_drawn(op, make, dtype, target, **options):
    """The rule for the inputs ``make(seed=0)``; see ``assert_parity`` and ``assert_within_rule_when_drawn``."""
    assert_within_rule_when_drawn(
        lambda i: draw(op, make(seed=i), dtype, target, **options), dtype, f"{op} on {target}"
    )


def assert_parity_of_draws(op, draws, dtype, target):
    """The rule for several inputs together, where one element carries a whole error and one draw says nothing."""
    assert_within_rule([draw(op, inputs, dtype, target) for inputs in draws], dtype, f"{op} on {target}")


def assert_parity_in_one_launch(launches, op, inputs, dtype, kernel, seed, multiprocessors):
    """By the rule, each pass one launch: ``launches`` is the fixture."""
    _, count = launches(
        lambda: assert_parity(op, inputs, dtype, kernel, seed=seed), seed=seed, multiprocessors=multiprocessors
    )
    assert count in (None, 2)  # forward and backward
