"""Nothing is timed before it is right: the tolerance rule of the tests, over everything a case computes."""

import gc
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch


def _load_helpers():
    # By path: ``tests`` is no package, and other distributions install one of that name.
    path = Path(__file__).parents[1] / "tests" / "helpers.py"
    spec = importlib.util.spec_from_file_location("s2s_kernels_test_helpers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


helpers = _load_helpers()


class Parity(NamedTuple):
    problems: dict[str, str | None]  # by implementation; None: it is right
    elements: dict[str, int]  # elements read and written at least once, by pass


def cotangents(case, outputs):
    """Random gradients of the outputs that the loss reads, the same for every implementation."""
    made = dict(zip(case.outputs, _normal(tuple(y.shape for y in outputs)), strict=True))
    return {name: made[name] for name in case.used}


@lru_cache(maxsize=1)  # every implementation asks for the same
def _normal(shapes):
    r = helpers.Random(1)
    return [r.normal(*shape) for shape in shapes]


def gradients(case, prepared, outputs, grads):
    """Gradients of all leaves, as a tuple."""
    named = dict(zip(case.outputs, outputs, strict=True))
    used = [(named[n], g) for n, g in grads.items()]
    return torch.autograd.grad(
        [y for y, _ in used], list(prepared.leaves.values()), [g for _, g in used], allow_unused=True
    )


def evaluate(case, prepare, inputs, training, grads=None):
    """Every output and, with ``training``, every gradient, by name; and the cotangents that were used."""
    prepared = prepare(inputs)
    with torch.set_grad_enabled(training):
        outputs = prepared.run()
    found = dict(zip(case.outputs, outputs, strict=True))
    if training:
        if grads is None:
            grads = cotangents(case, outputs)
        cast = {n: g.to(found[n].device, found[n].dtype) for n, g in grads.items()}
        for (name, x), g in zip(prepared.leaves.items(), gradients(case, prepared, outputs, cast), strict=True):
            found[f"d {name}"] = torch.zeros_like(x) if g is None else g
    return {name: x.detach() for name, x in found.items()}, grads


def _compare(implementation, found, errors, truth, dtype):
    """AssertionError where the rule is broken. Tokens that a search chose must be the same."""
    wrong = []
    for name, true in truth.items():
        x = found[name].reshape(true.shape) if implementation.foreign else found[name]
        assert x.shape == true.shape, f"{name} has shape {tuple(x.shape)}, not {tuple(true.shape)}"
        if not true.is_floating_point():
            assert torch.equal(x, true), f"{name} is not the same"
            continue
        error, bound = helpers.error(x, true), 2 * errors[name] + helpers.floor(true, dtype)
        if not error <= bound:
            wrong.append(f"{name}: error {error:.3g} > {bound:.3g}")
    assert not wrong, "; ".join(wrong)


def check(run, implementations):
    """The rule for each implementation: error <= 2 x the error of eager PyTorch + epsilon, against float64."""
    case, inputs = run.case, run.inputs()
    training = "forward+backward" in case.passes
    # On a GPU too: its float64 is as exact, and the largest shapes would take a CPU minutes.
    exact = helpers.place(inputs, run.device, torch.float64)
    truth, grads = evaluate(case, case.reference, exact, training)
    eager, _ = evaluate(case, case.reference, inputs, training, grads)
    errors = {name: helpers.error(eager[name], x) for name, x in truth.items() if x.is_floating_point()}
    del eager
    problems = {}
    for implementation in implementations:
        gc.collect()
        try:
            with implementation.chosen():
                found, _ = evaluate(case, implementation.prepare, inputs, training, grads)
            if implementation.same_function:
                _compare(implementation, found, errors, truth, run.dtype)
            problems[implementation.name] = None
        except AssertionError as error:
            problems[implementation.name] = f"wrong: {error}"
        except Exception as error:  # a peer that cannot run here is reported, not fatal
            first = (str(error).splitlines() or [""])[0]
            problems[implementation.name] = f"did not run: {type(error).__name__}: {first}"
    read = sum(x.numel() for x in inputs.values() if helpers.is_float(x))
    written = sum(truth[n].numel() for n in case.outputs)
    backward = sum(g.numel() for g in (grads or {}).values())
    backward += sum(x.numel() for n, x in truth.items() if n.startswith("d "))
    return Parity(problems, {"forward": read + written, "forward+backward": read + written + backward})
