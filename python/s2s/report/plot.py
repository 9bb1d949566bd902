"""Alignment heat maps."""

import io
import unicodedata
import warnings
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import S2SError
from ..files import AnyPath, write_output
from .alignment import printable

DEFAULT_FONT = "DejaVu Sans"  # comes with matplotlib


@lru_cache
def characters_of(path: AnyPath) -> frozenset[int]:
    """The code points that a font file has."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


class Fonts:
    """Which installed font draws what: matplotlib's own where it can, else those that cover the most."""

    def __init__(self, text: str) -> None:
        from matplotlib import font_manager

        self.paths = [font_manager.findfont(DEFAULT_FONT)]
        self.missing = {ord(c) for c in text if not c.isspace()} - characters_of(self.paths[0])
        fonts = sorted(
            (font.name, font.fname)
            for font in font_manager.fontManager.ttflist
            if font.style == "normal" and font.weight in (400, "normal") and "Last Resort" not in font.name
        )
        while self.missing and fonts:
            _, path = max(fonts, key=lambda font: len(self.missing & characters_of(font[1])))
            if not self.missing & characters_of(path):
                break
            self.paths.append(path)
            self.missing -= characters_of(path)

    def of(self, text: str) -> Any:
        """FontProperties for one label, all of it in one font: marks join letters only within a font."""
        from matplotlib.font_manager import FontProperties

        path = max(self.paths, key=lambda path: len({ord(c) for c in text} & characters_of(path)))
        return FontProperties(fname=path)


def spell_out(character: str) -> str:
    """A character that no font can draw: a digit's value, a letter's Unicode name, or a code point."""
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    name = unicodedata.name(character, "")
    for word in ("LETTER ", "VOWEL SIGN ", "SIGN "):
        if word in name:
            hyphen = "-" if unicodedata.category(character)[0] == "M" else ""  # it joins the letter before it
            return hyphen + name.split(word, 1)[1].lower()
    return f"U+{ord(character):04X}"


def label(piece: str, missing: Collection[str] = frozenset()) -> str:
    """What stands beside the heat map for one token; ``missing`` are the code points that no font has."""
    piece = printable(piece).replace("$", r"\$")  # which starts mathematics in matplotlib
    if any(ord(c) in missing for c in piece):
        return " ".join(spell_out(c) if ord(c) in missing else c for c in piece)
    # A combining mark needs something to sit on.
    return "◌" + piece if unicodedata.category(piece[0])[0] == "M" else piece


def plot_alignment(path: AnyPath, translation: Any, source: str = "source", target: str = "target") -> Path:
    """Writes the heat map of a Translation as a picture; its format is that of the path's ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    weights = translation.weights.float().numpy()
    rows, columns = weights.shape
    fonts = Fonts("".join(map(printable, translation.source_pieces + translation.target_pieces)))
    x_labels = [label(piece, fonts.missing) for piece in translation.source_pieces]
    y_labels = [label(piece, fonts.missing) for piece in translation.target_pieces]
    longest = max(map(len, x_labels))
    figure = Figure(figsize=(max(4.5, 0.3 * columns + 2.2), max(3.0, 0.3 * rows + 1.6)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.add_subplot()
    # The scale ends with the data: attention that is spread over many words would else be one dark field.
    image = axes.imshow(weights, cmap="viridis", vmin=0, vmax=max(float(weights.max()), 1e-3), aspect="equal")
    axes.set_xticks(range(columns), x_labels, rotation=90 if longest > 2 else 0)
    axes.set_yticks(range(rows), y_labels)
    for tick in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        tick.set_font_properties(fonts.of(tick.get_text()))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0)
    axes.set_xticks([i - 0.5 for i in range(1, columns)], minor=True)
    axes.set_yticks([i - 0.5 for i in range(1, rows)], minor=True)
    axes.grid(which="minor", color="white", linewidth=0.3, alpha=0.4)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel(source)
    axes.set_ylabel(target)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.03, format=PercentFormatter(1, decimals=None))
    bar.set_label("attention weight")
    bar.outline.set_visible(False)
    if fonts.missing:
        note = "letters that no installed font has are spelt by their Unicode names"
        figure.supxlabel(note, fontsize="small", color="gray")
    path, picture = Path(path), io.BytesIO()
    try:
        with warnings.catch_warnings():
            # matplotlib before 3.11 takes a line's height from "lp" in the label's font, and warns where that lacks
            # these letters, though they are not drawn.
            warnings.filterwarnings("ignore", r"Glyph (108|112) ")
            figure.savefig(picture, format=path.suffix[1:].lower() or "png", dpi=150)
    except ValueError as error:
        raise S2SError(f"{path} cannot be written ({str(error).splitlines()[0]}).") from None
    write_output(path, picture.getvalue())
    return path
