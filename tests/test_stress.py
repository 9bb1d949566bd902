"""Sizes, types and surroundings that are larger or stranger than a model's: the same rule, and the same bits."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers import assert_parity_of_draws, call, example, outputs_and_gradients, place
from search_tests import check_parity, search_inputs
from test_determinism import OPS
from test_linear_cross_entropy import assert_parity as assert_loss_parity
from test_linear_cross_entropy import cast, made
from test_linear_cross_entropy import run as run_loss

import s2s_kernels as sk

slow = pytest.mark.slow

LARGE = [
    ("additive_attention", {"B": 1, "S": 100_000, "A": 8, "D": 8, "T": 2, "lengths": torch.int64}),
    ("additive_attention", {"B": 2, "S": 100_000, "A": 5, "D": 3, "mask": True}),
    ("attention_gru", {"B": 1, "S": 100_000, "A": 4, "D": 4, "H": 4, "T": 2}),
    ("gru", {"B": 2, "T": 2000, "I": 3, "H": 8, "lengths": torch.int64}),
    ("lstm", {"B": 1, "T": 2000, "I": 3, "H": 8, "reverse": True}),
    ("attention_lstm", {"B": 1, "T": 2000, "S": 5, "A": 4, "D": 3, "H": 6}),
    ("gru_step", {"B": 3, "H": 4096}),
    ("lstm_step", {"B": 3, "H": 4096}),
    ("gru", {"B": 2, "T": 2, "I": 3, "H": 4096}),
    ("attention_gru", {"B": 2, "T": 2, "I": 3, "S": 3, "A": 3, "D": 3, "H": 2048}),
]


@pytest.mark.exhaustive(every=3)
@slow
@pytest.mark.parametrize(("op", "form"), LARGE, ids=str)
def test_large_sizes(kernel, op, form):
    few = form.get("H") == 4096 or form.get("T") == 2000  # which take long, and have many elements
    draws = [example(op, seed=seed, **form) for seed in range(1 if few else 4)]
    assert_parity_of_draws(op, draws, torch.float32, kernel)


@pytest.mark.exhaustive(every=3)
@slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_large_vocabulary(kernel, smoothing, shift):
    """Logits about zero, and all of one sign."""
    features, weight, bias, targets = made(9, 16, 200_000)
    assert_loss_parity((features, weight, bias + shift, targets), torch.float32, kernel.device, smoothing)


@slow
def test_a_search_in_a_large_vocabulary(search_kernel):
    inputs = search_inputs(B=2, V=200_000, readout="state_context", R=9)
    check_parity("beam_search", inputs, (torch.float64,), beam=4, n_best=2, max_length=3)


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_number_of_threads_gives_the_same_bits(kernel, threads, op, form, dtype):
    inputs = place(example(op, **form), kernel.device, dtype)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    threads(1)
    one = outputs_and_gradients(sk, op, inputs, cotangents)
    for count in range(2, 9):
        threads(count)
        for name, x in outputs_and_gradients(sk, op, inputs, cotangents).items():
            assert torch.equal(x, one[name]), f"{name} with {count} threads"


def test_the_loss_on_any_number_of_threads(kernel, threads):
    """Threads share the words, so their number is in the order of its sums, and in the last digit."""
    inputs = cast(made(300, 64, 1000), torch.float32, kernel.device)
    threads(1)
    one = run_loss(sk.linear_cross_entropy, inputs)
    for count in range(2, 9):
        threads(count)
        for name, x in run_loss(sk.linear_cross_entropy, inputs).items():
            assert (x - one[name]).abs().max() <= 1e-6 * one[name].abs().max(), f"{name} with {count} threads"


def test_eight_python_threads_at_once(kernel):
    calls = [(op, place(example(op, **form), kernel.device, torch.float32)) for op, form in OPS]
    cotangents = [[torch.randn_like(y) for y in call(sk, op, inputs)] for op, inputs in calls]

    def run(i):
        return outputs_and_gradients(sk, *calls[i % len(calls)], cotangents[i % len(calls)])

    alone = [run(i) for i in range(len(calls))]
    with ThreadPoolExecutor(8) as pool:
        for i, found in enumerate(pool.map(run, range(4 * len(calls)))):
            for name, x in alone[i % len(calls)].items():
                assert torch.equal(found[name], x), f"{calls[i % len(calls)][0]} {name}"


@pytest.mark.parametrize("op", ["gru", "attention_lstm", "additive_attention"])
def test_overflow_in_float16_is_seen_by_a_grad_scaler(anywhere, op):
    """A step whose gradients are too large for float16 is left out, and the scale is halved until they are not."""
    inputs = place(example(op), anywhere.device, torch.float16)
    name = "v" if op == "additive_attention" else "weight_hh"
    weight = torch.nn.Parameter(inputs[name].float())
    before, optimizer = weight.detach().clone(), torch.optim.SGD([weight], lr=1e-3)
    scaler = torch.amp.GradScaler(anywhere.device, init_scale=2.0**22)
    taken = []
    for _ in range(16):
        optimizer.zero_grad()
        loss = call(sk, op, inputs | {name: weight.half()})[0].float().square().sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        taken.append(not torch.equal(weight.detach(), before))
    assert not taken[0] and taken[-1] and scaler.get_scale() < 2.0**22
    assert weight.isfinite().all()


def test_infinite_gradients_stay_infinite(anywhere):
    """None of them turns into a number on the way back."""
    for op in ("gru", "attention_gru", "additive_attention", "gru_step"):
        inputs = place(example(op), anywhere.device, torch.float32)
        cotangents = [torch.full_like(y, torch.inf) for y in call(sk, op, inputs)]
        found = outputs_and_gradients(sk, op, inputs, cotangents)
        wrong = [name for name, x in found.items() if name.startswith("d ") and x.isfinite().any()]
        assert not wrong, f"{op}: {wrong}"


class Encoded(torch.utils.data.Dataset):
    """Items that a worker makes with an op."""

    def __init__(self, inputs):
        self.inputs = inputs

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return call(sk, "gru", self.inputs)[0] + i


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_worker_of_a_data_loader(threads):
    """Forked after the parent's threads have run: a worker has one thread, so it waits for none that is not there."""
    threads(4)
    inputs = place(example("gru", B=64, T=9, H=64), dtype=torch.float32)
    expected = call(sk, "gru", inputs)[0]  # in four threads
    loader = torch.utils.data.DataLoader(Encoded(inputs), num_workers=2, multiprocessing_context="fork", timeout=600)
    for i, found in enumerate(loader):
        assert torch.equal(found[0], expected + i)
