"""Files of pairs, their cleaning and their splits, and the command that prepares them."""

import os
import re
import tracemalloc
from pathlib import Path

import pytest

from s2s.cli import main
from s2s.errors import S2SError
from s2s.model.config import Config
from s2s.text.cleaning import clean, source_text, target_text
from s2s.text.data import Dataset
from s2s.text.pairs import PairFile, read_pairs, split_pairs
from s2s.text.vocab import build_vocabularies

REAL = os.environ.get("S2S_DATA")
needs_data = pytest.mark.skipif(not REAL, reason="set S2S_DATA to the folder of the real data sets")


def no_report(text):
    raise AssertionError(text)


# Files


def test_tab_separated(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_bytes("\ufeffGo.\tजा.\tfrom somewhere\r\nRun!\tपळ!\r\n".encode())
    assert read_pairs([path], no_report) == [("Go.", "जा."), ("Run!", "पळ!")]


def test_a_file_need_not_fit_into_memory(tmp_path, monkeypatch):
    """Nor do its ids: what is held of a pair are a few numbers, however long it is."""
    path, text, config = tmp_path / "pairs.tsv", "a line of few words " * 40, Config(max_length=300, batch_size=4)
    monkeypatch.setattr("s2s.text.data.CHUNK", 5)

    def peak(count):
        path.write_text("".join(f"{text}{i % 50}\t{text}\n" for i in range(count)))
        tracemalloc.start()
        try:
            train, valid = split_pairs(PairFile([path], no_report), 0.2)
            vocabularies = build_vocabularies(train, config)
            sets = [Dataset(pairs, *vocabularies, config) for pairs in (train, valid)]
            tokens = sum(data.load(indices).tokens for data in sets for indices in data.batches(1))
            assert tokens == count * (40 * 5 + 1)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(500)  # what is imported at first use stays
    assert peak(500) < path.stat().st_size / 5


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


def test_lines_of_pairs(tmp_path):
    """Bad lines, and quotes that hold newlines, count; so does what a selection leaves out."""
    path = tmp_path / "pairs.tsv"
    path.write_text('a\t1\nbad\n"b\nb"\t2\n' + "".join(f"c{i}\t3\n" for i in range(9)))
    pairs = PairFile([path], lambda text: None, quotes=True)
    assert pairs.name == str(path) and pairs.shown([1]) == "3" and pairs.shown([0, 2, 10]) == "1, 5, 13"
    assert pairs.shown(list(range(7))) == "1, 3, 5, 6, 7, ..."
    train, held = split_pairs(pairs, 0.5)
    lines = {source: line for (source, _), line in zip(pairs, (1, 3, *range(5, 14)))}
    for part in (train, held):
        assert part.shown([len(part) - 1]) == str(lines[list(part)[-1][0]])


@needs_data
def test_real_files():
    data = Path(REAL)
    pairs = read_pairs([data / "eng-mar/mar.txt"], no_report)
    assert len(pairs) == 33725 and len({source for source, _ in pairs}) == 22211
    assert len(read_pairs([data / "multi30k/val.en", data / "multi30k/val.de"], no_report)) == 1014


def test_a_pair_file_is_read_anew_at_each_walk(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\nc\nd\te\n")
    said = []
    pairs = PairFile([path], said.append)
    assert len(pairs) == 2 and list(pairs) == list(pairs) == [("a", "b"), ("d", "e")]
    assert len(said) == 1


def test_quotes_hold_tabs_newlines_and_quotes(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text('"a ""b"" c"\tx\nd\t"y\nz\tw"\ne "f" g\t"h" i\nj\tk\n')
    said = []
    assert list(PairFile([path], said.append, quotes=True)) == [
        ('a "b" c', "x"), ("d", "y\nz\tw"), ('e "f" g', "h i"), ("j", "k")
    ]  # fmt: skip
    assert said == [f"{path}: 1 pair over several lines, by the quotes (line 2)"]


def test_a_quote_that_is_never_closed_does_not_swallow_the_file_unsaid(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text('a\tb\nc\t"d\n' + "e\tf\n" * 5)
    said = []
    assert len(PairFile([path], said.append, quotes=True)) == 2
    assert said == [f"{path}: 1 pair over several lines, by the quotes (line 2)"]
    path.write_text('a\tb\nc\t"d\n' + "e\tf\n" * 40_000)
    with pytest.raises(S2SError, match="line 2: its quotes do not match"):
        PairFile([path], no_report, quotes=True)


# Cleaning


def test_cleaning():
    english, marathi = "Don't  run 3 miles, Tom!", "टॉम, १२ मैल 5 नको धावूस!"
    assert clean(english, "none", "source") == english
    assert clean(english, "seed", "source") == "dont run miles, tom!"
    assert clean(english, "fixed", "source") == "dont run miles tom"
    assert clean(marathi, "seed", "target") == "टॉम, मैल 5 नको धावूस!"
    assert clean(marathi, "fixed", "target") == "टॉम मैल 5 नको धावूस"
    tokenized = "i do n't know ( yet ) , \" wo n't \" is 5 % . fun :) ... no ?! it 's at 3:15 . ' so '"
    typed = "i don't know (yet), \"won't\" is 5%. fun :)... no?! it's at 3:15. ' so '"
    assert clean(tokenized, "detokenize", "source") == clean(typed, "detokenize", "source") == typed
    config = Config(cleaning="fixed")
    assert source_text(english, config) == "dont run miles tom" and target_text(marathi, config) == "टॉम मैल 5 नको धावूस"


# Splits


def test_split_by_source_does_not_leak():
    pairs = [(f"s{i // 2}", f"t{i}") for i in range(200)]
    train, valid = split_pairs(pairs, 0.1, "source", say=no_report)
    train, valid = list(train), list(valid)
    assert sorted(train + valid) == sorted(pairs) and len(valid) == 20
    assert not {s for s, _ in train} & {s for s, _ in valid}
    again, other = (split_pairs(pairs, 0.1, "source", seed=seed) for seed in (1, 2))
    assert [train, valid] == [list(part) for part in again] != [list(part) for part in other]


def test_split_by_row_says_that_it_leaks():
    pairs = [("same", f"t{i}") for i in range(100)]
    said = []
    train, valid = split_pairs(pairs, 0.1, "row", say=said.append)
    assert (len(train), len(valid)) == (90, 10)
    assert said == ["split by row: 1 sources are in both parts, those of 10 of the 10 held-out pairs"]


def test_split_is_by_what_the_model_sees():
    pairs = [("Run!", "1"), ("run", "2")] * 20 + [("Stop", "3")]
    train, valid = split_pairs(pairs, 0.5, "source", key=lambda source: clean(source, "fixed", "source"))
    assert {len(train), len(valid)} == {1, 40}


# s2s prepare


def prepare(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["prepare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_prepare(capsys, tmp_path):
    path, out = tmp_path / "p.tsv", tmp_path / "out"
    path.write_text('Run!\tअ ब\nRun.\tक\n!\tड\n"Go, Tom"\tअ "ब"\n', encoding="utf-8")
    code, text, err = prepare(capsys, path, "--cleaning", "fixed", "--held-out", "0.5", "--out", out)
    assert code == 0 and err == f"{path}: left out 1 pair of which cleaning left nothing (line 3)\n"
    assert "pairs        3, 4 distinct sources" in text and "2 distinct sources after it" in text
    assert "source       3 different words, the longest has 2\n" in text
    assert "target       5 different words, the longest has 4, with START_ and _END" in text
    written = {
        name: (out / f"{name}.tsv").read_text(encoding="utf-8").splitlines() for name in ("all", "train", "test")
    }
    assert written["all"] == ["run\tअ ब", "run\tक", "go tom\tअ ब"]
    assert sorted(written["train"] + written["test"]) == sorted(written["all"])
    assert {len(written["train"]), len(written["test"])} == {1, 2}


def test_prepare_says_what_is_wrong(capsys, tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text("!\t?\n")
    assert prepare(capsys, path, "--cleaning", "fixed")[::2] == (
        1, f"{path}: left out 1 pair of which cleaning left nothing (line 1)\ns2s: cleaning left no pair.\n"
    )  # fmt: skip
    path.write_text("a\tb\n")
    code, _, err = prepare(capsys, path, "--out", path / "x")
    assert code == 1 and f"{path / 'x/all.tsv'} cannot be written" in err


@needs_data
@pytest.mark.parametrize(
    "cleaning, split, words, longest, parts",
    [
        ("seed", "row", (8882, 14689), (35, 37), (23607, 10118)),
        ("fixed", "row", (5388, 12709), (34, 37), (23607, 10118)),
        ("fixed", "source", (5388, 12709), (34, 37), None),
    ],
)
def test_figures_of_the_seed(capsys, cleaning, split, words, longest, parts):
    file = Path(REAL) / "eng-mar/mar.txt"
    code, text, err = prepare(capsys, file, "--cleaning", cleaning, "--split", split)
    assert code == 0 and err == "" and "33,725, 22,211 distinct sources" in text

    def figures(line):
        found = re.search(rf"^{line} +.*", text, re.M)[0]
        return tuple(int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", found))

    assert (figures("source")[0], figures("target")[0]) == words
    assert (figures("source")[1], figures("target")[1]) == longest
    assert sum(figures("split  ")) == 33725
    assert ("sources are in both parts" in text) == (split == "row")
    if parts:
        assert figures("split  ") == parts


DIALOGUES = "hello\thi\nhow are you\twell\n\nand\tso\nso\tit goes\n"


def test_turns_of_dialogues(tmp_path):
    """A source has the turns before it, of its own dialogue alone; a reply that the next line repeats is one turn."""
    path, said = tmp_path / "d.tsv", []
    path.write_text(DIALOGUES)
    assert read_pairs([path], said.append, turns=3) == [
        ("hello", "hi"),
        ("hello ⏎ hi ⏎ how are you", "well"),
        ("and", "so"),
        ("and ⏎ so", "it goes"),
    ]
    assert read_pairs([path], said.append, turns=2)[1] == ("hi ⏎ how are you", "well")
    assert not said
    assert [source for source, _ in read_pairs([path], said.append)] == ["hello", "how are you", "and", "so"]
    assert said == [f"{path}: left out 1 line without a source or a target (line 3)"]
    for part in ("hello\nhow are you\n\nand\nso\n", "hi\nwell\n\nso\nit goes\n"):
        (tmp_path / part[:2]).write_text(part)
    assert read_pairs([tmp_path / "he", tmp_path / "hi"], said.append, turns=3)[1][0] == "hello ⏎ hi ⏎ how are you"
