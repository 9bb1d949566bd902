"""Searches of random decoders: against the reference, and with tiny vocabularies against all outputs there are."""

import functools
import math
from typing import Any, NamedTuple

import torch
from helpers import set_threads
from hypothesis import strategies as st
from search_tests import EOS, FORMS, cast, check_parity, exhaustive, log_probability, run, search_inputs, under_test

import s2s_kernels as sk
from fuzz.backends import in_force


class SearchCase(NamedTuple):
    op: str
    backend: str
    form: str  # of search_tests.FORMS
    sizes: dict[str, Any]
    options: dict[str, Any]
    end: float = 0.0  # added to the bias of the end of an output
    spoilt: str = ""  # a weight that has a NaN
    dtype: str = "float64"
    threads: int = 2
    seed: int = 0

    def run(self):
        set_threads(self.threads, own=self.seed % 2 == 1)
        with in_force(self.backend) as device:
            before, under_test["device"] = under_test["device"], device
            try:
                inputs = self.inputs()
                if self.dtype != "float64":
                    self.scores_are_true(inputs)
                elif self.options.get("beam", 1) >= 30 and not self.spoilt:
                    self.is_exhaustive(inputs)
                else:
                    check_parity(self.op, inputs, (torch.float64,), **self.options)
            finally:
                under_test["device"] = before

    def inputs(self):
        inputs = search_inputs(**FORMS[self.form] | self.sizes, seed=self.seed)
        if inputs["b_output"] is not None:
            inputs["b_output"][EOS] += self.end
        if self.spoilt:
            inputs[self.spoilt].view(-1)[-1] = torch.nan
        return inputs

    def is_exhaustive(self, inputs):
        found = run(sk.beam_search, inputs, **self.options)
        longest, n = self.options["max_length"], self.options["n_best"]
        for b in range(len(inputs["keys"])):
            best = exhaustive(inputs, b, longest, self.options["length_penalty"], self.options["coverage_penalty"])
            for i, (score, ids) in enumerate(best[:n]):
                assert found.ids[b, i].tolist() == ids + [EOS] * (longest + 1 - len(ids)), (
                    f"{self}: row {b}, output {i}"
                )
                assert math.isclose(found.scores[b, i].item(), score, rel_tol=1e-9), f"{self}: row {b}, output {i}"

    def scores_are_true(self, inputs):
        """In fewer bits other outputs may come first; the score of each must be its own."""
        given = cast(inputs, lambda x: x.to(getattr(torch, self.dtype)))
        found = run(sk.greedy_search, given, **{k: v for k, v in self.options.items() if k == "max_length"})
        exact = cast(given, torch.Tensor.double)
        for b, (ids, size, score) in enumerate(zip(found.ids, found.lengths, found.scores, strict=True)):
            truth, _ = log_probability(exact, b, ids[:size].tolist())
            assert math.isclose(score.item(), truth, rel_tol=1e-4, abs_tol=1e-3), (
                f"{self}: row {b}: {score} not {truth}"
            )


@functools.cache
def searches(backend, largest):
    @st.composite
    def strategy(draw):
        size = st.integers(1, largest)
        form = draw(st.sampled_from(sorted(FORMS)))
        sizes = {name: draw(size) for name in ("S", "H", "A", "D", "E")} | {"B": draw(st.integers(0, 4))}
        op, options = draw(st.sampled_from(("beam_search", "greedy_search"))), {}
        case = SearchCase(op, backend, form, sizes, options, threads=draw(st.integers(1, 3)))
        case = case._replace(seed=draw(st.integers(0, 2**20)), end=draw(st.sampled_from((-5.0, 0.0, 0.0, 2.0, 5.0))))
        kind = draw(st.sampled_from(("parity", "parity", "exhaustive", "scores")))
        sizes["V"] = draw(st.integers(4, 8 if kind == "exhaustive" else 4 * largest))
        options["max_length"] = draw(st.integers(0, 2 if kind == "exhaustive" else 8))
        if kind == "exhaustive":
            sizes |= {"V": min(sizes["V"], 6), "B": min(sizes["B"], 2), "scale": 2.0}
            options |= {"beam": 60, "n_best": 5, "length_penalty": draw(st.sampled_from((0.0, 0.7, -0.5, 1.2)))}
            options["coverage_penalty"] = draw(st.sampled_from((0.0, 0.3, 1.0)))
            return case._replace(op="beam_search", sizes=sizes)
        if kind == "scores":
            exact = backend in ("cpp", "reference")  # elsewhere products of 16 bits are rounded
            dtypes = ("float32", "bfloat16", "float16") if exact and backend == "cpp" else ("float32",)
            return case._replace(op="greedy_search", dtype=draw(st.sampled_from(dtypes)))
        if op == "beam_search":
            options |= {"beam": draw(st.integers(1, 6))}
            options |= {"n_best": draw(st.integers(1, options["beam"]))}
            options |= {"length_penalty": draw(st.sampled_from((0.0, 0.8, -0.5, 3.0)))}
            options |= {"coverage_penalty": draw(st.sampled_from((0.0, 0.4)))}
        return case._replace(sizes=sizes)

    return strategy()
