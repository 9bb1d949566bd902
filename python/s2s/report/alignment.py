"""Alignments as text and as a page for the browser; ``plot`` draws them as pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..text.vocab import EOS, JOINER, SPECIALS

TEMPLATE = Path(__file__).with_suffix(".html")


def printable(piece: str) -> str:
    """A token as a person wants to see it: spaces made visible, </s> as a word, no marks of ours."""
    if piece == SPECIALS[EOS]:
        return "end"
    # "▁" is how sentencepiece writes a space.
    return (piece.strip(JOINER) or piece).replace("▁", " ").replace(" ", "␣")


def to_text(translations: Sequence) -> str:
    """Tab-separated tables, an empty line between two: a comment with number, score and output; the source tokens;
    and for each output token its weights (4 decimals), as many as there are source tokens."""
    tables = []
    for number, found in enumerate(translations, 1):
        lines = [f"# {number}\t{found.score:.4f}\t{found.text}", "\t".join(["", *map(printable, found.source_pieces)])]
        for piece, weights in zip(found.target_pieces, found.weights.tolist(), strict=True):
            lines.append("\t".join([printable(piece), *(f"{weight:.4f}" for weight in weights)]))
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def to_html(translations: Sequence) -> str:
    """One page with its style, script and data inside, which needs no network: pointing at a word, or giving it the
    focus, highlights the words of the other language by their attention weights."""
    data = [
        {
            "score": f"{found.score:.2f}",
            "source": list(map(printable, found.source_pieces)),
            "target": list(map(printable, found.target_pieces)),
            "weights": [[round(weight, 4) for weight in row] for row in found.weights.tolist()],
        }
        for found in translations
    ]
    # Within a script element "</script>" and "<!--" would be markup, whatever the quotes around them.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("DATA", text, 1)
