"""What is timed, and whose memory is measured: one pass of an implementation."""

import torch

from . import parity
from .cases import FORWARD, TRAINING


def make_step(run, implementation, direction):
    """What is timed: a call of it is one pass over inputs that are already in place."""
    case = run.case
    prepared = implementation.prepare(run.inputs())
    if direction == FORWARD:

        def step():
            with torch.no_grad():
                return prepared.run()

        return step

    with torch.no_grad():
        grads = parity.cotangents(case, prepared.run())
    grads = {name: g.to(run.device, run.dtype) for name, g in grads.items()}

    def step():
        outputs = prepared.run()
        found = parity.gradients(case, prepared, outputs, grads)
        if prepared.update is not None:
            prepared.update(found)
        return outputs, found

    return step


def training_step(run, implementation):
    return make_step(run, implementation, TRAINING if TRAINING in run.case.passes else FORWARD)
