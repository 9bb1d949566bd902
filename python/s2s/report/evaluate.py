"""BLEU and chrF by sacrebleu, and exact match."""

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import S2SError
from ..text.script import script


class Scores(NamedTuple):
    exact_match: float  # share of outputs that equal the reference, 0 to 1
    bleu: float  # 0 to 100
    chrf: float  # 0 to 100
    bleu_signature: str
    chrf_signature: str
    count: int

    def __str__(self) -> str:
        return (
            f"exact match {self.exact_match:.4f} of {self.count}\n"
            f"BLEU {self.bleu:.2f}  {self.bleu_signature}\n"
            f"chrF {self.chrf:.2f}  {self.chrf_signature}"
        )


# Scripts that "13a", WMT's tokenizer, was made for, and those that write no spaces between words.
_WITH_13A = {"LATIN", "CYRILLIC", "GREEK"}
_WITHOUT_SPACES = {"HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}


def tokenizer(texts: Sequence[str]) -> str:
    """The tokenizer of sacrebleu's BLEU for the script of these texts, the one of most of their letters.

    13a knows ASCII's punctuation only: it leaves a danda at its word and breaks "१२.५" in three. "intl" goes by
    Unicode's classes; "zh" and "char" are for scripts without spaces.
    """
    written = script(texts)
    if written in _WITH_13A:
        return "13a"
    return "zh" if written == "CJK" else "char" if written in _WITHOUT_SPACES else "intl"


def score(outputs: Sequence[str], references: Sequence[str]) -> Scores:
    """Scores of the outputs, each against its one reference; BLEU by the ``tokenizer`` of the references' script."""
    from sacrebleu.metrics import BLEU, CHRF

    if len(outputs) != len(references):
        raise S2SError(f"{len(outputs)} outputs but {len(references)} references.")
    if not outputs:
        raise S2SError("there is nothing to score.")
    bleu, chrf = BLEU(tokenize=tokenizer(references)), CHRF()
    exact = sum(output == reference for output, reference in zip(outputs, references, strict=True))
    return Scores(
        exact / len(outputs),
        bleu.corpus_score(outputs, [references]).score,
        chrf.corpus_score(outputs, [references]).score,
        str(bleu.get_signature()),
        str(chrf.get_signature()),
        len(outputs),
    )
