"""BLEU and chrF by sacrebleu, and exact match."""

from collections.abc import Sequence
from typing import NamedTuple

from .errors import S2SError


class Scores(NamedTuple):
    exact_match: float  # share of outputs that equal the reference, 0 to 1
    bleu: float  # 0 to 100
    chrf: float  # 0 to 100
    bleu_signature: str
    chrf_signature: str
    count: int

    def __str__(self):
        return (
            f"exact match {self.exact_match:.4f} of {self.count}\n"
            f"BLEU {self.bleu:.2f}  {self.bleu_signature}\n"
            f"chrF {self.chrf:.2f}  {self.chrf_signature}"
        )


def score(outputs: Sequence[str], references: Sequence[str]) -> Scores:
    """Scores of the outputs, each against its one reference."""
    from sacrebleu.metrics import BLEU, CHRF

    if len(outputs) != len(references):
        raise S2SError(f"{len(outputs)} outputs but {len(references)} references.")
    if not outputs:
        raise S2SError("there is nothing to score.")
    bleu, chrf = BLEU(), CHRF()
    exact = sum(output == reference for output, reference in zip(outputs, references, strict=True))
    return Scores(
        exact / len(outputs),
        bleu.corpus_score(outputs, [references]).score,
        chrf.corpus_score(outputs, [references]).score,
        str(bleu.get_signature()),
        str(chrf.get_signature()),
        len(outputs),
    )
