"""Training: it learns, it stops when it should, it can be repeated."""

import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from s2s.config import Config
from s2s.data import Dataset
from s2s.dates import make_dates
from s2s.errors import S2SError
from s2s.evaluate import score
from s2s.training import Schedule, build_model, build_optimizer, sampling_probability, train, validation_loss
from s2s.translator import Translator
from s2s.vocab import build_vocabularies

TINY = {
    "tokens": "char",
    "vocab_size": 0,
    "embedding_size": 16,
    "encoder_size": 24,
    "hidden_size": 48,
    "attention_size": 32,
    "readout_size": 32,
    "dropout": 0.0,
    "max_length": 40,
}
PAIRS = [(f"{i:03d}", f"{i:03d}"[::-1]) for i in range(300)]


def setting(pairs=PAIRS, **options):
    config = Config(**TINY | options)
    vocabularies = build_vocabularies(pairs, config)
    data = Dataset(pairs, *vocabularies, config)
    return build_model(config, *vocabularies), data, vocabularies


def test_it_learns_dates_it_never_saw():
    """The demo in small: two formats of Marathi dates, at most twenty seconds."""
    dates = make_dates(train=30_000, valid=400, test=400)

    def numeric(pairs):
        return [(source, target) for source, target in pairs if source.count("/") == 2 and " " not in source]

    parts = [numeric(part) for part in dates[:3]]
    options = {"lr": 1e-2, "lr_schedule": "linear", "batch_size": 32, "epochs": 6, "max_seconds": 20.0}
    model, train_set, vocabularies = setting(parts[0], **options)
    valid_set = Dataset(parts[1], *vocabularies, model.config)
    before = validation_loss(model, valid_set)
    history = train(model, train_set, valid_set, show_bar=False, say=lambda text: None)
    assert history[-1]["valid_loss"] < 0.05 * before
    assert validation_loss(model, valid_set) == pytest.approx(min(r["valid_loss"] for r in history), rel=1e-4)
    scores = Translator(model, *vocabularies).evaluate(parts[2])
    assert scores.exact_match > 0.9 and scores.count == len(parts[2]) > 20
    beam = Translator(model, *vocabularies).evaluate(parts[2], beam=4)
    assert beam.exact_match > 0.9


def run(**options):
    model, data, _ = setting(**options)
    said = []
    history = train(model, data, data, show_bar=False, say=said.append)
    return model, history, said


def test_the_same_seed_gives_the_same_weights():
    a, b, c = (run(epochs=1, dropout=0.3, seed=seed)[0] for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.output.weight, c.output.weight)


def test_every_epoch_is_validated_and_reported():
    _, history, said = run(epochs=3, batch_size=100)
    assert [r["step"] for r in history] == [3, 6, 9] and [r["epoch"] for r in history] == [1, 2, 3]
    assert len(said) == 3 and "tokens/s" in said[0]
    assert [r["step"] for r in run(epochs=2, batch_size=100, eval_every=4)[1]] == [4, 6]


def test_it_stops_early():
    """With no learning to speak of, validation does not improve twice in a row for long."""
    model, data, _ = setting(epochs=50, lr=1.0, patience=2, clip=0.0, batch_size=300)
    history = train(model, data, data, show_bar=False, say=lambda text: None)
    assert len(history) < 50
    best = min(history, key=lambda r: r["valid_loss"])
    assert len(history) - history.index(best) == 3
    assert validation_loss(model, data) == pytest.approx(best["valid_loss"], rel=1e-4)


def test_it_stops_in_time_and_when_told():
    history = run(epochs=100_000, max_seconds=0.5, batch_size=8)[1]
    assert 0.5 <= history[-1]["seconds"] < 5
    model, data, _ = setting(epochs=9)
    records = train(model, data, data, stop=lambda m, r: True, show_bar=False, say=lambda text: None)
    assert len(records) == 1


def test_schedules():
    def rates(**options):
        model, _, _ = setting(lr=1.0, **options)
        optimizer = build_optimizer(model, model.config)
        schedule = Schedule(optimizer, model.config)
        found = []
        for step in range(4):
            schedule.set(step, step / 4)
            found.append(optimizer.param_groups[0]["lr"])
            schedule.worse()
        return found

    assert rates(lr_schedule="constant") == [1, 1, 1, 1]
    assert rates(lr_schedule="linear") == [1, 0.75, 0.5, 0.25]
    assert rates(lr_schedule="cosine") == pytest.approx([1, 0.85355, 0.5, 0.14645], abs=1e-5)
    assert rates(lr_schedule="plateau") == [1, 0.5, 0.25, 0.125]
    assert rates(lr_schedule="constant", warmup=2) == [0.5, 1, 1, 1]


