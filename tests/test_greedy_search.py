"""Greedy search against its own reference, which shares no search with that of the beam."""

import pytest
import torch
from search_tests import EOS, FORMS, check_parity, log_probability, run, search_inputs

import s2s_kernels as sk


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("batch", [1, 7])
def test_parity(form, batch, search_anywhere):
    check_parity("greedy_search", search_inputs(B=batch, **form))


def test_scores_and_weights_are_those_of_teacher_forcing(search_anywhere):
    inputs = search_inputs(readout="state_context", N=2)
    inputs["b_output"][EOS] += 2
    found = run(sk.greedy_search, inputs, return_weights=True)
    assert len(found.lengths.unique()) > 1
    for b, length in enumerate(found.lengths.tolist()):
        logp, weights = log_probability(inputs, b, found.ids[b, :length].tolist())
        assert found.scores[b].item() == pytest.approx(logp, rel=1e-9)
        torch.testing.assert_close(found.weights[b, : length + 1], weights)
        assert (found.ids[b, length:] == EOS).all() and not found.weights[b, length + 1 :].any()


@pytest.mark.parametrize("certainty", [5, 60])
def test_a_token_that_is_nearly_certain(certainty, search_anywhere):
    """Its log probability keeps the digits of the probability that is left."""
    inputs = search_inputs(lengths=False, biases=True)
    inputs["w_output"] *= 0.01
    inputs["b_output"][EOS] += certainty
    check_parity("greedy_search", inputs, max_length=2)


def test_equally_probable_tokens(search_anywhere):
    inputs = search_inputs(V=300, lengths=False)
    inputs["w_output"][:], inputs["b_output"][:] = 0, 0
    assert (run(sk.greedy_search, inputs).ids[:, :9] == 2).all()  # the lowest that is allowed
    inputs["b_output"][[130, 270]] = 1
    assert (run(sk.greedy_search, inputs).ids[:, :9] == 130).all()


def test_limits(search_anywhere):
    inputs, limits = search_inputs(), torch.tensor([0, 3, 9, 1, 5])
    inputs["b_output"][EOS] = -50
    assert torch.equal(run(sk.greedy_search, inputs, limits=limits).lengths, limits)


def test_options_of_a_beam_are_refused(search_anywhere):
    with pytest.raises(TypeError, match="n_best is given, but greedy search has no such argument"):
        run(sk.greedy_search, search_inputs(), n_best=1)


MODULES = {
    "heads": {"num_heads": 2, "feed_size": 8},
    "general, layers": {"score": "general", "num_layers": 2, "feed": "linear", "feed_size": 8},
    "dot": {"score": "dot", "hidden_size": 5, "attention_size": 5, "feed_size": 8},
    "location, forward": {"location": "both", "location_size": 3, "normalization": "forward"},
    "sigmoid, gate": {"normalization": "sigmoid", "feed": "gate", "num_layers": 3},
}


@pytest.mark.parametrize("form", MODULES.values(), ids=MODULES.keys())
@pytest.mark.parametrize("lstm", [False, True])
def test_the_modules_search(form, lstm, search_anywhere):
    torch.manual_seed(0)
    sizes = {"input_size": 6, "hidden_size": 11, "key_size": 5, "attention_size": 7} | form
    decoder = (sk.nn.AttentionLSTM if lstm else sk.nn.AttentionGRU)(**sizes)
    hidden, layers = decoder.hidden_size, (decoder.num_layers,) if decoder.layers else ()
    features = hidden + decoder.context_size
    embedding, output, readout = torch.nn.Embedding(20, 6), torch.nn.Linear(9, 20), torch.nn.Linear(features, 9)
    memory, lengths, h, c = torch.randn(3, 4, 5), torch.tensor([4, 0, 2]), *torch.randn(2, *layers, 3, hidden)
    here = search_anywhere.device
    decoder, embedding, output, readout = (x.to(here) for x in (decoder, embedding, output, readout))
    memory, lengths, h, c = (x.to(here) for x in (memory, lengths, h, c))
    state = (h, c) if lstm else h
    options = {"bos": 1, "eos": 3, "max_length": 6, "order": "after", "readout": "state_context"}
    with torch.no_grad():
        for p in (*decoder.parameters(), *output.parameters()):
            p.mul_(3)
        found = decoder.greedy_search(
            state, memory, embedding, output, lengths=lengths, readout_layer=readout, **options
        )
        step, tokens, ids = decoder.start(state, memory, lengths=lengths), torch.full((3,), 1, device=here), []
        for _ in range(6):
            step = decoder.step(embedding(tokens), step, memory, lengths=lengths)
            top = step.h[:, -1] if layers else step.h
            tokens = output(torch.tanh(readout(torch.cat([top, step.context], -1)))).argmax(-1)
            ids.append(tokens)
        one = decoder.beam_search(
            state, memory, embedding, output, lengths=lengths, readout_layer=readout, beam=1, **options
        )
    assert torch.equal(one.ids[:, 0], found.ids)
    for b, length in enumerate(found.lengths.tolist()):
        assert found.ids[b, :length].tolist() == [int(row[b]) for row in ids[:length]]
        assert length == 6 or ids[length][b] == 3
