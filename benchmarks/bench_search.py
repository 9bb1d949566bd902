"""Greedy and beam search, end to end, over models that never say </s>, so that everyone makes as many steps."""

import warnings
from dataclasses import replace

import torch

import s2s_kernels as sk

from . import end_to_end, joey, peers
from .cases import FORWARD, SHAPES, Case, Implementation, Prepared

EOS = 3
FLOATS = (torch.float32,)  # in narrower dtypes the choice of tokens is not the same, so there is nothing to compare


def decoded(build, settings, search, backend=None, dtype=None):
    """``prepare`` of ``search(model, source, lengths)``, which returns the ids as lists or a tensor; ``dtype``: that
    of the model, by default that of the inputs."""

    def prepare(inputs):
        model = build(settings, inputs).eval().to(dtype)
        source, lengths = inputs["source"], inputs["source_lengths"]

        def run():
            with torch.inference_mode():
                if backend is None:
                    ids = search(model, source, lengths)
                else:
                    with sk.backend(backend):
                        ids = search(model, source, lengths)
            return (torch.as_tensor(ids, device=source.device),)

        return Prepared(run, {})

    return prepare


def kernels_search(T, beam, quantize="none"):
    """The search of ``s2s``, greedy when beam is 1."""
    from s2s.search import SearchOptions, search

    options = SearchOptions(beam=beam, max_length=T, quantize=quantize)
    return lambda *args: [row[0].ids for row in search(*args, options)]


def eager_greedy(T):
    """The loop that a careful user writes: no probabilities, since greedy search needs none."""

    def search(model, source, lengths):
        memory, state = model.start(source, lengths)
        tokens, ids = source.new_full((len(source),), 2), []
        finished = torch.zeros_like(tokens, dtype=torch.bool)
        for _ in range(T):
            logits, _, state = model.logits(tokens, state, memory)
            tokens = logits.argmax(-1)
            ids.append(tokens)
            finished |= tokens == EOS
            if finished.all():
                break
        return torch.stack(ids, 1)

    return search


def eager_in_8_bits(settings, inputs):
    """The eager model with PyTorch's own modules of 8 bits, which round what they read in every call, as ours do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is to move to another package
        kinds = {torch.nn.Linear, torch.nn.GRUCell}
        return torch.ao.quantization.quantize_dynamic(end_to_end.eager(settings, inputs), kinds, dtype=torch.qint8)


def inputs(settings, B, S, vocab):
    source, lengths = end_to_end.sentences(B, S, vocab, seed=2)
    found = end_to_end.parameters(settings, vocab)
    found["output.weight"] *= 10  # a decided model: no rounding chooses between its outputs
    found["output.bias"][:4] = -30  # padding, <unk>, <s> and </s> are never the best
    return {**found, "source": source, "source_lengths": lengths}


def case(name, shape, feeding, beam, suites, vocab=end_to_end.VOCAB):
    settings = end_to_end.config(shape, feeding)
    B, S, T, E, H, A, D = shape

    def lazily(backend=None, dtype=None, quantize="none"):
        return lambda x: decoded(end_to_end.ours, settings, kernels_search(T, beam, quantize), backend, dtype)(x)

    def eager(dtype=None, build=end_to_end.eager):
        # Its beam search is that of ``s2s``, whose steps run from Python for a model that is not its own.
        search = eager_greedy if beam == 1 else lambda T: kernels_search(T, beam)
        return lambda x: decoded(build, settings, search(T), dtype=dtype)(x)

    everyone = (peers.ours(lazily())[0], Implementation("eager", eager()))
    for who, prepare in (("s2s_kernels", lazily), ("eager", eager)):  # rounded weights may choose other tokens
        narrow = prepare(dtype=torch.bfloat16)
        everyone += (Implementation(f"{who}, bfloat16", narrow, same_function=False),)
    for who, narrow in (
        ("s2s_kernels, int8", lazily(quantize="int8")),
        ("torch.ao, int8", eager(build=eager_in_8_bits)),
    ):
        everyone += (Implementation(who, narrow, devices=("cpu",), same_function=False),)
    if feeding == end_to_end.LUONG:
        search = joey.search(T, beam)
        its = Implementation("JoeyNMT", decoded(joey.build, settings, search), same_function=False)
        everyone += joey.available(its)  # it chooses among the beam at the end by another rule
    fed = H if feeding == end_to_end.LUONG else D
    step = 3 * H * (E + fed + H) + H * A + (H + D) * H + H * vocab
    return Case(
        "search",
        name,
        {**shape._asdict(), "V": vocab, "beam": beam},
        lambda: inputs(settings, B, S, vocab),
        lazily("reference"),
        tuple(replace(i, dtypes=FLOATS) for i in everyone),
        outputs=("ids",),
        used=(),
        flops=end_to_end.flops(settings, B * beam, S, T, vocab),
        bytes=T * (step + B * beam * S * (A + D)),  # weights, keys and values, read every step
        tokens=B * T,
        passes=(FORWARD,),
        suites=suites,
    )


C1, C2, P = SHAPES["C1"], SHAPES["C2"], SHAPES["P"]
CASES = [
    case("greedy, B=1, H=128", C1._replace(B=1), end_to_end.BAHDANAU, 1, {"quick", "cpu", "gpu"}),
    case("greedy, B=1, H=512", P._replace(B=1), end_to_end.BAHDANAU, 1, {"cpu", "gpu"}),
    case("greedy, B=1, H=512, V=32000", P._replace(B=1), end_to_end.BAHDANAU, 1, {"cpu"}, vocab=32_000),
    case("greedy, B=64, H=512", P, end_to_end.BAHDANAU, 1, {"gpu"}),
    case("beam 5, B=32, H=256", C2, end_to_end.LUONG, 5, {"cpu", "gpu"}),
]


def test_search(timed):
    timed()
