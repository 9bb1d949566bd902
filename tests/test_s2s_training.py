"""Training: it learns, it stops when it should, it can be repeated."""

import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from s2s.errors import S2SError
from s2s.model.config import Config
from s2s.report.evaluate import score, tokenizer
from s2s.text.data import Dataset
from s2s.text.dates import make_dates
from s2s.text.vocab import build_vocabularies
from s2s.training import Trainer, build_model, build_optimizer, train, train_step, validation_loss
from s2s.training.schedules import Schedule, sampling_probability
from s2s.training.state import load_state, save_state
from s2s.translator import Translator

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


# Layers that the attention is fed back through, with dropout of all that goes round.
LOOP = {"attention": "general", "order": "after", "feed": "attentional", "cell": "lstm", "decoder_layers": 2}
LOOP |= {"dropout": 0.2, "loop_dropout": 0.3}


def test_the_same_seed_gives_the_same_weights_with_dropout_in_the_loop():
    a, b, c = (run(epochs=1, **LOOP | changed)[0] for changed in ({}, {}, {"loop_dropout": 0.0}))
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


def same_run(history):
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in history]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropout": 0.3, "eval_every": 3, "accumulate": 2, "ema": 0.9, "batch_size": 16},
        {"tied_embeddings": True, "embedding_size": 32, "sampling": "linear", "sampling_steps": 5},
        LOOP,
        LOOP | {"sampling": "constant", "sampling_probability": 0.5, "epochs": 3},
        {"lr": 1.0, "clip": 0.0, "patience": 0, "eval_every": 2},  # the plateau schedule halves it
    ],
    ids=str,
)
def test_a_resumed_run_is_the_uninterrupted_one(options, tmp_path):
    """Bit for bit: weights, history, and so also the order of the data, dropout and the learning rate."""
    options = {"epochs": 4, "batch_size": 40} | options
    quiet = {"show_bar": False, "say": lambda text: None}
    whole, data, _ = setting(**options)
    expected = train(whole, data, data, **quiet)
    stopped, data, _ = setting(**options)
    train(stopped, data, data, stop=lambda model, record: record["step"] > 15, state=tmp_path, **quiet)
    torch.manual_seed(99)
    resumed, data, _ = setting(**options)
    trainer = Trainer(resumed, data, data, **quiet)
    load_state(trainer, tmp_path)
    assert 15 < trainer.step < expected[-1]["step"]
    assert (trainer.schedule.factor < 1) == ("lr" in options)
    assert same_run(trainer.run()) == same_run(expected)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_what_cannot_be_resumed(tmp_path):
    model, data, _ = setting(epochs=1)
    trainer = Trainer(model, data, data, show_bar=False)
    with pytest.raises(S2SError, match="holds no training to resume"):
        load_state(trainer, tmp_path)
    save_state(trainer, tmp_path)
    load_state(trainer, tmp_path)
    for options, message in (
        ({"lr": 0.5}, "lr is 0.5, expected 0.001 as in the training that is resumed"),
        ({"epochs": 9}, None),
    ):
        other = Trainer(setting(**{"epochs": 1} | options)[0], data, data, show_bar=False)
        if message is None:
            load_state(other, tmp_path)
        else:
            with pytest.raises(S2SError, match=message):
                load_state(other, tmp_path)
    model, fewer, _ = setting(PAIRS[:100], epochs=1)
    with pytest.raises(S2SError, match="batches of 100 pairs, expected 5 of 300"):
        load_state(Trainer(model, fewer, fewer, show_bar=False), tmp_path)
    (tmp_path / "training.safetensors").write_bytes(b"{}")
    with pytest.raises(S2SError, match=r"training\.safetensors cannot be read"):
        load_state(trainer, tmp_path)


def test_accumulated_batches_are_one_batch():
    """The same update from 30 and 10 pairs as from the 40, by stochastic gradient descent."""
    models = [setting()[0].double() for _ in range(2)]
    _, data, _ = setting()
    optimizers = [torch.optim.SGD(model.parameters(), lr=1.0) for model in models]
    together = train_step(models[0], optimizers[0], data.load(range(40)))
    parts = train_step(models[1], optimizers[1], data.load(range(30)), data.load(range(30, 40)))
    torch.testing.assert_close(parts, together)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert len(run(epochs=2, batch_size=50, accumulate=4)[1]) == 2
    assert [record["step"] for record in run(epochs=2, batch_size=50, accumulate=4)[1]] == [2, 4]


def test_bfloat16_computes_in_bfloat16():
    losses, seen = {}, set()
    for precision in ("float32", "bfloat16"):
        model, data, _ = setting(precision=precision, clip=0.0)
        hook = model.decoder.readout_layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
        losses[precision] = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), data.load(range(64))).item()
        hook.remove()
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert seen == {torch.float32, torch.bfloat16}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=1e-2)
    history = run(precision="bfloat16", epochs=3, lr=1e-2)[1]
    assert history[-1]["valid_loss"] < history[0]["valid_loss"]


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


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a cat, a dog", "13a"),
        ("Кошка и собака", "13a"),
        ("तापमान १२.५ अंश होते।", "intl"),
        ("السلام عليكم", "intl"),
        ("今天天气很好", "zh"),
        ("今日は天気がいい", "char"),
        ("สวัสดีครับ", "char"),
        ("मी Python वापरतो", "intl"),
        ("12.5", "13a"),
    ],
)
def test_bleu_goes_by_the_script(text, expected):
    assert tokenizer([text]) == expected
    assert f"tok:{expected}|" in score([text], [text]).bleu_signature


def test_bleu_of_devanagari_leaves_a_number_whole_and_frees_the_danda():
    """13a does neither, so that this output would lose n-grams for a space."""
    assert score(["तापमान १२.५ अंश होते ।"], ["तापमान १२.५ अंश होते।"]).bleu == pytest.approx(100)


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
    expected, decayed, decay = None, [], 0.0

    def update(optimizer, args, kwargs):
        nonlocal expected, decay
        new = [p.detach().clone() for p in model.parameters()]
        decay = min(0.9, (1 + len(decayed)) / (10 + len(decayed)))
        expected = new if expected is None else [e.lerp(n, 1 - decay) for e, n in zip(expected, new)]
        decayed.append(1)

    register = register_optimizer_step_post_hook(update)
    try:
        train(model, data, data, show_bar=False, say=lambda text: None)
    finally:
        register.remove()
    assert len(decayed) > 3 and decay > 0.3
    for found, want in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(found, want)
