"""One configuration of a framework: its weights, an input, and what the framework made of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"
B, T, I, H = 3, 5, 4, 6


@dataclass
class Case:
    """Everything is an array of numpy; names of weights are paths with dots. B batch, T steps, D = directions * H."""

    name: str
    source: str  # of compare.SOURCES: what reads these weights
    weights: dict
    x: np.ndarray  # (B, T, I)
    output: np.ndarray  # (B, T, D)
    states: list  # the last h, and of an LSTM c, each (layers * directions, B, H)
    meta: dict = field(default_factory=dict)  # what the source needs to know beside the weights
    gradients: dict = field(default_factory=dict)  # of sum(output * cotangent()), by name of weight, and "x"
    real: object = None  # our module, made from the framework's own object
    keep: bool = False  # recorded for the tests


def random(seed):
    return np.random.default_rng(seed)


def inputs(seed=0, batch=B, steps=T, size=I):
    return random(seed).standard_normal((batch, steps, size)).astype(np.float32)


def filled(shape, generator):
    """Weights of a size at which gates are neither shut nor open, biases too: an initial zero hides its place."""
    return (generator.standard_normal(shape) * 0.5).astype(np.float32)


def cotangent(output):
    return random(99).standard_normal(output.shape).astype(np.float32)


def save(source, cases):
    """The fixtures of a source: those of its cases that are to be kept."""
    arrays = {}
    for case in cases:
        arrays[f"{case.name}|about"] = np.array(json.dumps({"source": case.source, "meta": case.meta}))
        for group in ("weights", "gradients"):
            arrays |= {f"{case.name}|{group}|{name}": x for name, x in getattr(case, group).items()}
        arrays |= {f"{case.name}|x": case.x, f"{case.name}|output": case.output}
        arrays |= {f"{case.name}|state|{i}": x for i, x in enumerate(case.states)}
    FIXTURES.mkdir(exist_ok=True)
    np.savez_compressed(FIXTURES / f"{source}.npz", **arrays)


def load(source):
    """What ``save`` wrote."""
    with np.load(FIXTURES / f"{source}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    cases = []
    for name in dict.fromkeys(key.split("|")[0] for key in arrays):
        own = {key.partition("|")[2]: x for key, x in arrays.items() if key.startswith(f"{name}|")}
        groups = {
            group: {key.partition("|")[2]: x for key, x in own.items() if key.startswith(f"{group}|")}
            for group in ("weights", "gradients", "state")
        }
        about = json.loads(str(own["about"]))
        states = [groups["state"][key] for key in sorted(groups["state"])]
        cases.append(
            Case(
                name,
                about["source"],
                groups["weights"],
                own["x"],
                own["output"],
                states,
                about["meta"],
                groups["gradients"],
            )
        )
    return cases
