"""Calls with one argument that is wrong, or may be: each must raise a TypeError or ValueError that names an argument of
the op and says what was expected, or do what the reference does.

They are all there are: every argument of every op, times every change that fits its kind.
"""

import re
from functools import partial
from typing import NamedTuple

import search_tests
import torch
from helpers import call, example, place
from search_tests import search_inputs
from test_linear_cross_entropy import made
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk
from fuzz.backends import in_force
from s2s_kernels import reference

FORMS = {
    "additive_attention": [
        {"lengths": torch.int64, "mask": True, "bias": 2},
        {"T": 3, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3},
    ],
    "gru_step": [{}],
    "lstm_step": [{}],
    "gru": [{"lengths": torch.int64, "reverse": True, "resets": "states"}],
    "lstm": [{"lengths": torch.int64, "reverse": True, "resets": "states"}],
    "gru_bidirectional": [{"lengths": torch.int64}],
    "lstm_bidirectional": [{"lengths": torch.int64}],
    "attention_gru": [{"lengths": torch.int64, "mask": True, "F": 4, "first": True}, {"N": 2}],
    "attention_lstm": [{"lengths": torch.int64, "mask": True}, {"N": 2, "F": 4, "first": True, "lengths": torch.int64}],
    "linear_cross_entropy": [{}],
    "beam_search": [
        {"order": "after", "F": 4, "first": True, "readout": "feed", "R": 5},
        {"N": 2, "lstm": True, "readout": "state_context"},
        {
            "F": 4,
            "parts": {"K": 3, "location": "both", "first_weights": True, "b_score": 1, "scale": 0.7, "feed": "linear"},
        },
    ],
    "greedy_search": [{"readout": "state"}],
}


def arguments(op, form):
    """By name, right ones."""
    if op == "linear_cross_entropy":
        inputs = dict(zip(("features", "weight", "bias", "targets"), made(), strict=True)) | {"label_smoothing": 0.1}
    elif op in ("beam_search", "greedy_search"):
        inputs = search_inputs(**{"B": 2} | form)
        states = dict(zip(("h0", "c0"), inputs.pop("state"), strict=False))
        inputs = states | inputs | search_tests.SEARCH | {"max_length": 3, "return_weights": True}
        inputs["limits"] = torch.tensor([2, 3])
        inputs["mask"] = torch.ones(inputs["keys"].shape[:2], dtype=torch.bool)
        if op == "beam_search":
            inputs |= {"beam": 3, "n_best": 2, "length_penalty": 0.5, "coverage_penalty": 0.3}
    else:
        inputs = example(op, **form)
    return place(inputs, dtype=torch.float32)


def run(module, op, inputs):
    args = dict(inputs)
    if "search" in op:
        args["state"] = tuple(args.pop(name) for name in ("h0", "c0") if name in args)
        weights = [args.pop(name) for name in search_tests.NAMES]
        return tree_leaves(getattr(module, op)(*weights, **args))
    if op == "linear_cross_entropy":
        return [getattr(module, op)(**args)]
    return call(module, op, args)


def at(value, x):
    x = x.clone()
    x[-1] = value
    return x


def moved(dim, by, x):
    return torch.cat([x, x.narrow(dim, 0, 1)], dim) if by > 0 else x.narrow(dim, 0, x.shape[dim] - 1)


