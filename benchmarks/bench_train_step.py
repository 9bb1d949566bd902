"""A training step of an encoder-decoder, end to end: forward, backward, clipping and Adam.

Everyone is given the optimizer that ``s2s`` trains with, the fused Adam: it takes a quarter of the default's time,
and what all spend alike only hides their differences.
"""

import torch
from torch.optim import Adam

import s2s_kernels as sk

from . import end_to_end, joey, peers
from .cases import SHAPES, TRAINING, Case, Implementation, Prepared

FLOATS = (torch.float32, torch.bfloat16)  # float16 would need a loss scaler


def trained(build, settings, backend=None):
    """``prepare`` of ``model.loss`` and an update; ``backend`` is put in force, None leaves it."""

    def prepare(inputs):
        from s2s.text.data import Batch

        model = build(settings, inputs)
        batch = Batch(*(inputs[name] for name in Batch._fields[:-1]), inputs["outputs"].numel())
        leaves = getattr(model, "leaves", None) or dict(model.named_parameters())
        optimizer = Adam(leaves.values(), lr=1e-4, fused=True)

        def run():
            if backend is None:
                return (model.loss(batch),)
            with sk.backend(backend):
                return (model.loss(batch),)

        def update(grads):
            for p, g in zip(leaves.values(), grads, strict=True):
                p.grad = g
            torch.nn.utils.clip_grad_norm_(leaves.values(), 1.0)
            optimizer.step()

        return Prepared(run, leaves, update)

    return prepare


def inputs(settings, B, S, T, vocab):
    source, lengths = end_to_end.sentences(B, S, vocab, seed=2)
    outputs, _ = end_to_end.sentences(B, T, vocab, seed=3)
    begin = torch.full((B, 1), 2)
    tokens = {"source": source, "source_lengths": lengths, "outputs": outputs}
    tokens["inputs"] = torch.cat([begin, outputs[:, :-1]], 1)
    return {**end_to_end.parameters(settings, vocab), **tokens}


def case(name, shape, feeding, suites, vocab=end_to_end.VOCAB):
    settings = end_to_end.config(shape, feeding)
    B, S, T, _, _, _, _ = shape
    kernels = peers.ours(trained(end_to_end.ours, settings))
    plain = Implementation("reference", trained(end_to_end.ours, settings, "reference"))
    eager = Implementation("eager", trained(end_to_end.eager, settings))
    everyone = (kernels[0], *kernels[2:], eager, plain)
    if feeding == end_to_end.LUONG:
        everyone += joey.available(Implementation("JoeyNMT", trained(joey.build, settings), foreign=True))
    everyone = tuple(Implementation(**{**vars(i), "dtypes": FLOATS}) for i in everyone)
    return Case(
        "train_step",
        name,
        {**shape._asdict(), "V": vocab},
        lambda: inputs(settings, B, S, T, vocab),
        trained(end_to_end.ours, settings, "reference"),
        everyone,
        outputs=("loss",),
        used=("loss",),
        flops=end_to_end.flops(settings, B, S, T, vocab),
        tokens=B * T,
        passes=(TRAINING,),
        suites=suites,
    )


CASES = [
    case("C1, Bahdanau", SHAPES["C1"], end_to_end.BAHDANAU, {"quick", "cpu"}, vocab=2_000),
    case("C2, input feeding", SHAPES["C2"], end_to_end.LUONG, {"cpu", "gpu"}),
    case("P, Bahdanau", SHAPES["P"], end_to_end.BAHDANAU, {"cpu", "gpu"}),
]


def test_train_step(timed):
    timed()
