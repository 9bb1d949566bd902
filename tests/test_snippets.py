"""README.md and docs/, followed to the letter: tests/snippets."""

import pytest
from snippets import not_run
from snippets.pages import CODE, commands, pages, snippets
from snippets.run import run

WITH_CODE = [page for page in pages() if snippets(page)]
TRAININGS = ("docs/training.md", "docs/decoding.md")  # whole ones, of half a minute


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.exhaustive] * (page in TRAININGS)) for page in WITH_CODE]
)
def test_page(page, tmp_path):
    result = run(page, tmp_path)
    every = [c for s in snippets(page) if not s.given for c in (commands(s.code) if s.language == "sh" else [s.code])]
    assert result.ran + len(result.left) == len(every)


def test_every_exception_is_one():
    """A row of the table that fits nothing is of a snippet that has gone."""
    for row in not_run.TABLE:
        texts = [
            (s.language, t)
            for s in snippets(row.page)
            for t in ([s.code] if s.language == "python" else commands(s.code))
        ]
        fitting = [text for language, text in texts if not_run.reason(row.page, text, language) == row.reason]
        assert any(row.text in text for text in fitting), f"{row.text!r} is nowhere in {row.page}"


def page(*blocks):
    return "\n\n".join(f"```{language}\n{code}\n```" for language, code in blocks) + "\n"


EAGER = ("python", "# eager\nimport torch\ny = torch.ones(2)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (page(("sh", "s2s presets\ns2s presets nothing-like-it")), "'s2s presets nothing-like-it' ended with 1"),
        (page(("sh", "s2s presets | cat\nls missing")), "'ls missing' ended with 2"),
        (page(("python", "a = 1\nb = a / 0")), "page.md:2 ended with ZeroDivisionError"),
        (page(EAGER, ("python", "# fused\nimport torch\ny = torch.zeros(2)")), "y is another than the eager block's"),
        (page(EAGER, ("python", "# fused\nimport torch\nz = torch.ones(2)")), "makes no tensor"),
        (page(("python", "# fused\nz = 1")), "no block before it"),
    ],
    ids=["second command", "piped", "python", "another number", "another name", "no eager"],
)
def test_what_fails_is_named(text, said, tmp_path):
    with pytest.raises(AssertionError, match=said):
        run("page.md", tmp_path, text)


def test_what_a_page_takes_for_granted(tmp_path):
    text = "<!-- given python\na = 1\n-->\n\n" + page(
        ("sh", "s2s presets  # to \\\n  see"), ("python", "assert a == 1")
    )
    assert [snippet.language for snippet in snippets("page.md", text)] == ["python", "sh", "python"]
    assert run("page.md", tmp_path, text).ran == 2


def test_a_program_that_no_page_may_run(tmp_path):
    with pytest.raises(ValueError, match="not in the table"):
        run("page.md", tmp_path, page(("sh", "A=1 rm -r something")))
    with pytest.raises(ValueError, match="is 'bash', expected one of python, sh"):
        snippets("page.md", page(("bash", "ls")))
    assert CODE == ("python", "sh")
