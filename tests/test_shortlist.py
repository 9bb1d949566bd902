"""A search among some of the tokens is the one whose other logits are minus infinity."""

import pytest
import torch
from search_tests import BOS, EOS, FORMS, cast, run, search_inputs

import s2s_kernels as sk

TOKENS = [0, EOS, 4, 5, 9, 10, 17, 22]


def without_the_others(inputs, tokens):
    others = torch.ones(len(inputs["w_output"]), dtype=torch.bool)
    others[tokens] = False
    return inputs | {"b_output": inputs["b_output"].masked_fill(others, -torch.inf)}


@pytest.mark.parametrize("tokens", [TOKENS, [EOS], [EOS, 7], [BOS, EOS, 6, 8], list(range(23))], ids=str)
@pytest.mark.parametrize("form", ["bahdanau", "luong", "dot, layers", "no feeding, lstm"])
@pytest.mark.parametrize("weights", [None, "int8"])
def test_the_others_are_minus_infinity(tokens, form, weights, search_anywhere):
    if weights and search_anywhere.device != "cpu" and search_anywhere.backend != "reference":
        pytest.skip("no kernels for 8 bits on a GPU")
    inputs = search_inputs(**FORMS[form], seed=1)
    if weights:
        inputs = cast(inputs, torch.Tensor.float)
    options = {"n_best": 2, "beam": 4, "return_weights": True} | ({"weights": weights} if weights else {})
    expected = run(sk.beam_search, without_the_others(inputs, tokens), **options)
    found = run(sk.beam_search, inputs, shortlist=torch.tensor(tokens), **options)
    assert set(found.ids.flatten().tolist()) <= set(tokens)
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.lengths, expected.lengths)
    close = {"rtol": 1e-4, "atol": 1e-5} if weights else {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(found.scores, expected.scores, **close)
    torch.testing.assert_close(found.weights, expected.weights, **close)
    greedy = [run(sk.greedy_search, inputs, shortlist=torch.tensor(tokens, dtype=torch.int32))]
    greedy.append(run(sk.greedy_search, without_the_others(inputs, tokens)))
    assert torch.equal(greedy[0].ids, greedy[1].ids)


def test_what_was_packed_serves_every_shortlist():
    inputs = cast(search_inputs(**FORMS["bahdanau"], seed=1), torch.Tensor.float)
    names = ("w_query", "weight_ih", "weight_hh", "w_readout", "w_output")
    packed = sk.quantize(**{name: inputs[name] for name in names})
    for tokens in (TOKENS, [EOS, 6, 7, 8], list(range(23))):
        shortlist = torch.tensor(tokens)
        found = run(sk.beam_search, inputs, shortlist=shortlist, weights=packed)
        expected = run(sk.beam_search, inputs, shortlist=shortlist, weights="int8")
        assert torch.equal(found.ids, expected.ids) and torch.equal(found.scores, expected.scores)
    assert torch.equal(run(sk.beam_search, inputs, weights=packed).ids, run(sk.beam_search, inputs, weights="int8").ids)


@pytest.mark.parametrize(
    "wrong, kind, message",
    [
        ([EOS], TypeError, "shortlist is a list, expected a torch.Tensor"),
        (torch.tensor([[EOS]]), ValueError, r"shortlist has shape \(1, 1\), expected \(K\)"),
        (torch.tensor([3.0]), TypeError, "shortlist has dtype torch.float32, expected torch.int64 or torch.int32"),
        (torch.tensor([EOS, 23]), ValueError, r"shortlist holds \[23\], expected tokens from 0 to 22"),
        (torch.tensor([4, EOS]), ValueError, "shortlist is not in ascending order, each token once"),
        (torch.tensor([EOS, EOS]), ValueError, "shortlist is not in ascending order, each token once"),
        (torch.tensor([4, 5]), ValueError, "shortlist has no eos = 3"),
        (torch.tensor([], dtype=torch.long), ValueError, "shortlist has no eos = 3"),
    ],
    ids=str,
)
def test_wrong_shortlists(wrong, kind, message, search_anywhere):
    with pytest.raises(kind, match=message):
        run(sk.beam_search, search_inputs(), shortlist=wrong)
