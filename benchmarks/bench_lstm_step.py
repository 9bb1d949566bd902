"""One step of an LSTM after its matrix products: only elementwise work."""

from . import peers
from .cases import SHAPES, Case, suites_of
from .parity import helpers

REFERENCE, IMPLEMENTATIONS = peers.functions("lstm_step", peers.lstm_step)


def case(name, B, H):
    return Case(
        "lstm_step",
        name,
        {"B": B, "H": H},
        lambda: helpers.step_inputs("lstm_step", B=B, H=H),
        REFERENCE,
        IMPLEMENTATIONS,
        outputs=("h", "c"),
        used=("h", "c"),
        flops=0,
        suites=suites_of(name),
    )


CASES = [case(name, **shape.pick("BH")) for name, shape in SHAPES.items()]


def test_lstm_step(timed):
    timed()
