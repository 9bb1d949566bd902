"""Additive attention: score, softmax and context, for one query a row and for T."""

from . import peers
from .cases import SHAPES, TRAINING, Case, scaled, suites_of
from .parity import helpers

REFERENCE, IMPLEMENTATIONS = peers.functions("additive_attention", peers.additive_attention)


def case(name, suites, B, S, A, D, T=None, **options):
    dims = {"B": B, "S": S, "A": A, "D": D, **({} if T is None else {"T": T})}
    return Case(
        "additive_attention",
        name,
        dims,
        lambda: scaled(helpers.attention_inputs(**dims)),
        REFERENCE,
        IMPLEMENTATIONS,
        outputs=("context", "weights"),
        used=("context",),
        flops=2 * B * (T or 1) * S * D,
        suites=suites,
        **options,
    )


CASES = [case(name, suites_of(name), **shape.pick("BSAD")) for name, shape in SHAPES.items()]
CASES += [case(f"{name}, T queries", {"gpu"}, **SHAPES[name].pick("BSADT")) for name in ("P", "C2", "Q")]
CASES += [
    case("T queries, small", {"quick"}, B=4, S=50, A=128, D=128, T=50),
    case("T queries", {"cpu", "gpu"}, B=16, S=200, A=256, D=256, T=200),
    # Eager makes a tensor of T*S*A here and keeps another for the backward pass.
    case("long source", {"cpu", "gpu"}, B=1, S=20_000, A=128, D=128, T=64, passes=(TRAINING,)),
]


def test_additive_attention(timed):
    timed()
