"""A bidirectional GRU layer over the source, as an encoder has it, against torch.nn.GRU."""

from . import peers
from .cases import SHAPES, Case, suites_of

OUTPUTS = ("output", "h_n")


def case(name, suites, B, S, E, H, lengths=False):
    reference, implementations = peers.recurrences("gru", lengths)
    return Case(
        "gru",
        name,
        {"B": B, "S": S, "E": E, "H": H},
        lambda: peers.recurrent_inputs("gru", B, S, E, H, lengths),
        reference,
        implementations,
        outputs=OUTPUTS,
        used=OUTPUTS,
        flops=2 * 2 * B * S * (E + H) * 3 * H,
        suites=suites,
    )


CASES = [case(name, suites_of(name), **shape.pick("BSEH")) for name, shape in SHAPES.items()]
CASES.append(case("P, H=1024", {"gpu"}, **SHAPES["P"].pick("BSEH", H=1024)))
CASES.append(case("C2, lengths", {"cpu", "gpu"}, **SHAPES["C2"].pick("BSEH"), lengths=True))


def test_gru(timed):
    timed()
