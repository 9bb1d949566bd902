"""Texts that nobody would write: huge, empty, with marks of other programs, or not text at all."""

import io
import random
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import test_s2s_cli_search as command_line
import torch
from test_s2s_cli_search import results, save
from test_s2s_translator import make

from s2s import S2SError
from s2s.commands.lines import standard_input
from s2s.report.perplexity import perplexity
from s2s.text.vocab import JOINER, is_punctuation, join_words, words

s2s, model = command_line.s2s, command_line.model  # fixtures


def simple_words(text):
    """The rule by itself, character by character: what was there before it was quick."""
    found = []
    for part in text.split():
        tokens, in_word = [], False
        for i, c in enumerate(part):
            if is_punctuation(c) and not (c in "'’" and in_word and part[i + 1 : i + 2].isalpha()):
                tokens.append((JOINER if i else "") + c)
                in_word = False
            elif in_word:
                tokens[-1] += c
            else:
                tokens[-1:] = [tokens[-1] + JOINER, c] if i else [c]
                in_word = True
        found += tokens
    return found


def test_words_of_random_texts():
    draw = random.Random(1)
    for _ in range(2000):
        text = "".join(draw.choice("ab'’.,!é क्  -") for _ in range(draw.randrange(90)))
        assert words(text) == simple_words(text)
        assert join_words(words(text)) == " ".join(text.split())


def test_a_word_of_ten_megabytes():
    """In linear time, a fraction of a second a megabyte; and not kept in memory."""
    began = time.process_time()
    assert words("a" * 10**7) == ["a" * 10**7] and len(words("a-" * 10**6)) == 2 * 10**6
    assert time.process_time() - began < 30


