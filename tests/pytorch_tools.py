"""Every op under PyTorch's function transforms, checkpoints and the like, held against the reference in float64.

tests/test_pytorch_tools.py runs all of it, and docs/pytorch.md has what comes out as a table:

    python tests/pytorch_tools.py --write
"""

import sys
from functools import partial

import pages
import torch
from helpers import Random, call, example, is_float
from search_tests import NAMES, SEARCH, search_inputs
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint

import s2s_kernels as sk
from s2s_kernels import reference

OPS = {
    "additive_attention": {"T": 2, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3},
    "gru_step": {},
    "lstm_step": {},
    "gru": {"lengths": torch.int64},
    "lstm": {"reverse": True},
    "attention_gru": {"F": 3, "first": True, "lengths": torch.int64},
    "attention_lstm": {"N": 2, "mask": True},
    "linear_cross_entropy": {},
}
SEARCHES = ("greedy_search", "beam_search")
STEP = {"B": 2, "H": 3}
SEQUENCE = {"B": 2, "T": 3, "I": 2, "H": 3}
SCAN = {"B": 2, "T": 2, "S": 3, "I": 2, "H": 3, "A": 2, "D": 2}
SMALL = {"additive_attention": {"B": 2, "S": 3, "A": 3, "D": 2}, "gru_step": STEP, "lstm_step": STEP}
SMALL |= {"gru": SEQUENCE, "lstm": SEQUENCE, "attention_gru": SCAN, "attention_lstm": SCAN}


def weighted(outputs):
    """A scalar of all outputs, each element with a weight of its own."""
    weights = [torch.linspace(0.5, 1.5 + i, y.numel(), dtype=y.dtype).cos() for i, y in enumerate(outputs)]
    return sum((y * w.view(y.shape)).sum() for y, w in zip(outputs, weights, strict=True))


class Problem:
    """An op at one point: its floating inputs apart, so that transforms can go over them."""

    def __init__(self, op, seed=0):
        self.op, self.search = op, {}
        if op == "linear_cross_entropy":
            r = Random(seed)
            given = {"features": r.normal(4, 3), "weight": r.normal(5, 3), "bias": r.normal(5)}
            given |= {"targets": torch.tensor([0, 4, 2, 2]), "label_smoothing": 0.1}
        elif op in SEARCHES:
            inputs = search_inputs(B=2, S=3, H=4, A=3, D=2, E=3, V=7, readout="state_context")
            given = {"values": inputs.pop("values")}
            self.search = inputs
        else:
            given = example(op, seed=seed, **SMALL[op], **OPS[op])
        self.floats = {name: x for name, x in given.items() if is_float(x)}
        self.rest = {name: x for name, x in given.items() if name not in self.floats}

    def outputs(self, module, floats, rest=None):
        """A tuple, of all outputs."""
        if self.op in SEARCHES:
            inputs = self.search | floats
            weights = [inputs.pop(name) for name in NAMES]
            search = getattr(module, self.op)(*weights, **{**SEARCH, "forbidden": (0,), "max_length": 3}, **inputs)
            return (search.scores,)
        inputs = {**floats, **(self.rest if rest is None else rest)}
        if self.op == "linear_cross_entropy":
            op = module.logits_cross_entropy if module is reference else module.linear_cross_entropy
            return (op(**inputs),)
        return tuple(call(module, self.op, inputs))

    def loss(self, module, floats, rest=None):
        return weighted(self.outputs(module, floats, rest))

    def directions(self):
        return {name: Random(200 + i).normal(*x.shape) for i, (name, x) in enumerate(self.floats.items())}

    def leaves(self):
        return {name: x.detach().clone().requires_grad_() for name, x in self.floats.items()}

    def gradients(self, module=reference):
        leaves = self.leaves()
        return torch.autograd.grad(self.loss(module, leaves), list(leaves.values()))

    def jacobians(self):
        """By plain reverse mode, a row at a time."""
        rows = []
        for i, y in enumerate(self.outputs(reference, self.floats)):
            for element in range(y.numel()):
                leaves = self.leaves()
                one = self.outputs(reference, leaves)[i].flatten()[element]
                rows.append(torch.autograd.grad(one, list(leaves.values()), allow_unused=True, materialize_grads=True))
        return [torch.stack([g.flatten() for g in gs]) for gs in zip(*rows, strict=True)]

    def products(self):
        """J v, by way of the Jacobians."""
        sides = zip(self.jacobians(), self.directions().values(), strict=True)
        product = sum(jacobian @ v.flatten() for jacobian, v in sides)
        shapes = [y.shape for y in self.outputs(reference, self.floats)]
        return [x.view(shape) for x, shape in zip(product.split([s.numel() for s in shapes]), shapes, strict=True)]


