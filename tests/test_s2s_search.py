"""Greedy search, sampling and beam search, against an exhaustive search over a tiny vocabulary."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import s2s_kernels as sk
from s2s import S2SError
from s2s.model import Seq2Seq
from s2s.model.config import Config
from s2s.search import SearchOptions, beam_search, greedy, sample, search, uniform
from s2s.search.forced import force
from s2s.search.fused_search import step_reason
from s2s.search.sampling import draw
from s2s.text.data import make_batch, source_batch
from s2s.text.vocab import BOS, EOS, UNK
from s2s_kernels.backend import available

VOCAB, LONGEST = 6, 4
WORDS = [UNK, 4, 5]  # what an output may consist of
SOURCES = [[4, 5, 4], [5], [4, 4, 5, 5, 4], [5, 4]]
VARIANTS = {
    "bahdanau": {},
    "other weights": {"seed": 6},
    "luong, heads": {"order": "after", "feed": "attentional", "attention_heads": 2},
    "no feeding, lstm": {"order": "after", "feed": "none", "cell": "lstm"},
    "two cells": {"order": "between", "initial_state": "mean", "readout": "tanh_input"},
    "general, 2 layers, lstm": {
        "attention": "general",
        "order": "after",
        "feed": "attentional",
        "cell": "lstm",
        "decoder_layers": 2,
        "attention_layer": "top",
    },
    "[c;h], 2 layers": {
        "attention_query": "state",
        "cell": "lstm",
        "decoder_layers": 2,
        "attention_layer": "top",
        "readout": "state_context_input",
    },
    "dot with heads, no feeding, 2 layers": {
        "attention": "general",
        "attention_heads": 2,
        "order": "after",
        "feed": "none",
        "decoder_layers": 2,
    },
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def model(request):
    return make(**request.param)


def make(seed=1, **options):
    torch.manual_seed(seed)
    small = {"embedding_size": 8, "encoder_size": 8, "hidden_size": 12, "attention_size": 8, "readout_size": 8}
    model = Seq2Seq(Config(**small | options, dropout=0.0), VOCAB, VOCAB).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4)  # untrained weights make every output alike; these have opinions
    return model


class Chaos:
    """A model whose every prefix has other probabilities and weights, to the bit the same in any batch."""

    class Memory(NamedTuple):
        valid: torch.Tensor

        def rows(self, index):
            return type(self)(self.valid[index])

    config = Config()

    def start(self, source, lengths):
        return self.Memory(torch.arange(source.shape[1]) < lengths[:, None]), (source.double().sum(1) % 0.7,)

    def step(self, tokens, state, memory):
        code = (state[0] * 7.31 + tokens * 0.37 + 0.11) % 1
        logits = 2 * torch.cos(37 * code[:, None] * torch.arange(1, VOCAB + 1))
        scores = torch.sin(91 * code[:, None] * torch.arange(memory.valid.shape[1])).masked_fill(
            ~memory.valid, -torch.inf
        )
        return torch.log_softmax(logits, -1).float(), torch.softmax(scores, -1), (code,)


@torch.no_grad()
def forced(model, source, output):
    """log P of output and then </s>, and the weights, by teacher forcing, which shares no code with the search."""
    ids, lengths = source_batch([source])
    features, weights = model(ids, lengths, torch.tensor([[BOS, *output]]))
    logp = torch.log_softmax(model.output(features[0]).float(), -1)
    if weights is not None:
        weights = weights[0] if weights.dim() == 3 else weights[0].mean(1)
    return sum(logp[t, token].item() for t, token in enumerate([*output, EOS])), weights


def exhaustive(model, source, alpha, beta, longest=LONGEST):
    """Every output of up to ``longest`` tokens, best first by Wu et al. 2016: [(score, ids)]."""
    scored = []
    for output in (list(o) for n in range(longest + 1) for o in itertools.product(WORDS, repeat=n)):
        logp, weights = forced(model, source, output)
        penalty = ((5 + len(output) + 1) / 6) ** alpha
        coverage = sum(math.log(min(sum(column), 1.0)) for column in weights.T.tolist())
        scored.append((logp / penalty + beta * coverage, output))
    return sorted(scored, key=lambda row: -row[0])


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("alpha, beta", [(0.0, 0.0), (0.6, 0.0), (1.5, 0.0), (-1.0, 0.0), (0.0, 0.4), (1.0, 2.0)])
def test_a_wide_beam_is_exhaustive(model, alpha, beta):
    penalties = {"length_penalty": alpha, "coverage_penalty": beta}
    options = SearchOptions(beam=150, n_best=5, max_length=LONGEST, allow_unknown=True, **penalties)
    step_by_step = beam_search(model, *source_batch(SOURCES), LONGEST, 150, n_best=5, allow_unknown=True, **penalties)
    chosen = search(model, *source_batch(SOURCES), options)  # where it can, without Python between the steps
    for source, *both in zip(SOURCES, step_by_step, chosen, strict=True):
        best = exhaustive(model, source, alpha, beta)[:5]
        for found in both:
            assert [h.ids for h in found] == [ids for _, ids in best]
            assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-4)


@torch.no_grad()
def ended(model, source, width, ending):
    """The outputs that a beam finds, best first, by lists: [(score, ids)]."""
    ids, lengths = source_batch([source])
    prefixes, done = [(0.0, [])], []
    for t in range(LONGEST + 1):
        candidates = []
        for score, prefix in prefixes:
            features, _ = model(ids, lengths, torch.tensor([[BOS, *prefix]]))
            logp = torch.log_softmax(model.output(features[0, -1]).float(), -1)
            tokens = [EOS, *WORDS] if t < LONGEST else [EOS]
            candidates += [(score + logp[token].item(), [*prefix, token]) for token in tokens]
        candidates.sort(key=lambda one: -one[0])
        done += [one for one in candidates[:width] if one[1][-1] == EOS]
        going = candidates[:width] if ending == "narrow" else candidates
        prefixes = [one for one in going if one[1][-1] != EOS][:width]
        if ending == "narrow":
            width = len(prefixes)
        elif done and prefixes and max(done)[0] >= prefixes[0][0]:
            break
    return sorted(((score, ids[:-1]) for score, ids in done), key=lambda one: -one[0])


@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("ending", ["narrow", "best"])
def test_how_a_beam_ends(model, ending, width):
    options = SearchOptions(beam=width, max_length=LONGEST, allow_unknown=True, ending=ending)
    for source, (found,) in zip(SOURCES, search(model, *source_batch(SOURCES), options), strict=True):
        score, ids = ended(model, source, width, ending)[0]
        assert found.ids == ids and found.score == pytest.approx(score, abs=1e-4)


class Table:
    """A model of the probabilities {prefix: {token: p}}; after any other prefix the output ends."""

    config = Config()

    def __init__(self, table):
        self.table, self.prefixes = table, [()]

    def start(self, source, lengths):
        return Chaos.Memory(torch.ones_like(source)), (torch.zeros(len(source), dtype=torch.long),)

    def step(self, tokens, state, memory):
        logp, codes = torch.full((len(tokens), VOCAB), -torch.inf), []
        for row, token, code in zip(logp, tokens.tolist(), state[0].tolist(), strict=True):
            self.prefixes.append(self.prefixes[code] + (() if token == BOS else (token,)))
            codes.append(len(self.prefixes) - 1)
            for following, p in self.table.get(self.prefixes[-1], {EOS: 1.0}).items():
                row[following] = math.log(p)
        return logp, torch.ones(len(tokens), 1), (torch.tensor(codes),)


def test_what_a_beam_finds_as_it_ends():
    """By the count, two outputs end it before the better [4, 4]; narrowed to one, it never sees the end of [5]."""
    later = {(): {EOS: 0.3, 4: 0.45, 5: 0.25}, (4,): {EOS: 0.2, 4: 0.8}, (5,): {EOS: 0.6, 5: 0.4}}
    later |= {(4, 4): {EOS: 0.95, 4: 0.05}}
    second = {(): {EOS: 0.5, 4: 0.26, 5: 0.24}, (4,): {EOS: 0.55, 4: 0.45}}
    found = {}
    for ending in ("count", "best", "narrow"):
        options = SearchOptions(beam=2, n_best=2, max_length=LONGEST, ending=ending)
        found[ending] = [
            [h.ids for h in search(Table(table), *source_batch([[4]]), options)[0]] for table in (later, second)
        ]
    assert found["count"] == [[[], [5]], [[], [5]]]
    assert found["best"] == [[[4, 4], []], [[], [5]]]
    assert found["narrow"] == [[[4, 4], []], [[], [4]]]


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize("size", [0, 1, 2])
@pytest.mark.parametrize("unknown", [False, True])
def test_what_outputs_may_not_have(model, size, unknown):
    """<unk>, and the same ``size`` tokens twice: the best of what is left, and never anything else."""

    def allowed(ids):
        grams = list(zip(*(ids[i:] for i in range(size)))) if size else []
        return (unknown or UNK not in ids) and len(set(grams)) == len(grams)

    limits = {"no_repeat_ngram": size, "allow_unknown": unknown, "max_length": LONGEST}
    (wide, narrow, drawn) = (
        search(model, *source_batch(SOURCES), SearchOptions(**limits, **kind))
        for kind in ({"beam": 150, "n_best": 5}, {}, {"sample": True, "n_best": 50, "temperature": 9.0})
    )
    for source, best, (one,), many in zip(SOURCES, wide, narrow, drawn, strict=True):
        left = [row for row in exhaustive(model, source, 0, 0) if allowed(row[1])]
        assert [h.ids for h in best] == [ids for _, ids in left[:5]]
        assert [h.score for h in best] == pytest.approx([score for score, _ in left[:5]], abs=1e-4)
        assert allowed(one.ids) and all(allowed(h.ids) for h in many)
        assert max(len(h.ids) for h in many) > size


def test_n_best_are_all_there_are():
    """Fewer outputs exist than are asked for: </s> and the three words, of at most one token."""
    (found, *_) = beam_search(make(), *source_batch(SOURCES), 1, beam=30, n_best=30, allow_unknown=True)
    assert [h.ids for h in found] == [ids for _, ids in exhaustive(make(), SOURCES[0], 0, 0, longest=1)]


def test_penalties_change_what_is_found():
    """Else the tests above could not fail."""
    model = make(**VARIANTS["other weights"])
    found = [exhaustive(model, SOURCES[2], *penalties)[0][1] for penalties in ((0, 0), (1.5, 0), (0, 2.0))]
    assert found[0] != found[1] and found[0] != found[2]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(model, alpha):
    one = greedy(model, *source_batch(SOURCES), LONGEST, attention=True)
    two = beam_search(model, *source_batch(SOURCES), LONGEST, beam=1, length_penalty=alpha, attention=True)
    for source, a, (b,) in zip(SOURCES, one, two, strict=True):
        assert a.ids == b.ids
        assert a.score == pytest.approx(forced(model, source, a.ids)[0], abs=1e-4)
        assert b.score == pytest.approx(a.score / ((6 + len(a.ids)) / 6) ** alpha, abs=1e-4)
        torch.testing.assert_close(a.weights, b.weights)


KINDS = {
    "greedy": {},
    "beam 2": {"beam": 2, "n_best": 2},
    "beam 4, penalties": {
        "beam": 4,
        "n_best": 3,
        "length_penalty": 0.8,
        "coverage_penalty": 0.3,
        "allow_unknown": True,
    },
    "beam 3, no repeats": {"beam": 3, "n_best": 2, "no_repeat_ngram": 3},
    "sample": {"sample": True, "n_best": 3, "temperature": 1.3, "top_k": 3, "top_p": 0.95},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("check", [1, 3])
@pytest.mark.parametrize("model", [Chaos(), make(6), make(5, cell="lstm")], ids=["chaos", "gru", "lstm"])
def test_a_row_does_not_depend_on_the_others(model, kind, check, monkeypatch):
    """Rows finish at different times and leave, now or later; what is left must be theirs."""
    sources = SOURCES + torch.randint(4, VOCAB, (12, 6), generator=torch.Generator().manual_seed(1)).tolist()
    options = SearchOptions(max_length=12, **kind | {"allow_unknown": True})  # more outputs, of more lengths
    random = uniform(len(sources), options.n_best, 12, torch.Generator().manual_seed(1))
    with monkeypatch.context() as patch:
        for module in ("beam", "greedy_search"):
            patch.setattr(f"s2s.search.{module}.steps_between_checks", lambda device: check)
        together = search(model, *source_batch(sources), options, random, attention=True)
    for i, (source, expected) in enumerate(zip(sources, together, strict=True)):
        (alone,) = search(model, *source_batch([source]), options, random[i : i + 1], attention=True)
        assert [h.ids for h in alone] == [h.ids for h in expected]
        for a, b in zip(alone, expected, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)
            torch.testing.assert_close(a.weights, b.weights)
    if isinstance(model, Chaos):
        assert len({len(h.ids) for row in together for h in row}) > 4


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_weights_and_scores_are_those_of_teacher_forcing(model, kind):
    found = search(model, *source_batch(SOURCES), SearchOptions(max_length=LONGEST, **kind), attention=True)
    for source, row in zip(SOURCES, found, strict=True):
        for h in row:
            logp, weights = forced(model, source, h.ids)
            assert h.weights.shape == (len(h.ids) + 1, len(source))
            torch.testing.assert_close(h.weights, weights.float(), rtol=1e-4, atol=1e-5)
            if not kind.get("length_penalty"):
                assert h.score == pytest.approx(logp, abs=1e-4)


def test_forced_outputs(model):
    outputs = [[4, 5], [], [5, 5, 4], [UNK]]
    found = force(model, make_batch(list(zip(SOURCES, outputs))), attention=True)
    for source, output, h in zip(SOURCES, outputs, found, strict=True):
        logp, weights = forced(model, source, output)
        assert h.ids == output and h.score == pytest.approx(logp, abs=1e-4)
        torch.testing.assert_close(h.weights, weights.float(), rtol=1e-4, atol=1e-5)
    assert force(model, make_batch([(SOURCES[0], [4])]))[0].weights is None


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_longest_output_has_max_length_tokens(model, kind):
    with torch.no_grad():
        model.output.bias[EOS] = -100
    for length in (1, 5):
        for row in search(
            model, *source_batch(SOURCES), SearchOptions(max_length=length, **kind | {"allow_unknown": True})
        ):
            assert row and all(len(h.ids) == length for h in row)


def test_weights_are_kept_only_where_asked(model):
    options = SearchOptions(beam=2, max_length=3)
    assert all(row[0].weights is None for row in search(model, *source_batch(SOURCES), options))


def test_a_wider_beam_finds_no_worse(model):
    scores = [beam_search(model, *source_batch(SOURCES), LONGEST, beam=k)[0][0].score for k in (1, 8, 150)]
    assert scores[0] <= scores[2] + 1e-5 and scores[1] <= scores[2] + 1e-5


# --- sampling -----------------------------------------------------------------------------------------------


def test_samples_follow_the_distribution():
    """Evenly spaced numbers hit every token exactly in proportion to its probability."""
    logp = torch.tensor([0.5, 0.25, 0.0, 0.15, 0.1]).log()
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000

    def shares(**options):
        drawn = draw(logp.expand(len(grid), -1), grid, **options)
        return (drawn.bincount(minlength=5) / len(grid)).tolist()

    assert shares() == pytest.approx([0.5, 0.25, 0, 0.15, 0.1], abs=1e-3)
    assert shares(top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0], abs=1e-3)
    assert shares(top_p=0.8) == pytest.approx([0.5 / 0.9, 0.25 / 0.9, 0, 0.15 / 0.9, 0], abs=1e-3)
    assert shares(top_p=0.75 - 1e-6) == pytest.approx([2 / 3, 1 / 3, 0, 0, 0], abs=1e-3)
    assert shares(top_k=2, top_p=0.6) == pytest.approx([1, 0, 0, 0, 0])
    squares = [p * p / (0.25 + 0.0625 + 0.0225 + 0.01) for p in (0.5, 0.25, 0, 0.15, 0.1)]
    assert shares(temperature=0.5) == pytest.approx(squares, abs=1e-3)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-8, 0), min_size=2, max_size=12),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 5),
    st.integers(0, 14),
    st.floats(0.01, 1),
)
def test_a_draw_is_among_those_allowed(values, number, temperature, k, p):
    logp = torch.log_softmax(torch.tensor([values, [*values[1:], -torch.inf]]), -1)
    for uniform_number in (number, math.nextafter(1.0, 0.0)):  # the largest that torch.rand could return
        drawn = draw(logp, torch.full((2,), uniform_number, dtype=torch.float64), temperature, k, p)
        for row, token in zip(logp, drawn.tolist(), strict=True):
            better = torch.softmax(row.double() / temperature, -1)[row > row[token]]
            assert row[token] > -torch.inf
            assert k == 0 or len(better) < k
            assert p == 1 or better.sum() < p + 1e-6


def test_sampling_is_decided_by_the_seed(model):
    def ids(**options):
        options = SearchOptions(sample=True, max_length=9, n_best=4, **options)
        return [[h.ids for h in row] for row in search(model, *source_batch(SOURCES), options)]

    assert ids(seed=3) == ids(seed=3) != ids(seed=4)
    scores = search(model, *source_batch(SOURCES), SearchOptions(sample=True, n_best=4, max_length=9))
    assert all([h.score for h in row] == sorted((h.score for h in row), reverse=True) for row in scores)


def test_rows_have_their_own_numbers():
    whole = uniform(5, 2, 7, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(whole, torch.cat([uniform(n, 2, 7, generator) for n in (1, 3, 1)]))


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-4}], ids=str)
def test_the_narrowest_sampling_is_greedy(model, narrow):
    drawn = sample(model, *source_batch(SOURCES), 6, uniform(len(SOURCES), 1, 6), **narrow)
    assert [row[0].ids for row in drawn] == [h.ids for h in greedy(model, *source_batch(SOURCES), 6)]


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["none", "fixed"])
def test_a_model_without_attention(attention):
    model = make(attention=attention, order="after", feed="none", readout="state")
    for source, (best, *_) in zip(
        SOURCES, search(model, *source_batch(SOURCES), SearchOptions(beam=3, max_length=4)), strict=True
    ):
        assert best.score == pytest.approx(forced(model, source, best.ids)[0], abs=1e-4) and best.weights is None
    for refused in (
        lambda: search(model, *source_batch(SOURCES), SearchOptions(), attention=True),
        lambda: search(model, *source_batch(SOURCES), SearchOptions(beam=2, coverage_penalty=0.1)),
        lambda: force(model, make_batch([(SOURCES[0], [4])]), attention=True),
    ):
        with pytest.raises(S2SError, match=rf"this model has no attention weights \(its attention is '{attention}'\)"):
            refused()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"beam": 0}, "beam is 0, expected 1 or more."),
        ({"beam": 2.5}, "beam is 2.5, expected an int."),
        ({"n_best": 3, "beam": 2}, "n_best is 3 with a beam of 2, expected at most as many"),
        ({"temperature": 0.5}, "temperature, top_k and top_p need sampling"),
        ({"top_k": 2}, "temperature, top_k and top_p need sampling"),
        ({"sample": True, "temperature": 0.0}, "temperature is 0, expected more"),
        ({"sample": True, "temperature": math.nan}, "temperature is nan, expected from 0 to 100."),
        ({"sample": True, "top_p": 1.5}, "top_p is 1.5, expected from 0 to 1."),
        ({"sample": True, "top_p": 0.0}, "top_p is 0, expected more."),
        ({"sample": True, "beam": 4}, "sample and a beam of 4 are both asked for"),
        ({"sample": True, "length_penalty": 1.0}, "length_penalty and coverage_penalty need a beam"),
        ({"length_penalty": math.inf}, "length_penalty is inf, expected from -10 to 10."),
        ({"coverage_penalty": -1.0}, "coverage_penalty is -1.0, expected from 0 to 10."),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram is -1, expected 0 or more."),
        ({"max_length": -1}, "max_length is -1, expected 0 or more."),
    ],
    ids=str,
)
def test_options_that_are_refused(options, message):
    with pytest.raises(S2SError, match=message):
        SearchOptions(**options)


# --- one op or a loop of steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["greedy", "beam 2", "beam 4, penalties"])
def test_one_op_finds_what_the_steps_find(model, kind):
    options = SearchOptions(max_length=LONGEST, **KINDS[kind])
    if step_reason(model, "cpu", options):
        pytest.skip("the op has no kernel here: both would be the steps")
    found = search(model, *source_batch(SOURCES), options, attention=True)
    with sk.backend("reference"):
        expected = search(model, *source_batch(SOURCES), options, attention=True)
    for a, b in zip(found, expected, strict=True):
        assert [h.ids for h in a] == [h.ids for h in b]
        for one, other in zip(a, b, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-5)


def test_what_runs_step_by_step():
    def reason(options=None, **config):
        return step_reason(make(**config), "cpu", options or SearchOptions())

    with sk.backend("reference"):
        assert "no backend that is in force" in reason()
    if "cpp" in available("cpu"):
        assert reason() is None
        assert "sampling" in reason(SearchOptions(sample=True))
        assert "not by 'narrow'" in reason(SearchOptions(beam=2, ending="narrow"))
        assert "repeats" in reason(SearchOptions(no_repeat_ngram=2))
        parts = {"attention": "general", "order": "after", "feed": "attentional", "decoder_layers": 2}
        assert reason(**parts, attention_layer="top") is None
        assert "the lowest of the layers" in reason(decoder_layers=2)
        assert "'none'" in reason(attention="none", feed="none", order="after", readout="state")
        assert "maxout" in reason(readout="maxout")
        assert step_reason(make().train(), "cpu", SearchOptions()).startswith("the model is in training mode")
    assert "Chaos is no Seq2Seq" in step_reason(Chaos(), "cpu", SearchOptions())
