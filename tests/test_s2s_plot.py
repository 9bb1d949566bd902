"""Alignment pictures, with and without a font for the script."""

import pytest
import torch
from matplotlib.image import imread

from s2s import S2SError
from s2s.report.plot import Fonts, label, plot_alignment, spell_out
from s2s.translator import Translation

UNKNOWN = "\U0001f9ff"  # hardly any text font has it


def translation(source, target):
    return Translation("", 0.0, source, target, torch.rand(len(target), len(source)).softmax(-1))


@pytest.mark.filterwarnings("error")  # matplotlib warns of a glyph that it cannot draw
def test_picture(tmp_path):
    found = translation(list("May $5"), [*"मे ५" + UNKNOWN, "</s>"])
    path = plot_alignment(tmp_path / "new" / "a.png", found)
    image = imread(path)
    assert image.shape[0] > 200 and image.shape[1] > 200
    assert len({tuple(pixel) for pixel in image[::7, ::7].reshape(-1, image.shape[2]).tolist()}) > 20


def test_letters_that_no_font_has_are_spelt_out():
    assert [spell_out(c) for c in "म" + "ा" + "्" + "५" + "ж"] == ["ma", "-aa", "-virama", "5", "zhe"]
    assert spell_out("\ue000") == "U+E000"
    assert label("मा", {ord("म"), ord("ा")}) == "ma -aa"
    assert label("▁a") == "␣a" and label(" ") == "␣" and label("</s>") == "end" and label("$") == r"\$"
    assert label("ा") == "◌ा"


def test_fonts():
    fonts = Fonts("abc\ue000")
    assert fonts.missing <= {0xE000}
    assert "DejaVu" in fonts.of("abc").get_name()


@pytest.mark.parametrize("name", ["a.xyz", "file/a.png"])
def test_a_picture_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(S2SError, match="cannot be written"):
        plot_alignment(tmp_path / name, translation(["a"], ["b"]))