# --- the tools: what was found and what is true


def tool_grad(p):
    return grad(partial(p.loss, sk))(p.floats).values(), p.gradients()


def tool_vjp(p):
    loss, back = vjp(partial(p.loss, sk), p.floats)
    return back(torch.ones_like(loss))[0].values(), p.gradients()


def jacobian_by(transform, p):
    """One function over all outputs, so that the transform is called once."""

    def flat(floats):
        return torch.cat([y.flatten() for y in p.outputs(sk, floats)])

    return [j.flatten(1) for j in transform(flat)(p.floats).values()], p.jacobians()


def tool_batched_gradients(p):
    leaves = p.leaves()
    y = torch.cat([y.flatten() for y in p.outputs(sk, leaves)])
    found = torch.autograd.grad(y, list(leaves.values()), torch.eye(len(y), dtype=y.dtype), is_grads_batched=True)
    return [g.flatten(1) for g in found], p.jacobians()


def tool_jvp(p):
    return jvp(partial(p.outputs, sk), (p.floats,), (p.directions(),))[1], p.products()


def tool_dual(p):
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(x, v) for (name, x), v in zip(p.floats.items(), p.directions().values())}
        return [forward_ad.unpack_dual(y).tangent for y in p.outputs(sk, duals)], p.products()


def copies(p):
    """Three points, those of one in each row: (floats, rest), lengths among the rest."""
    points = [Problem(p.op, seed) for seed in range(3)]
    floats = {name: torch.stack([q.floats[name] for q in points]) for name in p.floats}
    rest = {
        name: torch.stack([q.rest[name] for q in points]) if isinstance(x, torch.Tensor) else x
        for name, x in p.rest.items()
    }
    return points, floats, rest


def over(p, function):
    """vmap of ``function(floats, tensors of rest)``."""
    points, floats, rest = copies(p)
    tensors = {name: x for name, x in rest.items() if isinstance(x, torch.Tensor)}
    others = {name: x for name, x in rest.items() if name not in tensors}
    return points, vmap(lambda floats, tensors: function(floats, {**tensors, **others}))(floats, tensors)


def tool_vmap(p):
    points, found = over(p, partial(p.outputs, sk))
    truth = [q.outputs(reference, q.floats) for q in points]
    return found, [torch.stack(ys) for ys in zip(*truth, strict=True)]


def tool_vmap_grad(p):
    points, found = over(p, grad(partial(p.loss, sk)))
    return found.values(), [torch.stack(gs) for gs in zip(*(q.gradients() for q in points), strict=True)]


def tool_checkpoint(reentrant, p):
    """The op alone, and as the last of a region and followed by more of it."""

    def alone(module, *tensors):
        return p.outputs(module, dict(zip(p.floats, tensors, strict=True)))

    def last(module, *tensors):
        return alone(module, *map(torch.sin, tensors))

    def inside(module, *tensors):
        return tuple(map(torch.sin, alone(module, *tensors)))

    def gradients(outputs, leaves):
        weighted(outputs).backward()
        return [x.grad for x in leaves]

    found, truth = [], []
    for region in (alone, last, inside):
        tensors, its_tensors = list(p.leaves().values()), list(p.leaves().values())
        found += gradients(checkpoint(partial(region, sk), *tensors, use_reentrant=reentrant), tensors)
        truth += gradients(region(reference, *its_tensors), its_tensors)
    return found, truth


def squares_of_gradients(p, module):
    """The gradients of the sum of the squares of the gradients, by double backward."""
    leaves = p.leaves()
    first = torch.autograd.grad(p.loss(module, leaves), list(leaves.values()), create_graph=True)
    return torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values()))


def tool_double_backward(p):
    return squares_of_gradients(p, sk), squares_of_gradients(p, reference)


def tool_grad_of_grad(p):
    def squared(floats):
        return sum(g.square().sum() for g in grad(partial(p.loss, sk))(floats).values())

    return grad(squared)(p.floats).values(), squares_of_gradients(p, reference)


def tool_meta(p):
    """Shapes and dtypes, without memory."""

    def blank(x):
        return torch.zeros(x.shape, dtype=x.dtype)

    truth = p.outputs(sk, p.floats)
    *inputs, p.search = tree_map(
        lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, (p.floats, p.rest, p.search)
    )
    found = p.outputs(sk, *inputs)
    assert all(y.is_meta for y in found)
    return map(blank, found), map(blank, truth)


