"""docs/drop-in.md: the loops that it shows give what the ops beside them give, gradients too."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import s2s_kernels as sk

PAGE = Path(__file__).parents[1] / "docs" / "drop-in.md"
B, T, S, E, H, A, D, F = 3, 4, 5, 2, 6, 7, 8, 9


def codes(heading):
    """The eager and the fused code under a heading."""
    section = PAGE.read_text().partition(f"\n### {heading}")[2].partition("\n##")[0]
    return re.findall(r"```python\n# (?:eager|fused)\n(.*?)```", section, re.DOTALL)


def names(fed):
    torch.manual_seed(0)
    lengths = torch.tensor([5, 1, 3])
    shapes = {"x": (B, T, E), "h": (B, H), "keys": (B, S, A), "values": (B, S, D), "v": (A,)}
    shapes |= {"w_query": (A, H), "b_query": (A,), "w_feed": (F, H + D), "b_feed": (F,)}
    tensors = {name: torch.randn(shape).double().requires_grad_() for name, shape in shapes.items()}

    def attend(query):
        return sk.additive_attention(query, tensors["keys"], tensors["values"], tensors["v"], lengths=lengths)

    cell = nn.GRUCell(E + fed, H).double()
    return {**tensors, "attend": attend, "cell": cell, "lengths": lengths, "torch": torch, "sk": sk}


@pytest.mark.parametrize(
    ("heading", "fed", "results"),
    [
        ("Attention before the cell", D, ["states", "contexts", "weights", "h"]),
        ("Attention after the cell", F, ["states", "feeds", "weights", "h"]),
    ],
)
def test_the_loops_of_the_page(heading, fed, results):
    found = []
    for code in codes(heading):
        space = names(fed)
        leaves = {name: x for name, x in space.items() if isinstance(x, torch.Tensor) and x.requires_grad}
        leaves |= dict(space["cell"].named_parameters())
        exec(code, space)
        outputs = {name: space[name] for name in results}
        torch.manual_seed(1)
        sum((x * torch.randn(x.shape)).sum() for x in outputs.values()).backward()
        grads = {name: x.grad for name, x in leaves.items() if x.grad is not None}
        found.append((outputs, grads))
    (eager, eager_grads), (fused, fused_grads) = found
    assert eager_grads.keys() == fused_grads.keys() and len(eager_grads) >= 11
    for ours, theirs in ((fused, eager), (fused_grads, eager_grads)):
        for name, x in theirs.items():
            torch.testing.assert_close(ours[name], x, rtol=1e-12, atol=1e-12)
