"""Text in, text out: unknown words, given outputs, and results that no batch changes."""

import math
from itertools import chain

import pytest
import torch

from s2s import Config, S2SError, Translator
from s2s.report.perplexity import perplexity
from s2s.text.vocab import EOS, SPECIALS, UNK, build_vocabularies
from s2s.training import build_model

PAIRS = [("one two three .", "eins zwei drei ."), ("three two", "drei zwei"), ("one", "eins")] * 20
SMALL = {"embedding_size": 8, "encoder_size": 8, "hidden_size": 8, "attention_size": 8, "readout_size": 8}
TEXTS = ["one two three .", "two", "", "never seen", "three three one two one .", "one"]


def make(**options):
    torch.manual_seed(0)
    config = Config(**SMALL | {"max_length": 8} | options)
    vocabularies = build_vocabularies(PAIRS, config)
    model = build_model(config, *vocabularies)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)  # untrained weights make every output alike; these have opinions
    return Translator(model, *vocabularies)


def says_unknown(**options):
    """A translator that always says <unk>, until it must stop."""
    translator = make(**options)
    with torch.no_grad():
        translator.model.output.bias[UNK] = 1000
    return translator


@pytest.mark.parametrize(
    "options",
    [{}, {"beam": 3, "n_best": 3}, {"sample": True, "n_best": 2, "temperature": 2.0}],
    ids=["greedy", "beam", "sample"],
)
def test_the_size_of_a_batch_changes_nothing(options):
    translator = make()
    one, two, all_ = (translator.search(TEXTS, batch=batch, **options) for batch in (1, 2, 64))
    for a, b, c in zip(one, two, all_, strict=True):
        assert [h.ids for h in a] == [h.ids for h in b] == [h.ids for h in c]
        assert [h.score for h in a] == pytest.approx([h.score for h in c], abs=1e-4)


def test_samples_of_lines_that_come_bit_by_bit():
    """One generator over several calls draws what one call draws."""
    translator, options = make(), {"sample": True, "temperature": 2.0, "seed": 5}
    generator = torch.Generator().manual_seed(5)
    bits = [translator.translate(TEXTS[i : i + 2], generator=generator, **options) for i in (0, 2, 4)]
    assert list(chain(*bits)) == translator.translate(TEXTS, **options)
    assert translator.translate(TEXTS, **options) != translator.translate(TEXTS, **options | {"seed": 6})


def test_every_batch_is_reported():
    seen = []
    make().translate(TEXTS, batch=4, done=seen.append)
    make().force([("one", "eins")] * 3, batch=2, done=seen.append)
    assert seen == [4, 2, 2, 1]
    with pytest.raises(S2SError, match="batch is 0, expected 1 or more"):
        make().translate(TEXTS, batch=0)


def test_unknown_words_become_the_source_words_that_were_looked_at():
    translator = says_unknown()
    text = "one “zebra” two"
    assert UNK not in translator.search([text], max_length=4)[0][0].ids
    (found,) = translator.align([text], max_length=4, allow_unknown=True)
    assert found.text == "<unk> <unk> <unk> <unk>"
    words = [["one", "“", "zebra", "”", "two"][int(row.argmax())] for row in found.weights[:4]]
    assert translator.translate([text], max_length=4, replace_unknown=True) == [" ".join(words)]
    dictionary = {word: word.upper() + "!" for word in words[:1]}
    expected = " ".join(dictionary.get(word, word) for word in words)
    (found,) = translator.align([text], max_length=4, replace_unknown=True, dictionary=dictionary)
    assert found.text == expected and found.target_pieces == [*expected.split(), "</s>"]
    # Words that are known stay as they are.
    assert make().translate(TEXTS, replace_unknown=True)[0] == make().translate(TEXTS)[0]


@pytest.mark.parametrize(
    "options", [{"tokens": "char", "vocab_size": 0}, {"tokens": "sentencepiece", "vocab_size": 30}]
)
def test_only_words_can_be_replaced(options):
    with pytest.raises(
        S2SError, match=f"only words can be replaced, but this model's tokens are '{options['tokens']}'"
    ):
        make(**options).translate(["one"], replace_unknown=True)


@pytest.mark.parametrize("tokens, size", [("word", 0), ("char", 0), ("sentencepiece", 30)])
def test_given_outputs(tokens, size):
    """The score of an output that is given is that of the search which finds it; empty texts and unknown words too."""
    translator = make(tokens=tokens, vocab_size=size)
    for found, text in zip(translator.align(TEXTS), TEXTS, strict=True):
        (forced,) = translator.force([(text, found.text)])
        assert len(forced.weights) == len(forced.target_pieces) and forced.weights.shape[1] == len(forced.source_pieces)
        if translator.target_vocab.encode(found.text) == translator.search([text])[0][0].ids:
            assert forced.score == pytest.approx(found.score, abs=1e-4)
            torch.testing.assert_close(forced.weights, found.weights, rtol=1e-4, atol=1e-5)
    forced = translator.force([("", ""), ("one qqq", "qqq eins")])
    assert forced[0].source_pieces == [SPECIALS[EOS]] == forced[0].target_pieces
    assert "qqq" in "".join(forced[1].source_pieces) and "qqq" in "".join(forced[1].target_pieces)


@pytest.mark.parametrize("attention", ["none", "fixed"])
def test_models_that_look_at_nothing(attention):
    translator = make(attention=attention, feed="none", order="after", readout="state")
    assert len(translator.translate(TEXTS, beam=2)) == len(TEXTS)
    message = rf"no attention weights \(its attention is '{attention}'\)"
    for refused in (
        lambda: translator.align(["one"]),
        lambda: translator.translate(["one"], replace_unknown=True),
        lambda: translator.translate(["one"], beam=2, coverage_penalty=0.1),
        lambda: translator.force([("one", "eins")]),
    ):
        with pytest.raises(S2SError, match=message):
            refused()
    assert translator.force([("one", "eins")], attention=False)[0].score < 0


@pytest.mark.parametrize("options", [{}, {"beam": 3}, {"sample": True, "top_k": 3}], ids=["greedy", "beam", "sample"])
def test_a_model_that_gives_no_numbers(options):
    translator = make()
    with torch.no_grad():
        translator.model.output.bias.fill_(torch.nan)
    with pytest.raises(S2SError, match=r"the model's probabilities are no numbers \(NaN\)"):
        translator.translate(TEXTS, **options)


@pytest.mark.parametrize("tokens", ["word", "char"])
def test_perplexity_of_tokens_and_of_words(tokens):
    """From the log probabilities of the outputs themselves; the last two are longer than any in training."""
    translator = make(tokens=tokens)
    pairs = [("one two", "eins zwei, QQ!"), ("two", "zwei"), ("one", "eins " * 20), ("three", "drei. " * 9)]
    loss = -sum(found.score for found in translator.force(pairs))
    found = perplexity(translator.model, pairs, translator.source_vocab, translator.target_vocab)
    ids = [translator.target_vocab.encode(target.strip()) for _, target in pairs]
    count = sum(map(len, ids))
    assert found.perplexity == pytest.approx(math.exp(loss / (count + 4)), rel=1e-5)
    assert found.word_perplexity == pytest.approx(math.exp(loss / (3 + 1 + 20 + 9 + 4)), rel=1e-5)
    assert found.unknown == sum(row.count(UNK) for row in ids) / count > 0
    assert f"{found.word_perplexity:.3f} of a word" in str(found) and f"{found.unknown:.2%} of" in str(found)
