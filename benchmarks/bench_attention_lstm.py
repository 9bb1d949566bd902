"""The attention decoder on an LSTM cell: the whole teacher-forced recurrence as one op."""

import s2s_kernels as sk

from . import peers
from .cases import SHAPES, Case, scaled, suites_of
from .parity import helpers

GATES = 4


def without_feeds(module):
    """The op's outputs but for ``feeds``, which are the contexts again."""

    def function(**inputs):
        states, contexts, weights, _, *last = helpers.call(module, "attention_lstm", inputs)
        return states, contexts, weights, *last

    return function


REFERENCE, IMPLEMENTATIONS = peers.functions(
    "attention_lstm",
    peers.attention_lstm,
    kernels=without_feeds(sk),
    reference=without_feeds(sk.reference),
    loop=True,
)


def flops(B, S, T, E, H, A, D):
    """Gates of input, feed and state; T + 1 queries and contexts. The keys are an input."""
    return 2 * B * (T * GATES * H * (E + D + H) + (T + 1) * (A * H + S * D))


def case(name, suites, shape, op="attention_lstm"):
    B, S, T, E, H, A, D = shape
    return Case(
        op,
        name,
        shape._asdict(),
        lambda: scaled(helpers.scan_inputs("attention_lstm", B=B, S=S, T=T, I=E, H=H, A=A, D=D)),
        REFERENCE,
        IMPLEMENTATIONS,
        outputs=("states", "contexts", "weights", "h_n", "c_n"),
        used=("states", "contexts"),
        flops=flops(*shape),
        tokens=B * T,
        suites=suites,
    )


CASES = [case(name, suites_of(name), shape) for name, shape in SHAPES.items()]


def test_attention_lstm(timed):
    timed()