MODULES = {
    "additive_attention": (lambda: sk.nn.AdditiveAttention(3, 4, 2), lambda r: (r.normal(2, 3), r.normal(2, 5, 4))),
    "gru_step": (lambda: sk.nn.GRUCell(3, 4), lambda r: (r.normal(2, 3),)),
    "lstm_step": (lambda: sk.nn.LSTMCell(3, 4), lambda r: (r.normal(2, 3),)),
    "gru": (lambda: sk.nn.GRU(3, 4, 2, bidirectional=True), lambda r: (r.normal(5, 2, 3),)),
    "lstm": (lambda: sk.nn.LSTM(3, 4), lambda r: (r.normal(5, 2, 3),)),
    "attention_gru": (
        lambda: sk.nn.AttentionGRU(3, 4, 5, 2),
        lambda r: (r.normal(2, 3, 3), r.normal(2, 4), r.normal(2, 6, 5)),
    ),
    "attention_lstm": (
        lambda: sk.nn.AttentionLSTM(3, 4, 5, 2, feed_size=3),
        lambda r: (r.normal(2, 3, 3), (r.normal(2, 4), r.normal(2, 4)), r.normal(2, 6, 5)),
    ),
}


def tool_functional_call(p):
    """The op's module with other weights, and their gradients."""
    if p.op not in MODULES:
        raise NoSuchThing
    make, inputs = MODULES[p.op]
    module, inputs = make().double(), inputs(Random(1))
    weights = {name: (0.5 * w.detach()).requires_grad_() for name, w in module.named_parameters()}
    twin = make().double()
    twin.load_state_dict(weights)

    def run(outputs, wanted):
        outputs = [y for y in tree_leaves(outputs) if y.requires_grad]
        return [*outputs, *torch.autograd.grad(weighted(outputs), wanted, allow_unused=True, materialize_grads=True)]

    found = run(functional_call(module, weights, inputs), list(weights.values()))
    with sk.backend("reference"):
        truth = run(twin(*inputs), list(twin.parameters()))
    return found, truth


class NoSuchThing(Exception):
    """The op has no module."""


TOOLS = {
    "`grad`": tool_grad,
    "`vjp`": tool_vjp,
    "`jacrev`": partial(jacobian_by, jacrev),
    "`jvp`": tool_jvp,
    "`jacfwd`": partial(jacobian_by, jacfwd),
    "dual numbers": tool_dual,
    "`vmap`": tool_vmap,
    "`vmap(grad)`": tool_vmap_grad,
    "`grad(grad)`": tool_grad_of_grad,
    "double backward": tool_double_backward,
    "`is_grads_batched`": tool_batched_gradients,
    "`checkpoint`": partial(tool_checkpoint, False),
    "`checkpoint`, reentrant": partial(tool_checkpoint, True),
    "meta device": tool_meta,
    "`functional_call`": tool_functional_call,
}


def outcome(op, tool):
    """``right``, or the one sentence of the error; an assertion fails on numbers that are not right."""
    torch.manual_seed(0)
    try:
        found, truth = TOOLS[tool](Problem(op))
    except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
        return str(error).split("\n")[0]
    except NoSuchThing:
        return ""
    found, truth = list(found), list(truth)
    for y, true in zip(found, truth, strict=True):
        assert y.shape == true.shape and y.dtype == true.dtype
        assert (y - true).abs().max() <= 1e-12 * max(1.0, true.abs().max().item()), f"{op} under {tool} is wrong"
    return "right"


def cell(op, found, sentences):
    """What the table says: a number for a sentence, which joins ``sentences`` when it is new."""
    if found in ("right", ""):
        return found
    sentence = found.replace(f"s2s_kernels.{op}", "s2s_kernels.…")
    if sentence not in sentences:
        sentences.append(sentence)
    return f"refused ({sentences.index(sentence) + 1})"


def table(outcomes):
    """Markdown of {op: {tool: outcome}}: a row a tool, and the sentences of what is refused under it."""
    sentences = []
    lines = ["| | " + " | ".join(f"`{op}`" for op in outcomes) + " |", "| --- |" + " --- |" * len(outcomes)]
    for tool in TOOLS:
        cells = [cell(op, found[tool], sentences) for op, found in outcomes.items()]
        lines.append(f"| {tool} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"{i}. {sentence}" for i, sentence in enumerate(sentences, 1)), ""])


def all_outcomes():
    return {op: {tool: outcome(op, tool) for tool in TOOLS} for op in (*OPS, *SEARCHES)}


if __name__ == "__main__":
    if "--write" in sys.argv:
        pages.write("pytorch.md", "tools", table(all_outcomes()))
    else:
        print(table(all_outcomes()))
