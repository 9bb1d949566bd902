"""What the sanitizers see: forward and backward of every op of the compiled CUDA backend on tiny shapes."""

import os
import sys

from .stage import ROOT

FORMS = [  # tiny, yet every kernel: several blocks, wide loads and single ones, a split source, odd ends
    ("additive_attention", {"A": 64, "D": 40, "lengths": "int64", "mask": True}),
    ("additive_attention", {"T": 6, "N": 2, "bias": 3}),
    ("additive_attention", {"B": 1, "S": 200, "lengths": "int64"}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": "int64", "reverse": True}),
    ("lstm", {}),
    ("gru_bidirectional", {"lengths": "int64"}),
    ("attention_gru", {"A": 64, "D": 40, "F": 9, "first": True, "lengths": "int64"}),
    ("attention_lstm", {"N": 2, "mask": True}),
]
SEARCHES = ("bahdanau", "luong, made feed, lstm")  # of tests/search_tests.py
ONE_LAUNCH = [("gru", {"B": 20, "H": 32, "lengths": "int64"}), ("lstm", {"B": 20, "H": 32, "reverse": True})]
ONE_LAUNCH += [("lstm_bidirectional", {"B": 20, "H": 32, "lengths": "int64"})]


def inputs_of(op, form, device, dtype):
    import torch

    from ..parity import helpers

    form = {name: getattr(torch, x) if name == "lengths" else x for name, x in form.items()}
    return helpers.place(helpers.example(op, **form), device, dtype)


def exercise(op, form, device, dtype):
    import torch

    import s2s_kernels as sk

    from ..parity import helpers

    inputs = inputs_of(op, form, device, dtype)
    cotangents = [torch.ones_like(y) for y in helpers.call(sk, op, inputs)]
    helpers.outputs_and_gradients(sk, op, inputs, cotangents)


def exercise_search(form, dtype, device):
    """A beam search of several slices of the vocabulary and several warps of lists; too short for a CUDA graph, which
    memory without a cache forbids."""
    sys.path.insert(0, str(ROOT / "tests"))
    import search_tests

    import s2s_kernels as sk

    search_tests.under_test["device"] = device
    inputs = search_tests.search_inputs(B=2, V=700, **search_tests.FORMS[form])
    inputs = search_tests.cast(inputs, lambda x: x.to(dtype))
    search_tests.run(sk.beam_search, inputs, beam=20, max_length=3, coverage_penalty=0.4, return_weights=True)


def main(device="cuda"):
    import torch

    import s2s_kernels as sk

    def done(*what):
        if device == "cuda":
            torch.cuda.synchronize()
        print(*what)

    with sk.backend("cuda" if device == "cuda" else "auto"):
        for dtype in (torch.bfloat16, torch.float32):
            for op, form in FORMS:
                exercise(op, form, device, dtype)
                done(op, form, dtype)
            for form in SEARCHES:
                exercise_search(form, dtype, device)
                done("beam_search", form, dtype)
        os.environ["S2S_CUDA_PERSISTENT"] = "1"  # last: who waits for ever costs no other its turn
        for op, form in ONE_LAUNCH:
            exercise(op, form, device, torch.bfloat16)
            done(op, form, "one launch")


if __name__ == "__main__":
    main(*sys.argv[1:])
