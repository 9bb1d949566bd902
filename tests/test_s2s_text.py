"""Tokens, vocabularies and batches."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.errors import S2SError
from s2s.model.config import Config
from s2s.text.cleaning import normalize
from s2s.text.data import Dataset, make_batch, prefetch
from s2s.text.vocab import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    SentencePieceVocabulary,
    Vocabulary,
    build_vocabularies,
    join_words,
    words,
)

# Tokens


def test_words():
    assert words("Don't stop, please!") == ["Don't", "stop", "￭,", "please", "￭!"]
    assert words('He said "no" (twice).') == ["He", "said", '"￭', "no", '￭"', "(￭", "twice", "￭)", "￭."]
    # Vowel signs are not letters to Python, but they belong to the word.
    assert words("मंगळवार, ५ मार्च") == ["मंगळवार", "￭,", "५", "मार्च"]
    assert words("") == []


@given(st.text())
def test_words_can_be_joined_again(text):
    text = normalize(text).replace("￭", "")
    assert join_words(words(text)) == normalize(text)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_vocabulary(kind, tmp_path):
    texts = ["a rose is a rose.", "is it?"]
    vocab = Vocabulary.build(texts, kind)
    assert vocab.tokens[:4] == SPECIALS and (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert len(set(vocab.tokens)) == len(vocab)
    for text in texts:
        assert vocab.decode([BOS, *vocab.encode(text), EOS, PAD]) == text
    assert vocab.encode("✗") == [UNK]
    vocab.save(tmp_path / "v")
    again = Vocabulary.load(tmp_path / "v")
    assert (again.tokens, again.kind) == (vocab.tokens, kind)
    assert Vocabulary.build(reversed(texts), kind).tokens == vocab.tokens


def test_vocabulary_limits():
    texts = ["b b b a a c"]
    assert Vocabulary.build(texts, "word", size=5).tokens[4:] == ["b"]
    assert Vocabulary.build(texts, "word", min_count=2).tokens[4:] == ["b", "a"]


def test_sentencepiece(tmp_path):
    texts = [f"the {a} {b} is here" for a in ("red", "green", "blue") for b in ("house", "boat", "road")] * 5
    vocab = SentencePieceVocabulary.build(texts, 60)
    ids = vocab.encode(texts[0])
    assert ids and min(ids) > EOS
    assert vocab.decode([BOS, *ids, EOS, PAD]) == texts[0]
    assert len(vocab.pieces(ids)) == len(ids)
    vocab.save(tmp_path / "v")
    assert SentencePieceVocabulary.load(tmp_path / "v").encode(texts[0]) == ids
    (tmp_path / "v").write_bytes(b"{}")
    with pytest.raises(S2SError, match="no sentencepiece model"):
        SentencePieceVocabulary.load(tmp_path / "v")
    with pytest.raises(S2SError, match="does not exist"):
        SentencePieceVocabulary.load(tmp_path / "none")
    with pytest.raises(S2SError, match="sentencepiece cannot make"):
        SentencePieceVocabulary.build(["a"], 3)


def test_sentencepiece_keeps_the_text():
    """Joiners within words and "…" come back as they were; nmt_nfkc made two words of one and dots of the other."""
    texts = ["क्\u200dया खाऱ्\u200cया पाण्यात…", "मंगळवार ५ मार्च", "नाही … होय"] * 9
    vocab = SentencePieceVocabulary.build(texts, 60)
    assert [vocab.decode(vocab.encode(text)) for text in texts] == texts


def test_an_old_sentencepiece_model_still_loads(tmp_path):
    """One that was trained with nmt_nfkc normalises as it did in its training."""
    import io

    import sentencepiece

    model = io.BytesIO()
    options = {"pad_id": PAD, "unk_id": UNK, "bos_id": BOS, "eos_id": EOS, "character_coverage": 1.0, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three…", "two three", "one"] * 9),
        model_writer=model,
        vocab_size=30,
        hard_vocab_limit=False,
        **options,
    )
    (tmp_path / "old").write_bytes(model.getvalue())
    vocab = SentencePieceVocabulary.load(tmp_path / "old")
    assert vocab.decode(vocab.encode("three…")) == "three..."


def test_shared_vocabulary():
    pairs = [("Ab", "cd")]
    source, target = build_vocabularies(pairs, Config(tokens="char", shared_vocab=True))
    assert source is target and set(source.tokens[4:]) == set("Abcd")
    source, target = build_vocabularies(pairs, Config(tokens="char", lowercase=True))
    assert set(source.tokens[4:]) == set("ab") and set(target.tokens[4:]) == set("cd")


# Batches


def dataset(**options):
    pairs = [("x" * (1 + i % 7), "y" * (1 + i % 11)) for i in range(300)]
    config = Config(tokens="char", **options)
    return Dataset(pairs, *build_vocabularies(pairs, config), config)


def test_batch():
    batch = make_batch([([5, 6], [7]), ([5], [8, 9]), ([], [])])
    assert batch.source.tolist() == [[5, 6], [5, PAD], [EOS, PAD]]
    assert batch.source_lengths.tolist() == [2, 1, 1]
    assert batch.inputs.tolist() == [[BOS, 7, PAD], [BOS, 8, 9], [BOS, PAD, PAD]]
    assert batch.outputs.tolist() == [[7, EOS, PAD], [8, 9, EOS], [EOS, PAD, PAD]]
    assert batch.tokens == 6 == int((batch.outputs != PAD).sum())


def test_every_pair_is_in_one_batch_and_padding_is_small():
    data = dataset(batch_size=16)
    for epoch in (None, 1, 2):
        batches = data.batches(epoch)
        assert Counter(i for batch in batches for i in batch) == Counter(range(300))
        assert max(map(len, batches)) == 16
        padding = sum((data.load(batch).outputs == PAD).sum().item() for batch in batches)
        assert padding / sum(data.load(batch).tokens for batch in batches) < 0.1
    one, two, again = ([batch.tolist() for batch in data.batches(epoch)] for epoch in (1, 2, 1))
    assert one != two and one == again


def test_batch_tokens_is_a_limit():
    data = dataset(batch_size=1000, batch_tokens=100)
    sizes = [data.load(batch).outputs.numel() for batch in data.batches(1)]
    assert max(sizes) <= 100 and torch.tensor(sizes).float().mean() > 70


def test_too_long_pairs_are_known(monkeypatch):
    monkeypatch.setattr("s2s.text.data.CHUNK", 7)
    data = dataset(max_length=9)
    assert data.too_long == [i for i in range(300) if 1 + i % 11 > 9] and len(data) == 300 - len(data.too_long)


def test_rows_are_the_encoded_pairs_in_order(monkeypatch):
    monkeypatch.setattr("s2s.text.data.CHUNK", 7)  # several chunks, and a rest
    data = dataset()
    for i in (0, 6, 7, 299):
        source, target = data[i]
        assert source.tolist() == [4] * (1 + i % 7) and target.tolist() == [4] * (1 + i % 11)


def test_no_pair_at_all():
    vocabularies = build_vocabularies([("a", "b")], Config(tokens="char"))
    data = Dataset([("aa", "bb")], *vocabularies, Config(tokens="char", max_length=1))
    assert len(data) == 0 and data.too_long == [0] and data.batches(1) == []


def test_prefetch_keeps_order_works_ahead_and_passes_errors_on():
    made = []

    def load(i):
        made.append(i)
        return 10 // (7 - i)

    results = prefetch(load, range(20), ahead=3)
    assert next(results) == 10 // 7
    results.close()
    assert len(made) <= 5
    with pytest.raises(ZeroDivisionError):
        list(prefetch(load, range(20)))
    assert list(prefetch(load, range(5))) == [10 // (7 - i) for i in range(5)]
    assert list(prefetch(load, [])) == []
