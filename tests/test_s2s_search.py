"""Greedy and beam search, against an exhaustive search over a tiny vocabulary."""

import itertools

import pytest
import torch

from s2s.config import Config
from s2s.data import source_batch
from s2s.model import Seq2Seq
from s2s.search import beam_search, greedy, length_penalty
from s2s.vocab import BOS, EOS, UNK

VOCAB, LONGEST = 6, 4
WORDS = [UNK, 4, 5]  # what an output may consist of
SOURCES = [[4, 5, 4], [5], [4, 4, 5, 5, 4], [5, 4]]


@pytest.fixture(params=[0, 1, 2], ids="seed {}".format)
def model(request):
    torch.manual_seed(request.param)
    config = Config(embedding_size=8, encoder_size=8, hidden_size=12, attention_size=8, readout_size=8, dropout=0.0)
    model = Seq2Seq(config, VOCAB, VOCAB).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4)  # untrained weights make every output alike; these have opinions
    return model


def log_probability(model, source, output):
    """Of output and then </s>, by teacher forcing, which shares no code with the search."""
    ids, lengths = source_batch([source])
    features, _ = model(ids, lengths, torch.tensor([[BOS, *output]]))
    logp = torch.log_softmax(model.output(features[0]).float(), -1)
    return sum(logp[t, token].item() for t, token in enumerate([*output, EOS]))


def exhaustive(model, source, alpha):
    """Every output of up to LONGEST tokens, best first: [(score, ids)]."""
    outputs = [list(o) for n in range(LONGEST + 1) for o in itertools.product(WORDS, repeat=n)]
    scored = [(log_probability(model, source, o) / length_penalty(len(o) + 1, alpha), o) for o in outputs]
    return sorted(scored, key=lambda row: -row[0])


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_a_wide_beam_is_exhaustive(model, alpha):
    found = beam_search(model, *source_batch(SOURCES), LONGEST, beam=150, alpha=alpha, n_best=5)
    for source, hypotheses in zip(SOURCES, found, strict=True):
        best = exhaustive(model, source, alpha)[:5]
        assert [h.ids for h in hypotheses] == [ids for _, ids in best]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in best], abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(model, alpha):
    one = greedy(model, *source_batch(SOURCES), LONGEST)
    two = beam_search(model, *source_batch(SOURCES), LONGEST, beam=1, alpha=alpha)
    for source, a, (b,) in zip(SOURCES, one, two, strict=True):
        assert a.ids == b.ids
        assert a.score == pytest.approx(log_probability(model, source, a.ids), abs=1e-4)
        assert b.score == pytest.approx(a.score / length_penalty(len(a.ids) + 1, alpha), abs=1e-4)
        torch.testing.assert_close(a.weights, b.weights)


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_a_row_does_not_depend_on_the_others(model, beam):
    """Rows finish at different times and leave; what is left must be theirs."""
    together = beam_search(model, *source_batch(SOURCES * 3), 12, beam=beam, n_best=2)
    for source, expected in zip(SOURCES * 3, together, strict=True):
        (alone,) = beam_search(model, *source_batch([source]), 12, beam=beam, n_best=2)
        assert [h.ids for h in alone] == [h.ids for h in expected]
        for a, b in zip(alone, expected, strict=True):
            torch.testing.assert_close(a.weights, b.weights)


@pytest.mark.parametrize("search", [greedy, beam_search])
def test_alignments(model, search):
    """One row a token and one for </s>; they equal those of teacher forcing and add up to 1."""
    found = search(model, *source_batch(SOURCES), LONGEST)
    for source, best in zip(SOURCES, found, strict=True):
        best = best if search is greedy else best[0]
        assert best.weights.shape == (len(best.ids) + 1, len(source))
        ids, lengths = source_batch([source])
        _, expected = model(ids, lengths, torch.tensor([[BOS, *best.ids]]))
        torch.testing.assert_close(best.weights.double(), expected[0], rtol=1e-4, atol=1e-5)


def test_the_longest_output_has_max_length_tokens(model):
    with torch.no_grad():
        model.output.bias[EOS] = -100
    for length in (1, 5):
        assert len(greedy(model, *source_batch(SOURCES), length)[0].ids) == length
        assert len(beam_search(model, *source_batch(SOURCES), length, beam=3)[0][0].ids) == length


def test_a_wider_beam_finds_no_worse(model):
    scores = [beam_search(model, *source_batch(SOURCES), LONGEST, beam=k)[0][0].score for k in (1, 8, 150)]
    assert scores[0] <= scores[2] + 1e-5 and scores[1] <= scores[2] + 1e-5