def test_scheduled_sampling_follows_its_schedule():
    """1 - epsilon of Bengio et al. (2015), section 2.4, times the largest probability."""

    def shares(schedule, *steps, k=10):
        config = Config(sampling=schedule, sampling_steps=k, sampling_probability=0.5)
        return [sampling_probability(config, step) for step in steps]

    assert shares("never", 0, 99) == [0, 0]
    assert shares("constant", 0, 99) == [0.5, 0.5]
    assert shares("linear", 0, 5, 10, 99) == [0, 0.25, 0.5, 0.5]
    found = shares("inverse_sigmoid", 0, 23, 10**9)
    assert found == pytest.approx([0.5 / 11, 0.5 * (1 - 10 / (10 + math.exp(2.3))), 0.5], abs=1e-12)


def test_scheduled_sampling_feeds_the_models_own_tokens():
    """Never: the loss of teacher forcing. Always: the loss with the greedy output fed. Half: some tokens change."""
    model, data, _ = setting(sampling="constant")
    model.double().eval()
    batch = data.load(range(40))
    arguments = batch.source, batch.source_lengths, batch.inputs
    features, weights = model(*arguments)
    for mine, expected in zip(model.forward_sampled(*arguments, 0.0), (features, weights)):
        torch.testing.assert_close(mine, expected)
    own, inputs = model.forward_sampled(*arguments, 1.0)[0], batch.inputs.clone()
    for t in range(1, inputs.shape[1]):
        inputs[:, t] = model.output(model(batch.source, batch.source_lengths, inputs)[0][:, t - 1]).argmax(-1)
    torch.testing.assert_close(own, model(batch.source, batch.source_lengths, inputs)[0])
    half = model.forward_sampled(*arguments, 0.5)[0]
    mine = [(half[:, 1] - other[:, 1]).abs().amax(-1) < 1e-9 for other in (own, features)]
    assert 0 < mine[0].sum() < 40 and 0 < mine[1].sum() < 40 and (mine[0] | mine[1]).all()


def test_scheduled_sampling_can_draw():
    model, data, _ = setting(sampling="constant", sampling_choice="random")
    model.eval()
    batch = data.load(range(40))
    a, b = (model.forward_sampled(batch.source, batch.source_lengths, batch.inputs, 1.0)[0] for _ in range(2))
    assert torch.equal(a[:, 0], b[:, 0]) and not torch.equal(a[:, 1], b[:, 1])


def test_a_loss_that_explodes_is_said():
    model, data, _ = setting()
    with torch.no_grad():
        model.output.bias[0] = torch.nan
    with pytest.raises(S2SError, match="the loss is nan at step 1; try an lr under"):
        train(model, data, data, show_bar=False)


def test_nothing_to_train_on():
    model, data, _ = setting(max_length=2)
    with pytest.raises(S2SError, match="no training pair is left"):
        train(model, data, data)


def test_scores():
    scores = score(["a b c d", "x"], ["a b c d", "y"])
    assert scores.exact_match == 0.5 and scores.count == 2 and 0 < scores.chrf < 100
    assert score(["the cat sat down"], ["the cat sat down"]).bleu == pytest.approx(100)
    assert "tok:13a" in str(scores) and "version:" in scores.bleu_signature
    for outputs, references in ([], []), (["a"], []):
        with pytest.raises(S2SError):
            score(outputs, references)


def test_moving_average_of_the_weights():
    model, data, _ = setting(ema=0.9, epochs=1, lr=1e-2, lr_schedule="constant")
    expected, decayed = None, []

    def update(optimizer, args, kwargs):
        nonlocal expected
        new = [p.detach().clone() for p in model.parameters()]
        expected = new if expected is None else [0.9 * e + 0.1 * n for e, n in zip(expected, new)]
        decayed.append(1)

    register = register_optimizer_step_post_hook(update)
    try:
        train(model, data, data, show_bar=False, say=lambda text: None)
    finally:
        register.remove()
    assert len(decayed) > 3
    for found, want in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(found, want)
