"""Tokens, vocabularies, files of pairs, splits and batches."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2s.config import Config
from s2s.data import Dataset, make_batch, read_pairs, split_pairs
from s2s.errors import S2SError
from s2s.vocab import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    SentencePieceVocabulary,
    Vocabulary,
    build_vocabularies,
    join_words,
    normalize,
    words,
)

REAL = os.environ.get("S2S_DATA")
needs_data = pytest.mark.skipif(not REAL, reason="set S2S_DATA to the folder of the real data sets")


def no_report(text):
    raise AssertionError(text)


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
    with pytest.raises(S2SError, match="no sentencepiece model"):
        SentencePieceVocabulary.load(tmp_path / "none")
    with pytest.raises(S2SError, match="sentencepiece cannot make"):
        SentencePieceVocabulary.build(["a"], 3)


def test_shared_vocabulary():
    pairs = [("Ab", "cd")]
    source, target = build_vocabularies(pairs, Config(tokens="char", shared_vocab=True))
    assert source is target and set(source.tokens[4:]) == set("Abcd")
    source, target = build_vocabularies(pairs, Config(tokens="char", lowercase=True))
    assert set(source.tokens[4:]) == set("ab") and set(target.tokens[4:]) == set("cd")


# Files


def test_tab_separated(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes("\ufeffGo.\tजा.\tfrom somewhere\r\nRun!\tपळ!\r\n".encode())
    assert read_pairs([path], no_report) == [("Go.", "जा."), ("Run!", "पळ!")]


def test_parallel_files_break_lines_only_at_newlines(tmp_path):
    (tmp_path / "a").write_text("one\u2028still one\ntwo\n", encoding="utf-8")
    (tmp_path / "b").write_text("1\n2", encoding="utf-8")
    assert read_pairs([tmp_path / "a", tmp_path / "b"], no_report) == [
        ("one\u2028still one", "1"),
        ("two", "2"),
    ]


def test_bad_lines_are_counted_and_named(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n\nc\nd\t \ne\tf\n")
    said = []
    assert read_pairs([path], said.append) == [("a", "b"), ("e", "f")]
    assert said == [f"{path}: left out 3 lines without a source or a target (line 2, 3, 4)"]


@pytest.mark.parametrize(
    "files, message",
    [
        ([None], "does not exist"),
        ([b""], "is empty"),
        ([b" \n\n"], "is empty"),
        ([b"a b\nc d\n"], "has no line with a source, a tab and a target"),
        ([b"a\tb\n\xff\tb\n"], r"is not UTF-8 text \(line 2\)"),
        ([b"a\nb\n", b"c\n"], "has 2 lines but .* has 1"),
        ([b"a\n", b"b\n", b"c\n"], "3 files given"),
        (["folder"], "is a folder"),
    ],
)
def test_bad_files(tmp_path, files, message):
    paths = [tmp_path / str(i) for i in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
    with pytest.raises(S2SError, match=message):
        read_pairs(paths, no_report)


@needs_data
def test_real_files():
    data = Path(REAL)
    pairs = read_pairs([data / "eng-mar/mar.txt"], no_report)
    assert len(pairs) == 33725 and len({source for source, _ in pairs}) == 22211
    assert len(read_pairs([data / "multi30k/val.en", data / "multi30k/val.de"], no_report)) == 1014


# Splits and batches


def test_split_by_source_does_not_leak():
    pairs = [(f"s{i // 2}", f"t{i}") for i in range(200)]
    train, valid = split_pairs(pairs, 0.1, "source", say=no_report)
    assert sorted(train + valid) == sorted(pairs) and len(valid) == 20
    assert not {s for s, _ in train} & {s for s, _ in valid}
    assert (train, valid) == split_pairs(pairs, 0.1, "source")
    assert (train, valid) != split_pairs(pairs, 0.1, "source", seed=2)


def test_split_by_row_says_that_it_leaks():
    pairs = [("same", f"t{i}") for i in range(100)]
    said = []
    train, valid = split_pairs(pairs, 0.1, "row", say=said.append)
    assert (len(train), len(valid)) == (90, 10)
    assert said == ["split by row: 10 of 10 held-out sources are in the training data too"]


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
    assert data.batches(1) != data.batches(2)
    assert data.batches(1) == data.batches(1)


def test_batch_tokens_is_a_limit():
    data = dataset(batch_size=1000, batch_tokens=100)
    sizes = [data.load(batch).outputs.numel() for batch in data.batches(1)]
    assert max(sizes) <= 100 and torch.tensor(sizes).float().mean() > 70


def test_too_long_pairs_are_counted():
    data = dataset(max_length=9)
    assert data.too_long == sum(1 + i % 11 > 9 for i in range(300)) and len(data) == 300 - data.too_long
