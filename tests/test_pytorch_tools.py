"""The table of docs/pytorch.md, cell by cell; and the same tools on torch.ops, which know of no reference."""

import pages
import pytest
import torch
from helpers import Random
from pytorch_tools import OPS, SEARCHES, TOOLS, Problem, cell, outcome
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk


def page():
    """{op: {tool: cell}} and the sentences."""
    header, _, *lines = pages.read("pytorch.md", "tools").splitlines()
    ops = [word.strip(" `") for word in header.split("|")[2:-1]]
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    sentences = [line.split(". ", 1)[1] for line in lines if line[:1].isdigit()]
    return {op: {row[0]: row[1 + i] for row in rows} for i, op in enumerate(ops)}, sentences


@pytest.mark.parametrize("op", [*OPS, *SEARCHES])
def test_the_table_is_what_happens(op):
    cells, sentences = page()
    known = len(sentences)
    assert {tool: cell(op, outcome(op, tool), sentences) for tool in TOOLS} == cells[op]
    assert len(sentences) == known


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "GRUCell", "LSTMCell"])
def test_gradients_of_each_sample(kind):
    module = getattr(sk.nn, kind)(5, 6).double()
    weights = {name: w.detach() for name, w in module.named_parameters()}
    samples = Random(0).normal(*((4, 3, 5) if kind.endswith("Cell") else (4, 7, 3, 5)))

    def loss(weights, x):
        return sum(y.square().sum() for y in tree_leaves(functional_call(module, weights, (x,))))

    found = vmap(grad(loss), in_dims=(None, 0))(weights, samples)
    for i, x in enumerate(samples):
        loss(dict(module.named_parameters()), x).backward()
        for name, w in module.named_parameters():
            assert torch.allclose(found[name][i], w.grad, rtol=0, atol=1e-12)
            w.grad = None


def torch_op(name):
    return getattr(torch.ops.s2s_kernels, name)


def gru_inputs():
    p = Problem("gru")
    return [x.requires_grad_(False) for x in p.floats.values()], p.rest


def test_torch_ops_refuse_forward_mode_instead_of_zeros():
    """They had returned zeros: where no input requires a gradient, their autograd had been skipped."""
    floats, rest = gru_inputs()
    with pytest.raises(
        NotImplementedError, match=r"torch.ops.s2s_kernels.gru has no forward-mode.*s2s_kernels.gru has"
    ):
        jvp(lambda *x: torch_op("gru")(*x, **rest), tuple(floats), tuple(map(torch.ones_like, floats)))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        torch_op("gru")(forward_ad.make_dual(floats[0], torch.ones_like(floats[0])), *floats[1:], **rest)
    loss = Problem("linear_cross_entropy")
    features = loss.floats.pop("features")
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        dual = forward_ad.make_dual(features, torch.ones_like(features))
        torch_op("linear_cross_entropy")(dual, **loss.floats, **loss.rest)
    step = Problem("gru_step")
    with pytest.raises(RuntimeError):
        jvp(torch_op("gru_step"), tuple(step.floats.values()), tuple(step.directions().values()))


def test_torch_ops_under_grad_are_refused():
    floats, rest = gru_inputs()
    with pytest.raises(RuntimeError, match="autograd"):
        grad(lambda x: torch_op("gru")(x, *floats[1:], **rest)[0].sum())(floats[0])


def test_a_named_backend_does_not_fall_back():
    floats, rest = gru_inputs()
    with (
        sk.backend("cpp"),
        pytest.raises(RuntimeError, match=r"'cpp' cannot run gru under torch.func.*auto, reference"),
    ):
        grad(lambda x: sk.gru(x, *floats[1:], **rest)[0].sum())(floats[0])


def test_arguments_are_checked_under_a_transform():
    floats, _ = gru_inputs()
    with pytest.raises(ValueError, match="weight_hh has shape"):
        grad(lambda x: sk.gru(x, floats[1], floats[2], floats[3][:-1])[0].sum())(floats[0])


@pytest.mark.parametrize("order", ["compile(grad)", "grad(compile)", "compile"])
def test_transforms_and_compiled_functions(order):
    """Neither takes the other's way: the op stands in the graph where no transform is at work."""
    torch._dynamo.reset()
    floats, _ = gru_inputs()
    graphs = []

    def backend(graph, _):
        graphs.append(str(graph.graph))
        return graph

    def loss(x):
        return sk.gru(x, *floats[1:])[0].square().sum()

    if order == "compile":
        found = torch.compile(loss, backend=backend, fullgraph=True)(floats[0])
        expected = loss(floats[0])
    else:
        compiled = torch.compile(grad(loss) if order == "compile(grad)" else loss, backend=backend)
        found = compiled(floats[0]) if order == "compile(grad)" else grad(compiled)(floats[0])
        expected = grad(loss)(floats[0])
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)
    assert any("s2s_kernels.gru" in graph for graph in graphs) == (order == "compile")
    torch._dynamo.reset()


def test_saved_tensors_on_the_cpu_and_other_hooks():
    """torch.autograd.graph's hooks unpack with autograd as it was, as torch.utils.checkpoint does."""
    p = Problem("attention_gru")
    states = []
    unpack = lambda x: (states.append(torch.is_grad_enabled()), x)[1]
    leaves = p.leaves()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, unpack):
        loss = p.loss(sk, leaves)
    found = torch.autograd.grad(loss, list(leaves.values()))
    assert states
    for x, y in zip(found, p.gradients(), strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-12)
