"""A random call of an op that must be right, and how it is made and judged."""

import functools
from typing import Any, NamedTuple

import torch
from helpers import Random, Target, assert_within_rule_when_drawn, draw, example, is_float, set_threads
from hypothesis import strategies as st
from test_linear_cross_entropy import draw as draw_loss
from test_linear_cross_entropy import made

from fuzz.backends import in_force
from fuzz.layouts import CHANGE, InTurn

DRAWS = 32  # of a case that breaks the rule once: chance does not break it for all of them together
OPS = (
    "additive_attention",
    "gru_step",
    "lstm_step",
    "gru",
    "lstm",
    "gru_bidirectional",
    "lstm_bidirectional",
    "attention_gru",
    "attention_lstm",
    "linear_cross_entropy",
)
SEQUENCES = ("gru", "lstm", "gru_bidirectional", "lstm_bidirectional")


class Case(NamedTuple):
    op: str
    backend: str
    dtype: str = "float32"
    form: dict[str, Any] = {}  # noqa: RUF012  what helpers.example takes, or made() for the loss
    lengths: str = ""  # "", "random", "zero", "some zero"
    mask: str = ""  # "", "random", "none", "some none"
    garbage: float | None = None  # at positions that do not count
    layouts: tuple[str, ...] = ("plain",)
    use: tuple[int, ...] | None = None  # the outputs that the loss uses
    smoothing: float = 0.0
    threads: int = 2
    seed: int = 0

    def run(self):
        """Raises AssertionError where the call is wrong."""
        set_threads(self.threads, own=self.seed % 2 == 1)
        with in_force(self.backend) as device:
            target, dtype = Target(device, self.backend), getattr(torch, self.dtype)
            make = self.loss if self.op == "linear_cross_entropy" else self.draw
            assert_within_rule_when_drawn(
                lambda i: make(target, dtype, self.seed + 1000 * i), dtype, self.op, draws=DRAWS
            )

    def draw(self, target, dtype, seed):
        from helpers import OUTPUTS

        inputs = self.inputs(seed)
        use = None if self.use is None else [OUTPUTS[self.op][i] for i in self.use if i < len(OUTPUTS[self.op])]
        # Where tanh is straight, a query's gradient is a sum that cancels to rounding in any implementation, and with
        # it in a decoder all that comes through the queries, and v's, whose terms are one query's.
        straight = self.form.get("scale", 1.0) < 0.1 and "attention" in self.op
        keep = ("keys", "v", "bias", "values") if self.op == "additive_attention" else ("keys",)
        wrt = [name for name, x in inputs.items() if is_float(x) and name in keep] if straight else None
        return draw(self.op, inputs, dtype, target, wrt=wrt, use=use or None, layout=InTurn(self.layouts))

    def loss(self, target, dtype, seed):
        *tensors, targets = made(**self.form, seed=seed)
        tensors = self.changed({str(i): x for i, x in enumerate(tensors)}).values()
        inputs = (*tensors, targets)
        return draw_loss(inputs, dtype, target.device, self.smoothing, layout=InTurn(self.layouts))

    def inputs(self, seed):
        form = dict(self.form)
        if self.lengths:
            form["lengths"] = torch.int64
        if self.mask:
            form["mask"] = True
        inputs, r = example(self.op, **form, seed=seed), Random(seed + 1)
        batch = form["B"]
        some = torch.rand(batch, generator=r.generator) < 0.4
        if self.lengths.endswith("zero"):
            inputs["lengths"][some if self.lengths == "some zero" else ...] = 0
        if self.mask.endswith("none"):
            inputs["mask"][some if self.mask == "some none" else ...] = False
        inputs = self.changed(inputs)
        if self.garbage is not None:
            self.spoil(inputs)
        return inputs

    def changed(self, inputs):
        """``inputs`` with values that can lie in memory as the layouts have it."""
        arrange = InTurn([name if name in CHANGE else "plain" for name in self.layouts])
        return {name: arrange(x) if is_float(x) else x for name, x in inputs.items()}

    def spoil(self, inputs):
        spoilt = ("x",) if self.op in SEQUENCES else ("keys", "values", "bias")
        size = inputs[spoilt[0]].shape[1]
        valid = torch.ones(self.form["B"], size, dtype=torch.bool)
        if "lengths" in inputs:
            valid &= torch.arange(size) < inputs["lengths"][:, None]
        if "mask" in inputs:
            valid &= inputs["mask"]
        for name in spoilt:
            if inputs.get(name) is None:
                continue
            x = inputs[name] = inputs[name].clone()
            (x.movedim(-1, 1) if name == "bias" else x)[~valid] = self.garbage


