"""TorchRL's modules in recurrent mode before and after ``s2s_kernels.integrations.torchrl.convert``: outputs, states
and all gradients in float64. With an argument, the milliseconds of so many training steps as well.

    PYTHONPATH=.:tests build/integrations/torchrl/bin/python -m integrations.torchrl_resets 9
"""

import copy
import io
import itertools
import sys
import warnings
from statistics import median
from time import perf_counter

import torch
from tensordict import TensorDict
from torchrl.modules import GRUModule, LSTMModule, set_recurrent_mode

from s2s_kernels.integrations import torchrl as integration

STATES = {GRUModule: ["recurrent_state"], LSTMModule: ["recurrent_state_h", "recurrent_state_c"]}
LARGE = {"shape": (128, 128), "hidden": 256, "layers": 1, "share": 0.03, "dtype": torch.float32}


def batch(kind, shape, hidden, layers, share, dtype=torch.float64, states=True):
    """share: of the steps at which a trajectory begins."""
    data = {"x": torch.randn(*shape, hidden, dtype=dtype), "is_init": torch.rand(*shape, 1) < share}
    if states:
        data |= {name: torch.randn(*shape, layers, hidden, dtype=dtype) for name in STATES[kind]}
    return TensorDict(data, shape)


def module(kind, hidden, layers, dtype=torch.float64, **options):
    torch.manual_seed(1)
    return kind(hidden, hidden, layers, in_key="x", out_key="y", **options).to(dtype)


def outputs_and_gradients(model, kind, data):
    data = data.clone()
    inputs = [data[name].requires_grad_() for name in ("x", *STATES[kind]) if name in data]
    with set_recurrent_mode(True):
        found = model(data)
    outputs = [found["y"], *(found["next", name] for name in STATES[kind])]
    generator = torch.Generator().manual_seed(2)
    total = sum((y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(total, [*inputs, *model.parameters()])]


def largest_difference(found, expected):
    return max((x - y).abs().max().item() / y.abs().max().item() for x, y in zip(found, expected, strict=True))


def forms():
    for kind, layers, shape, share in itertools.product(
        STATES, (1, 2), ((4, 11), (9,), (2, 3, 5), (3, 1)), (0.0, 0.03, 0.4, 1.0)
    ):
        yield kind, {"shape": shape, "hidden": 6, "layers": layers, "share": share}, {}
    for kind in STATES:
        yield kind, {"shape": (4, 11), "hidden": 6, "layers": 1, "share": 0.3, "states": False}, {}
        yield kind, {"shape": (4, 11), "hidden": 6, "layers": 2, "share": 0.3}, {"bias": False}
        for backend in ("scan", "auto"):
            yield kind, {"shape": (4, 11), "hidden": 6, "layers": 1, "share": 0.3}, {"recurrent_backend": backend}


def check_equal():
    worst = 0.0
    for kind, form, options in forms():
        torch.manual_seed(0)
        data = batch(kind, **form)
        plain = module(kind, form["hidden"], form["layers"], **options | {"recurrent_backend": "pad"})
        ours = integration.convert(module(kind, form["hidden"], form["layers"], **options))
        assert isinstance(ours, kind) and type(ours) is not kind
        expected = outputs_and_gradients(plain, kind, data)
        difference = largest_difference(outputs_and_gradients(ours, kind, data), expected)
        assert difference <= 1e-12, f"{kind.__name__} {form} {options}: {difference}"
        worst = max(worst, difference)
    print(f"outputs, states and gradients: relative difference {worst:.0e} at most")


def check_copies():
    for kind in STATES:
        data, ours = batch(kind, (4, 11), 6, 1, 0.3), integration.convert(module(kind, 6, 1, recurrent_backend="auto"))
        expected, file = outputs_and_gradients(ours, kind, data), io.BytesIO()
        torch.save(ours, file)
        file.seek(0)
        for twin in (copy.deepcopy(ours), torch.load(file, weights_only=False)):
            assert type(twin) is type(ours)
            assert all(map(torch.equal, outputs_and_gradients(twin, kind, data), expected))
        with set_recurrent_mode(False):
            step = data[:, 0]
            assert torch.allclose(ours(step.clone())["y"], module(kind, 6, 1)(step.clone())["y"], rtol=0, atol=1e-14)
        before, backend = {*vars(ours)}, ours.recurrent_backend
        integration.revert(ours)
        assert (type(ours), {*vars(ours)}, backend, ours.recurrent_backend) == (kind, before, "scan", "auto")
    print("copied, pickled, stepped and reverted")


def check_what_stays():
    cases = [({"bidirectional": True}, "bidirectional"), ({"dropout": 0.1}, "dropout"), ({"python_based": True}, "its")]
    for kind, (options, reason) in itertools.product(STATES, cases):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            stays = integration.convert(module(kind, 6, 2, **options))
        assert type(stays) is kind and any(
            f"keeps its recurrent mode: {kind.__name__}, {reason}" in str(w) for w in said
        )
    print("what cannot be converted stays, and is named")


def check_peer():
    """What the benchmarks measure beside ours is the same layer, in both directions, and is measured."""
    from benchmarks import bench_gru, bench_lstm, cases, parity, runtimes, torchrl_scan

    for bench in (bench_gru, bench_lstm):
        run = cases.Run(bench.case("tiny", set(), B=3, S=5, E=4, H=6), "cpu", torch.float32, 1, "cpu")
        (its,) = [i for i in run.implementations() if i.name == torchrl_scan.NAME]
        assert parity.check(run, [its]).problems == {torchrl_scan.NAME: None}
        op, x = run.case.op, torch.randn(3, 5, 6)
        expected = runtimes.eager(op, runtimes.layer_of(op, 6), x)()
        torch.testing.assert_close(runtimes.torchrl(op, runtimes.layer_of(op, 6), x)(), expected)
    print("the peer of the benchmarks computes the same")


def training_step(model, data, cotangent):
    with set_recurrent_mode(True):
        model(data.clone())["y"].backward(cotangent)
    model.zero_grad()


def times(runs, clock=perf_counter):
    """Medians of alternating runs, forward and backward, of every backend in one process."""
    torch.set_num_threads(2)
    for kind in STATES:
        data, cotangent = batch(kind, **LARGE), torch.randn(*LARGE["shape"], LARGE["hidden"])
        models = {name: module(kind, 256, 1, torch.float32, recurrent_backend=name) for name in ("pad", "scan")}
        models["ours"] = integration.convert(module(kind, 256, 1, torch.float32))
        seconds = {name: [] for name in models}
        for _, (name, model) in itertools.product(range(runs + 1), models.items()):
            begin = clock()
            training_step(model, data, cotangent)
            seconds[name].append(clock() - begin)
        found = {name: 1e3 * median(x[1:]) for name, x in seconds.items()}
        print(
            f"{kind.__name__}: pad {found['pad']:.0f} ms, scan {found['scan']:.0f} ms, ours {found['ours']:.0f} ms: "
            f"{found['pad'] / found['ours']:.1f} and {found['scan'] / found['ours']:.1f} times as fast",
            flush=True,
        )


if __name__ == "__main__":
    check_equal()
    check_copies()
    check_what_stays()
    check_peer()
    if sys.argv[1:]:
        times(int(sys.argv[1]))
