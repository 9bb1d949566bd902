"""What turns the repository into a site: pages from files outside docs/, and links that hold on both.

A link of a page is one for a reader of the repository. On the site it leads to the page that was made of its target,
or, where the target is no part of the site, is text without a link.
"""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PICTURES = "benchmarks/results"
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
GIVEN = re.compile(r"^<!-- given .*?^-->\n", re.MULTILINE | re.DOTALL)  # for tests/snippets, not for readers
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted((ROOT / PICTURES).rglob("*.png")):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = {made: source for source, made in PAGES.items()}.get(here, f"docs/{here}")
    parts = FENCE.split(GIVEN.sub("", markdown))
    parts[1::2] = [part.replace("  # fmt: skip\n", "\n") for part in parts[1::2]]  # for ruff
    parts[::2] = [LINK.sub(lambda link: rewritten(link, source, here, files), part) for part in parts[::2]]
    return "".join(parts)


def rewritten(link: re.Match[str], source: str, here: str, files: Files) -> str:
    """A link of the file ``source``, which became the page ``here``."""
    target = os.path.normpath(os.path.join(os.path.dirname(source), link[3]))
    target = PAGES.get(target, target.removeprefix("docs/"))
    if files.get_file_from_path(target) is None:
        return link[2]
    return f"{link[1]}[{link[2]}]({os.path.relpath(target, os.path.dirname(here))}{link[4] or ''})"
