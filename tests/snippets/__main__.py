"""``python -m snippets``."""

import argparse
import sys
import tempfile
from pathlib import Path

from .not_run import reason
from .pages import commands, pages, snippets
from .run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m snippets", description="Runs the code of the pages.")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="README.md or docs/....md; by default all")
    parser.add_argument("--list", action="store_true", help="run nothing, but list what would run and what not")
    options = parser.parse_args()
    if unknown := sorted({*options.pages} - {*pages()}):
        sys.exit(f"{unknown[0]} is no page, expected one of {', '.join(pages())}")
    failed = 0
    for page in options.pages or pages():
        if options.list:
            show(page)
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = run(page, Path(folder))
            except AssertionError as error:
                failed += 1
                print(f"FAILED {error}")
                continue
        print(f"{page}: {result.ran} snippets and commands ran, {len(result.left)} did not")
        for where, what, why in result.left:
            print(f"  {where}: {what}\n    not run: {why}")
    sys.exit(f"{failed} pages failed" if failed else 0)


def show(page: str) -> None:
    for snippet in snippets(page):
        for text in commands(snippet.code) if snippet.language == "sh" else [snippet.code]:
            why = reason(page, text, snippet.language)
            print(f"{snippet} {'runs' if why is None else 'not run, ' + why}: {text.splitlines()[0]}")


if __name__ == "__main__":
    main()
