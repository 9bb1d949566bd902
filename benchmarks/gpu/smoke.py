"""``python -m benchmarks.gpu.smoke cuda``: twenty seconds that say whether the rest is worth its time.

Each op in each dtype once against the reference, gru and lstm as one launch and as cuDNN's too, the decoder with a step
replayed, and a search of 20 steps, captured, against the same search without a graph. Exits with what failed; at a CUDA
error at once, since the context computes nothing after it. ``cpu`` in place of ``cuda``: the CPU's kernels, to test
this.
"""

import os
import sys
from functools import partial

from .exercise import FORMS, ONE_LAUNCH, SEARCHES
from .stage import ROOT

SEARCHED = 20  # steps
REPLAYED = [("attention_gru", {"T": 12, "S": 40, "lengths": "int64"}), ("attention_lstm", {"T": 12, "F": 9})]


def check_op(op, form, dtype, target):
    import torch

    from ..parity import helpers

    form = {name: getattr(torch, x) if name == "lengths" else x for name, x in form.items()}
    # Sums of many parts lie in 16 bits where one draw says nothing: then several are judged together.
    helpers.assert_parity_when_drawn(op, partial(helpers.example, op, **form), dtype, target)


def check_loss(dtype, target):
    """linear_cross_entropy: the loss, and its gradients."""
    from torch import autograd
    from torch.nn.functional import cross_entropy, linear

    import s2s_kernels as sk

    from ..parity import helpers

    r = helpers.Random(0)
    tensors = [r.normal(37, 19).to(dtype), r.normal(101, 19).to(dtype)]
    words = r.lengths(37, 100)

    def run(function, device, dtype):
        made = [x.to(device, dtype).requires_grad_() for x in tensors]
        loss = function(*made, words.to(device))
        return dict(zip(("loss", "d features", "d weight"), (loss.detach(), *autograd.grad(loss, made)), strict=True))

    def eager(features, weight, targets):
        return cross_entropy(linear(features, weight), targets, reduction="sum")

    truth = run(eager, "cpu", tensors[0].double().dtype)
    errors = {name: helpers.error(x, truth[name]) for name, x in run(eager, "cpu", dtype).items()}
    found = run(lambda x, w, t: sk.linear_cross_entropy(x, w, None, t), target.device, dtype)
    for name, x in found.items():  # the loss is a sum in float32 at least
        draw = ({name: x}, {name: errors[name]}, {name: truth[name]})
        helpers.assert_within_rule([draw], x.dtype if name == "loss" else dtype, "linear_cross_entropy")


def check_cudnn(op, dtype, target):
    """What "auto" takes of gru and lstm where determinism is not asked for."""
    import torch

    import s2s_kernels as sk

    torch.use_deterministic_algorithms(False)
    try:
        with sk.backend("auto"):
            check_op(op, {}, dtype, target)
    finally:
        torch.use_deterministic_algorithms(True)


def check_with(variable, op, form, dtype, target):
    """The op with S2S_CUDA_PERSISTENT or S2S_CUDA_GRAPH set to 1."""
    os.environ[variable] = "1"
    try:
        check_op(op, form, dtype, target)
    finally:
        del os.environ[variable]


def check_search(form, dtype, target):
    """The same bits from a CUDA graph and from a launch at a time."""
    import torch

    sys.path.insert(0, str(ROOT / "tests"))
    import search_tests

    import s2s_kernels as sk

    search_tests.under_test["device"] = target.device
    inputs = search_tests.search_inputs(B=3, scale=16.0, **search_tests.FORMS[form])
    inputs = search_tests.cast(inputs, lambda x: x.to(dtype))
    found = []
    for graph in ("1", "0"):
        os.environ["S2S_CUDA_GRAPH"] = graph
        found.append(search_tests.run(sk.beam_search, inputs, beam=3, max_length=SEARCHED - 1, return_weights=True))
    del os.environ["S2S_CUDA_GRAPH"]
    for name, a, b in zip(found[0]._fields, *found, strict=True):
        assert torch.equal(a, b), f"{name} of the captured search has other bits"
    if dtype == torch.float32:  # what rounding decides in fewer bits is nobody's fault
        truth = search_tests.run(sk.reference.beam_search, inputs, beam=3, max_length=SEARCHED - 1)
        assert torch.equal(found[0].ids, truth.ids), "the search chose other tokens than the reference"


def checks(device):
    """(what it is, its function), the most telling first."""
    import torch

    from ..parity import helpers

    target = helpers.Target(device, "cuda" if device == "cuda" else "auto")
    floats = (torch.bfloat16, torch.float32, torch.float16, torch.float64)
    firsts = dict(reversed(FORMS))  # one of each op
    for dtype in floats:
        for op, form in reversed(firsts.items()):
            yield f"{op} {dtype}", partial(check_op, op, form, dtype, target)
        yield f"linear_cross_entropy {dtype}", partial(check_loss, dtype, target)
        if dtype != torch.float64:
            for op, form in ONE_LAUNCH:
                yield f"{op} {dtype} in one launch", partial(check_with, "S2S_CUDA_PERSISTENT", op, form, dtype, target)
            for op, form in REPLAYED:
                yield f"{op} {dtype}, a step replayed", partial(check_with, "S2S_CUDA_GRAPH", op, form, dtype, target)
            for op, _ in ONE_LAUNCH:
                yield f"{op} {dtype}, cuDNN", partial(check_cudnn, op, dtype, target)
    for form, dtype in zip(SEARCHES, (torch.float32, torch.bfloat16), strict=True):
        yield f"beam_search {dtype} ({form}), captured", partial(check_search, form, dtype, target)


def synchronize():
    """Raises what a launch before has done wrong."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main(device="cuda"):
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    import torch

    import s2s_kernels as sk

    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)  # and fresh memory holds NaN
    wrong, found = [], list(checks(device))
    with sk.backend("cuda" if device == "cuda" else "auto"):
        for i, (what, check) in enumerate(found):
            print(f"{i + 1}/{len(found)} {what}", flush=True)
            try:
                check()
                synchronize()
            except Exception as error:  # all that is wrong is worth knowing at once
                wrong.append(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}")
                print(f"WRONG {wrong[-1]}", flush=True)
                try:
                    synchronize()
                except Exception:  # of an error that stays
                    sys.exit(f"{wrong[-1]} (and the GPU computes nothing more in this process)")
    if wrong:
        sys.exit(f"{len(wrong)} of {len(found)} checks are wrong, the first: {wrong[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
