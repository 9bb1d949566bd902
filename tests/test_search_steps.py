"""How many steps a search of csrc/cuda makes that nobody needs, once its last sentence has ended: counted in the
emulation, where test_cuda_emulation.py runs this file."""

import sys

import pytest
import torch
from search_tests import SEARCH, search_inputs

import s2s_kernels as sk

emulation = sys.modules.get("cuda_emulation")
pytestmark = pytest.mark.skipif(not emulation, reason="steps are counted in the emulation alone")


def launches(limit, max_length):
    """Of a search whose sentences all end when they have ``limit`` tokens, no earlier."""
    inputs = search_inputs(V=9)
    inputs["b_output"][SEARCH["eos"]] = -1e4
    limits = torch.full((len(inputs["keys"]),), limit)
    before = emulation.library().emulation_launches()
    found = sk.beam_search(**inputs, **(SEARCH | {"max_length": max_length}), beam=1, limits=limits)
    assert found.lengths.eq(limit).all()
    return emulation.library().emulation_launches() - before


@pytest.mark.parametrize(("limit", "steps"), [(1, 8), (3, 8), (4, 12), (7, 12)])
def test_a_search_stops_soon_after_its_last_sentence(limit, steps):
    """The host asks every 4 steps, and goes by the answer of the time before: 4 to 7 steps too many."""
    a_step = launches(11, 11) - launches(10, 10)  # of 12 and 11 steps
    others = launches(11, 11) - 12 * a_step
    assert (launches(limit, 40) - others) / a_step == steps


def test_a_capture_that_fails_leaves_plain_launches():
    """The same bits, from as many launches."""
    found, counts = [], []
    for captures in (True, False):
        emulation.library().emulation_captures(captures)
        before = emulation.library().emulation_launches()
        found.append(sk.beam_search(**search_inputs(V=9), **(SEARCH | {"max_length": 11}), beam=2))
        counts.append(emulation.library().emulation_launches() - before)
    emulation.library().emulation_captures(True)
    assert counts[0] == counts[1] and all(torch.equal(a, b) for a, b in zip(*found, strict=True))
