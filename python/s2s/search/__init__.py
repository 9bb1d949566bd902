"""Search for outputs: greedy, sampling and beam, step by step or as one op."""

from typing import TYPE_CHECKING

from ..lazy import names_from

if TYPE_CHECKING:
    from .beam import beam_search
    from .dispatch import search
    from .greedy_search import greedy
    from .hypothesis import Hypothesis
    from .options import SearchOptions
    from .sampling import sample, uniform
else:
    __getattr__ = names_from(
        __name__,
        {
            "Hypothesis": "hypothesis",
            "SearchOptions": "options",
            "beam_search": "beam",
            "greedy": "greedy_search",
            "sample": "sampling",
            "search": "dispatch",
            "uniform": "sampling",
        },
    )

__all__ = ["Hypothesis", "SearchOptions", "beam_search", "greedy", "sample", "search", "uniform"]
