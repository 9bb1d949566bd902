"""The loss over a vocabulary of 8,000: the output layer and its cross-entropy, over all B * T rows."""

import torch
from torch.nn import functional as F

import s2s_kernels as sk

from . import peers
from .cases import SHAPES, Case, functional, suites_of
from .end_to_end import VOCAB
from .parity import helpers


def eager(features, weight, bias, targets):
    return F.cross_entropy(F.linear(features, weight, bias), targets, reduction="sum")


def inputs(N, R, V):
    r = helpers.Random()
    made = {"features": r.normal(N, R), "weight": r.normal(V, R, scale=R**-0.5), "bias": r.normal(V)}
    return {**made, "targets": torch.randint(0, V, (N,), generator=r.generator)}


def case(name, N, R, V=VOCAB):
    return Case(
        "linear_cross_entropy",
        name,
        {"N": N, "R": R, "V": V},
        lambda: inputs(N, R, V),
        functional(eager),
        (
            *peers.ours(functional(sk.linear_cross_entropy)),
            *peers.eager(functional(eager)),
            *peers.compiled(eager, frozenset({"cpu", "full"})),
        ),
        outputs=("loss",),
        used=("loss",),
        flops=2 * N * R * V,
        suites=suites_of(name),
    )


CASES = [case(name, shape.B * shape.T, shape.H) for name, shape in SHAPES.items() if name in ("C1", "C2", "P")]


def test_linear_cross_entropy(timed):
    timed()
