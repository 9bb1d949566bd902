"""Which script a text is written in."""

import unicodedata
from collections import Counter
from collections.abc import Sequence


def script(texts: Sequence[str]) -> str:
    """The script of most of their letters, in Unicode's names; LATIN where there is none."""
    scripts = Counter()
    for character, count in Counter("".join(texts)).items():
        if unicodedata.category(character)[0] in "LM":  # vowel signs are marks
            scripts[unicodedata.name(character, "LATIN").partition(" ")[0]] += count
    if scripts["HIRAGANA"] + scripts["KATAKANA"]:  # Japanese, though most of its letters may be Chinese
        return "HIRAGANA"
    return max(scripts, key=scripts.get, default="LATIN")
