"""Options that are numbers take any: integers beyond 64 bits, fractions and numpy's compute what the float does."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from decoder_inputs import decoder_inputs
from helpers import call, place
from search_tests import run, search_inputs
from test_linear_cross_entropy import made

import s2s_kernels as sk

NUMBERS = [10**30, 3, Fraction(1, 2), np.float32(0.5), np.int64(3)]
pytestmark = [pytest.mark.parametrize("number", NUMBERS, ids=repr), pytest.mark.filterwarnings("error")]


@pytest.mark.parametrize("option", ["scale", "length_penalty", "coverage_penalty"])
def test_a_search(option, number, search_anywhere):
    inputs = search_inputs(B=2, order="after", readout="feed", F=4, parts={"score": "dot"} if option == "scale" else {})
    found, expected = (run(sk.beam_search, inputs | {option: x}, max_length=3) for x in (number, float(number)))
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize("op", ["attention_gru", "attention_lstm"])
def test_a_scale(op, number, anywhere):
    inputs = place(decoder_inputs(op), anywhere.device)
    found, expected = (call(sk, op, inputs | {"scale": x}) for x in (number, float(number)))
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(found, expected, strict=True))


def test_smoothing(number, anywhere):
    inputs = [x.to(anywhere.device) for x in made()]
    if not 0 <= number <= 1:
        with pytest.raises(ValueError, match=r"^label_smoothing is .*, expected a number from 0 to 1"):
            sk.linear_cross_entropy(*inputs, number)
        return
    found, expected = (sk.linear_cross_entropy(*inputs, x) for x in (number, float(number)))
    assert torch.equal(found, expected)