def size(largest):
    near = [n for n in (7, 13, 15, 16, 17, 31, 32, 33, 47, 64, 65, 70) if n <= largest]
    return st.one_of(st.integers(0, min(5, largest)), st.sampled_from(near or [1]), st.integers(1, largest))


def optional(strategy):
    return st.one_of(st.none(), strategy)


SCALES = (1e-8, 1e-4, 1e-2, 1.0, 1.0, 1.0, 30.0, 1e4)


def fields(draw, sizes, largest):
    return {name: draw(size(min(largest, most))) for name, most in sizes.items()}


@functools.cache
def cases(backend, largest):
    """Calls with sizes up to ``largest``."""

    @st.composite
    def strategy(draw):
        op = draw(st.sampled_from(OPS))
        dtype = draw(st.sampled_from(("float32", "float64", "bfloat16", "float16")))
        layouts = draw(
            st.one_of(
                st.just(("plain",)),
                st.lists(
                    st.sampled_from(("plain", "strided", "transposed", "negated", "offset", "expanded", "overlapping")),
                    min_size=1,
                    max_size=5,
                ).map(tuple),
            )
        )
        case = Case(op, backend, dtype, layouts=layouts, threads=draw(st.sampled_from((1, 2, 2, 3, 8))))
        case = case._replace(seed=draw(st.integers(0, 2**20)))
        if op == "linear_cross_entropy":
            sizes = {"rows": size(largest), "width": size(largest), "words": st.integers(2, 3 * largest)}
            form = {name: draw(strategy) for name, strategy in sizes.items()}
            # Of large logits few rows have a gradient at all: of few rows one would carry the whole error.
            form["scale"] = draw(st.sampled_from((1e-8, 1e-2, 1.0, 1.0, 30.0 if form["rows"] >= 16 else 1.0)))
            form["bias"] = draw(st.booleans())
            # What the target is like already, and words that are all alike, have no gradient but rounding.
            smoothing = draw(st.sampled_from((0.0, 0.1, 1.0) if form["scale"] >= 1 else (0.0, 0.1)))
            layouts = tuple("plain" if name in CHANGE else name for name in layouts)
            return case._replace(form=form, smoothing=smoothing, layouts=layouts)
        if op in ("gru_step", "lstm_step"):
            form = fields(draw, {"B": 70, "H": 70}, largest) | {"scale": draw(st.sampled_from(SCALES))}
        elif op == "additive_attention":
            form = fields(draw, {"B": 9, "S": 70, "A": 70, "D": 70}, largest)
            form |= {"T": draw(optional(size(min(20, largest)))), "N": draw(optional(st.integers(0, 3)))}
            form |= {"bias": draw(st.sampled_from((None, 2, 3))), "scale": draw(st.sampled_from(SCALES))}
            if form["bias"] == 3 and form["T"] is None:
                form["bias"] = 2
        else:
            form = fields(draw, {"B": 20, "T": 9, "I": 70, "H": 70}, largest)
            form["biases"] = draw(st.sampled_from(("both", "ih", "hh", "none")))
            if op.endswith("bidirectional"):
                pass
            elif op in SEQUENCES:
                form["reverse"] = draw(st.booleans())
                form["resets"] = draw(st.sampled_from((None, None, "zeros", "states")))
            else:
                form |= fields(draw, {"S": 40, "A": 40, "D": 40}, largest)
                form |= {"N": draw(optional(st.integers(0, 3))), "F": draw(optional(size(min(33, largest))))}
                form |= {name: draw(st.booleans()) for name in ("first", "b_query", "b_feed")}
                form["scale"] = draw(st.sampled_from(SCALES))
        case = case._replace(form=form)
        if op.endswith("step"):
            return case
        case = case._replace(lengths=draw(st.sampled_from(("", "random", "zero", "some zero"))))
        if op not in SEQUENCES:
            case = case._replace(mask=draw(st.sampled_from(("", "random", "none", "some none"))))
        # (Where memory is shared, garbage would lie at positions that count too.)
        if (case.lengths or case.mask) and not set(layouts) & set(CHANGE):
            case = case._replace(garbage=draw(st.sampled_from((None, float("nan"), float("inf"), 3e4))))
        return case._replace(use=draw(optional(st.sets(st.integers(0, 5), min_size=1).map(sorted).map(tuple))))

    return strategy()