def test_a_line_of_ten_megabytes(s2s, model):
    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    long = "ab cd " * (10**7 // 6)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, limits[1]))
    try:
        code, out, err = s2s("translate", model, stdin=f"ab\n{long}\ncd\n")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    short = results(s2s("translate", model, "ab", "cd"))
    assert code == 0 and [out.splitlines()[i] for i in (0, 2)] == short
    assert err == "line 2 has 3,333,332 tokens, of which the first 1,000 are read (--max-source-length)\n"


def test_long_lines_are_cut_and_said(s2s, model, tmp_path):
    line, cut = "ab cd ef gh", "ab cd"
    said = "has 4 tokens, of which the first 2 are read (--max-source-length)\n"
    code, out, err = s2s("translate", model, "ab", line, "--max-source-length", 2)
    assert code == 0 and out.splitlines() == results(s2s("translate", model, "ab", cut)) and err == f"line 2 {said}"
    # In the lines that come after the first batches too.
    code, out, err = s2s("translate", model, "--batch", 2, "--max-source-length", 2, stdin="ab\n" * 4 + line + "\n")
    assert code == 0 and out.splitlines()[4] == results(s2s("translate", model, cut))[0] and err == f"line 5 {said}"
    code, out, err = s2s("align", model, line, "--max-source-length", 2)
    assert code == 0 and out.splitlines()[1].split("\t") == ["", "ab", "cd"] and err == f"line 1 {said}"
    assert {len(row.split("\t")) for row in out.splitlines()[2:]} == {3}  # as many weights as were read
    code, out, err = s2s("chat", model, "--max-source-length", 2, stdin=f"ab\n{line}\n")
    assert code == 0 and len(out.splitlines()) == 2 and err == f"line 2 {said}"
    (tmp_path / "pairs").write_text(f"ab\tAB\n{line}\tAB CD\n")
    code, out, err = s2s("evaluate", model, tmp_path / "pairs", "--max-source-length", 2)
    assert code == 0 and err == f"line 2 {said}perplexity: left out 1 pair longer than 2 tokens (--max-source-length)\n"
    code, _, err = s2s("align", model, line, "--target", "AB", "--max-source-length", 2)
    assert code == 1 and err == "s2s: pair 1 has 4 tokens, expected at most 2 (max_source_length).\n"


def test_perplexity_without_what_is_too_long():
    translator, said = make(), []
    arguments = (translator.model, [("one two", "eins"), ("two", "zwei"), ("one", "eins zwei drei")])
    vocabularies = (translator.source_vocab, translator.target_vocab)
    found = perplexity(*arguments, *vocabularies, 1, said.append)
    assert found == perplexity(translator.model, [("two", "zwei")], *vocabularies) and len(said) == 1
    with pytest.raises(S2SError, match="no pair is at most 1 tokens long"):
        perplexity(translator.model, arguments[1][:1], *vocabularies, 1, said.append)
    with torch.no_grad():
        translator.model.output.bias[4:] = -5000.0
    assert perplexity(translator.model, [("two", "zwei")], *vocabularies).perplexity == float("inf")


@pytest.mark.parametrize("options", [[], ["--replace-unknown"], ["--sample"], ["--beam", 1, "--no-repeat-ngram", 2]])
def test_an_empty_line_is_an_empty_line(s2s, model, tmp_path, options):
    lines = ["ab QQ cd", "", "ef", "  \t", "gh"]
    (tmp_path / "lines").write_text("".join(line + "\n" for line in lines))
    found = results(s2s("translate", model, *options, "--file", tmp_path / "lines"))
    assert len(found) == 5 and found[1] == found[3] == "" and "</s>" not in " ".join(found)
    if "--sample" not in options:  # the numbers of a line depend on how many there are
        assert [found[i] for i in (0, 2, 4)] == results(s2s("translate", model, *options, *lines[::2]))
    assert results(s2s("translate", model, *options, stdin="\n\n")) == ["", ""]
    rows = results(s2s("translate", model, "--n-best", 2, stdin="ab\n\ncd\n"))
    assert [row.split("\t")[0] for row in rows] == ["1", "1", "2", "3", "3"]
    assert rows[2].endswith("\t") and float(rows[2].split("\t")[1]) < 0


def test_what_cleaning_leaves_nothing_of(tmp_path, s2s):
    save(tmp_path / "m", cleaning="fixed")
    assert results(s2s("translate", tmp_path / "m", "!?", "ab"))[0] == ""
    assert make().align("").target_pieces == ["</s>"] and make().align("").weights.shape == (1, 1)


def test_marks_and_line_ends_of_standard_input(s2s, model, monkeypatch):
    """As in files: a BOM is no text, and a lone carriage return ends no line."""
    typed = "\ufeffab\r\nc\rd\u2028e\x0c\n\n\ufefff"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
    assert list(standard_input()) == ["ab", "c\rd\u2028e\x0c", "", "\ufefff"]
    expected = results(s2s("translate", model, "ab", "cd"))
    assert results(s2s("translate", model, stdin="\ufeffab\ncd")) == expected
    assert results(s2s("translate", model, stdin="ab\r\ncd\r\n")) == expected
    assert len(results(s2s("translate", model, stdin="ab\rcd\n"))) == 1
    assert len(results(s2s("translate", model, stdin="ab\u2028cd\x0c\n"))) == 1


def test_one_text_instead_of_several():
    translator, options = make(), {"beam": 2, "n_best": 2}
    assert translator.translate("one two") == translator.translate(["one two"])[0]
    assert isinstance(translator.translate("one two"), str)
    assert translator.align("one").text == translator.align(["one"])[0].text
    texts, ids = (lambda found: [best.text for best in found]), (lambda found: [best.ids for best in found])
    assert texts(translator.candidates("one", **options)) == texts(translator.candidates(["one"], **options)[0])
    assert ids(translator.search("one", **options)) == ids(translator.search(["one"], **options)[0])
    assert translator.translate(()) == []


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda t: t.translate(["one", 7]), TypeError, r"texts\[1\] is int, expected str"),
        (lambda t: t.translate([b"one"]), TypeError, r"texts\[0\] is bytes, expected str"),
        (lambda t: t.align([None]), TypeError, r"texts\[0\] is NoneType, expected str"),
        (lambda t: t.force([("one", 1)]), TypeError, r"pairs\[0\]\[1\] is int, expected str"),
        (lambda t: t.force(["one"]), TypeError, r"pairs\[0\] is 'one', expected a source and a target"),
        (lambda t: t.force([("one",)]), TypeError, r"pairs\[0\] is \('one',\), expected a source and a target"),
        (lambda t: t.translate(["\udcff"]), S2SError, r"texts\[0\] is '\\udcff', which is not UTF-8 text"),
        (lambda t: t.translate(7), TypeError, "texts is int, expected texts"),
        (lambda t: t.force([("one " * 2000, "eins")]), S2SError, "pair 1 has 2,000 tokens, expected at most 1,000"),
    ],
)
def test_what_is_no_text(call, error, message):
    with pytest.raises(error, match=message):
        call(make())


def test_a_cut_warns_where_nobody_asked_to_be_told():
    translator = make()
    with pytest.warns(UserWarning, match=r"texts\[1\] has 3 tokens, of which the first 2 are read"):
        found = translator.translate(["one", "one two three"], max_source_length=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found == translator.translate(["one", "one two"], max_source_length=2)


@pytest.mark.parametrize(
    "redirect, message",
    [
        ("> /dev/full", "s2s: standard output cannot be used (No space left on device)."),
        (">&-", "s2s: standard output is closed."),
        ("<&-", "s2s: standard input is closed."),
    ],
)
def test_standard_streams_that_fail(model, redirect, message):
    command = f"'{sys.executable}' -W ignore -m s2s translate '{model}' {redirect}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, input="ab\n" * 3)
    assert done.returncode == 1 and done.stderr == message + "\n"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory(s2s, model, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("s2s.translator.search", fail)
    code, out, err = s2s("translate", model, "ab")
    assert (code, out) == (1, "") and err.startswith("s2s: there is not enough memory; a smaller --batch-size")


def test_a_fault_of_the_program_is_not_hidden(model, monkeypatch):
    monkeypatch.setattr("s2s.translator.search", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command_line.main(["translate", str(model), "ab"])
