"""Pages, and the snippets that they are made of."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CODE = ("python", "sh")
NO_CODE = ("text", "toml", "")  # outputs, formulas, files
FENCED = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^ *(?P=fence) *$"
    r"|^<!-- given (?P<given>\w+)\n(?P<hidden>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)


class Snippet(NamedTuple):
    page: str  # as a path from the root
    line: int  # of its first line of code
    language: str  # "python" or "sh"
    code: str
    given: bool  # what the page takes for granted, and shows to nobody

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md and all pages of docs/, as paths from the root."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def snippets(page: str, text: str | None = None) -> list[Snippet]:
    """Those of a page in their order. ValueError for a fence of a language that is neither code nor known not to be."""
    text = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    found = []
    for match in FENCED.finditer(text):
        language = match["given"] or match["language"].strip()
        line = text.count("\n", 0, match.start()) + 2
        if language in CODE:
            code = match["hidden"] if match["given"] else textwrap.dedent(match["code"])
            found.append(Snippet(page, line, language, code, bool(match["given"])))
        elif language not in NO_CODE:
            raise ValueError(
                f"{page}:{line} is {language!r}, expected one of {', '.join(filter(None, CODE + NO_CODE))}"
            )
    return found


def commands(code: str) -> list[str]:
    """The commands of a shell block: without comments, with continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", code).splitlines()
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in lines]
    return [line for line in lines if line]
