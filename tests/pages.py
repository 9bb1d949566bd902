"""Parts of the pages in docs/ that commands write: between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def _split(page, name):
    text = (DOCS / page).read_text()
    before, rest = text.split(f"<!-- {name} -->\n")
    part, after = rest.split(f"<!-- /{name} -->\n")
    return before + f"<!-- {name} -->\n", part, f"<!-- /{name} -->\n" + after


def read(page: str, name: str) -> str:
    """Part ``name`` of docs/``page``. ValueError where its two marks are not there, once each."""
    return _split(page, name)[1]


def write(page: str, name: str, part: str) -> None:
    """Puts ``part`` in its place."""
    before, _, after = _split(page, name)
    (DOCS / page).write_text(before + part + after)
