"""Every choice of a search, in one dataclass."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from ..errors import S2SError
from ..model.config import LARGEST_SEED, LONGEST, check_fields, option

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SearchOptions:
    """Every choice of a search. Immutable, and checked when made.

    Raises:
        S2SError: a value of the wrong type or out of its range, or choices that contradict each other.
    """

    beam: int = option(1, "Width of the beam; 1 is greedy search.", 1, 1024)
    ending: Literal["count", "best", "narrow"] = option(
        "count",
        "A beam is done when as many outputs as it is wide have ended, or when none can get better (best: JoeyNMT, "
        "OpenNMT-py), or each that ends narrows it by one (narrow: Marian).",
    )
    length_penalty: float = option(0.0, "Length penalty (Wu et al. 2016): above 0 for longer outputs.", -10, 10)
    coverage_penalty: float = option(0.0, "Coverage penalty (Wu et al. 2016): above 0 to use all of the input.", 0, 10)
    n_best: int = option(1, "Outputs for each input.", 1, 1024)
    max_length: int = option(0, "Most tokens of an output, 0 for as many as in training.", 0, LONGEST)
    max_source_length: int = option(
        0, "Most tokens read of an input, 0 for 1000 or as many as in training, if that is more.", 0, LONGEST
    )
    no_repeat_ngram: int = option(0, "No output has the same so many tokens in a row twice; 0 for no such limit.", 0)
    allow_unknown: bool = option(False, "Let outputs have <unk> in them.")
    quantize: Literal["none", "int8"] = option(
        "none", "Weights of 8 bits, on a CPU; float32 where a search is no single op (s2s train --explain says)."
    )
    sample: bool = option(False, "Draw outputs at random.")
    temperature: float = option(1.0, "Of sampling: above 1 more even, below 1 more like greedy search.", 0, 100)
    top_k: int = option(0, "Sample among the k most probable tokens only, 0 for all.", 0)
    top_p: float = option(1.0, "Sample among the most probable tokens that have this probability together.", 0, 1)
    seed: int = option(1, "Seed of sampling.", 0, LARGEST_SEED)

    def __post_init__(self) -> None:
        check_fields(self)

        def refuse(wrong, message):
            if wrong:
                raise S2SError(message)

        narrow = self.temperature != 1 or self.top_k or self.top_p != 1
        refuse(narrow and not self.sample, "temperature, top_k and top_p need sampling (sample).")
        refuse(self.temperature == 0, "temperature is 0, expected more (greedy search is what it would be).")
        refuse(self.top_p == 0, "top_p is 0, expected more.")
        refuse(self.sample and self.beam > 1, f"sample and a beam of {self.beam} are both asked for, expected one.")
        penalties = self.length_penalty or self.coverage_penalty
        refuse(penalties and self.sample, "length_penalty and coverage_penalty need a beam, but sample is asked for.")
        refuse(
            self.n_best > self.beam and not self.sample,
            f"n_best is {self.n_best} with a beam of {self.beam}, expected at most as many (or sample).",
        )

    def __str__(self) -> str:
        """Its kind and what is not as usual, such as "greedy" or "beam 5, length penalty 1"."""
        set_ = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        shown = {k: v if isinstance(v, str) else f"{v:g}" for k, v in set_.items() if v is not True}
        parts = [f"{k} {shown[k]}" if k in shown else k for k in set_]
        parts = [part.replace("_", " ") for part in parts]
        return ", ".join(parts if self.sample or self.beam > 1 else ["greedy", *parts])

    def generator(self) -> "torch.Generator":
        """The torch.Generator of ``seed``."""
        import torch

        return torch.Generator().manual_seed(self.seed)
