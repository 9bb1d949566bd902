"""What is done to a text before it becomes tokens."""

import string
import unicodedata

PUNCTUATION = str.maketrans("", "", string.punctuation)
# One side each: the seed project takes 0-9 out of its English and only ०-९ out of its Marathi.
DIGITS = {"source": str.maketrans("", "", string.digits), "target": str.maketrans("", "", "०१२३४५६७८९")}


def normalize(text, lowercase=False):
    """NFC, so that one letter has one spelling, with white space squeezed."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.lower() if lowercase else text


def clean(text, mode, side):
    """The cleaning of the English to Marathi seed project: lower case, no apostrophes, no punctuation, no digits.

    ``mode="seed"`` leaves punctuation in, as that project's filter, meant to take it out, has no effect, and so
    "run", "run!" and "run." are three words. ``"fixed"`` takes out all of ASCII's; ``"none"`` does nothing at all.
    ``side`` is "source" or "target".
    """
    if mode == "none":
        return text
    text = text.lower().replace("'", "")
    if mode == "fixed":
        text = text.translate(PUNCTUATION)
    return " ".join(text.translate(DIGITS[side]).split())


def source_text(text, config):
    """A source as a model of this Config reads it."""
    return clean(normalize(text, config.lowercase), config.cleaning, "source")


def target_text(text, config):
    """A target as a model of this Config writes it."""
    return clean(normalize(text), config.cleaning, "target")