ANYTHING = {
    "None": lambda _: None,
    "a text": lambda _: "yes",
    "a number": lambda _: 1.5,
    "True": lambda _: True,
    "an object": lambda _: object(),
    "a list": lambda x: x.tolist() if isinstance(x, torch.Tensor) else [x],
    "a scalar tensor": lambda _: torch.tensor(1.0),
}
TENSOR = {
    "one dimension more": lambda x: x[None],
    "one dimension more at the end": lambda x: x[..., None],
    "one dimension less": lambda x: x[0],
    **{
        f"size {dim} {'+' if by > 0 else '-'} 1": partial(moved, dim, by)
        for dim in range(4)
        for by in (1, -1)
    },
    "no rows": lambda x: x[:0],
    **{str(dtype)[6:]: partial(lambda dtype, x: x.to(dtype), dtype) for dtype in (
        torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool, torch.complex64,
        torch.uint8, torch.float8_e4m3fn,
    )},
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "csr": lambda x: x.reshape(len(x), -1).to_sparse_csr(),
    "mkldnn": lambda x: x.float().to_mkldnn(),
    "nested": lambda x: torch.nested.nested_tensor(list(x[None])),
    "jagged": lambda x: torch.nested.nested_tensor(list(x[None]), layout=torch.jagged),
    "quantized": lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8),
}  # fmt: skip
INTEGERS = {str(n): partial(at, n) for n in (-1, 8, 1000, 2**31 - 1, -(2**31), 2**62)}
INTEGERS |= {f"{n} in int32": partial(lambda n, x: at(n, x.int()), n) for n in (-1, 1000)}
OPTION = {
    str(value): partial(lambda value, _: value, value)
    for value in (
        -1, 0, 1, 10**10, 2**40, 10**30, 0.5, -0.5, float("nan"), float("inf"), -float("inf"), 1j, "1.0", "state",
        (), (1.5,), (None,), (True,), (-1,), (10**10,), (2, 2), {3: 4}, b"x",
    )
}  # fmt: skip


# Options, and the arguments that must agree with them.
AGREE = {
    "max_length": ("limits", "beam"),
    "beam": ("n_best",),
    "readout": ("w_readout", "w_output"),
    "order": ("w_feed",),
    "location": ("w_location",),
}


class Wrong(NamedTuple):
    op: str
    form: int  # which of FORMS
    argument: str
    change: str
    backend: str

    def run(self):
        """How it ended: "named" or "accepted"; an AssertionError otherwise."""
        inputs = arguments(self.op, FORMS[self.op][self.form])
        try:
            changed = changes(inputs[self.argument])[self.change](inputs[self.argument])
        except (RuntimeError, IndexError):
            return "impossible"  # torch makes no such tensor of this one
        inputs[self.argument] = changed
        with in_force(self.backend) as device:
            inputs = {name: x.to(device) if on_cpu(x) and x is not changed else x for name, x in inputs.items()}
            try:
                outputs = run(sk, self.op, inputs)
            except (TypeError, ValueError) as error:
                self.judge(str(error), inputs)
                return "named"
            except Exception as error:
                raise AssertionError(f"{self} raised {type(error).__name__}: {error}") from error
            try:
                expected = run(reference, self.op, inputs)
            except Exception as error:
                raise AssertionError(f"{self} was taken, but not by the reference: {error}") from error
        self.compare(outputs, expected)
        return "accepted"

    def judge(self, message, inputs):
        """A message that begins with the name of an argument: the changed one, or one that it no longer agrees with."""
        first = re.split(r"\W", message, maxsplit=1)[0]
        right = arguments(self.op, FORMS[self.op][self.form])[self.argument]
        names = (
            {*inputs, "state", "state_reverse", "reset_states"}
            if isinstance(right, torch.Tensor)
            else {self.argument, *AGREE.get(self.argument, ())}
        )
        told = first in names and re.search(r"\b(is|has|holds)\b", message)
        assert told and re.search(r"\b(expected|no columns)\b", message), f"{self} is not named: {message}"

    def compare(self, outputs, expected):
        if (self.argument, self.change) == ("length_penalty", str(10**30)):
            # It leaves nothing but coverage of an output's score. That of outputs which differ in their last token
            # alone is one number: rounding chooses between them, and only the scores must agree.
            outputs, expected = outputs[2:3], expected[2:3]
        for x, y in zip(outputs, expected, strict=True):
            if not isinstance(x, torch.Tensor):
                continue
            assert x.shape == y.shape, f"{self} gives {x.shape}, not {y.shape}"
            if not x.is_meta:
                torch.testing.assert_close(
                    x.double(), y.double(), rtol=1e-2, atol=1e-2, equal_nan=True, msg=lambda m: f"{self}: {m}"
                )


def on_cpu(x):
    return isinstance(x, torch.Tensor) and x.device.type == "cpu"


def changes(x):
    if not isinstance(x, torch.Tensor):
        return ANYTHING | OPTION
    return ANYTHING | TENSOR | ({} if x.is_floating_point() or x.dtype == torch.bool else INTEGERS)


def all_wrong(backend):
    for op, forms in FORMS.items():
        for number, form in enumerate(forms):
            for name, x in arguments(op, form).items():
                for change in changes(x):
                    yield Wrong(op, number, name, change, backend)
