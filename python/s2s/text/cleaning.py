"""What is done to a text before it becomes tokens."""

import re
import string
import unicodedata

PUNCTUATION = str.maketrans("", "", string.punctuation)
# One side each: the seed project takes 0-9 out of its English and only ०-९ out of its Marathi.
DIGITS = {"source": str.maketrans("", "", string.digits), "target": str.maketrans("", "", "०१२३४५६७८९")}

# Spaces of tokenizers, Treebank's among them: before these, after those, and within two quotes.
SPACE_BEFORE = re.compile(r" (?=(?:[,;:%)\]}]|[.!?]+|n't|'(?:s|m|d|re|ve|ll))(?: |$))")
SPACE_AFTER = re.compile(r"(?<=[(\[{$]) ")
QUOTED = re.compile(r'(?<!\S)" ([^"]*) "(?!\w)')


def normalize(text, lowercase=False):
    """NFC, so that one letter has one spelling, with white space squeezed."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.lower() if lowercase else text


def clean(text, mode, side):
    """``"seed"`` and ``"fixed"`` clean as the English to Marathi seed project: lower case, no apostrophes, no digits.

    ``"seed"`` leaves punctuation in, as that project's filter, meant to take it out, has no effect, and so "run",
    "run!" and "run." are three words. ``"fixed"`` takes out all of ASCII's. ``side`` is "source" or "target".

    ``"detokenize"`` is for English that a tokenizer has been at: "i do n't know ." becomes "i don't know.", as people
    type it. ``"none"`` does nothing at all.
    """
    if mode == "none":
        return text
    if mode == "detokenize":
        return QUOTED.sub(r'"\1"', SPACE_AFTER.sub("", SPACE_BEFORE.sub("", text)))
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
