"""One step of a GRU after its matrix products: only elementwise work."""

from . import peers
from .cases import SHAPES, Case, suites_of
from .parity import helpers

REFERENCE, IMPLEMENTATIONS = peers.functions("gru_step", peers.gru_step)


def case(name, B, H):
    return Case(
        "gru_step",
        name,
        {"B": B, "H": H},
        lambda: helpers.step_inputs("gru_step", B=B, H=H),
        REFERENCE,
        IMPLEMENTATIONS,
        outputs=("h",),
        used=("h",),
        flops=0,
        suites=suites_of(name),
    )


CASES = [case(name, **shape.pick("BH")) for name, shape in SHAPES.items()]


def test_gru_step(timed):
    timed()
