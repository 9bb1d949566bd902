"""Greedy search of an attention decoder: all steps in one op, that of `beam_search` with a beam of one."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..reference import SearchOutput
from .beam_search import beam_search


def greedy_search(
    *decoder: Tensor | Sequence[Tensor] | None,
    bos: int,
    eos: int,
    max_length: int,
    forbidden: Sequence[int] = (),
    limits: Tensor | None = None,
    return_weights: bool = False,
    **options: Any,
) -> SearchOutput:
    """The most probable token at every step, of equally probable ones the lowest; a row ends with ``eos``.

    A row that comes to where no token has a probability above 0 (of NaN none has) has no output: nothing but ``eos``,
    and a score of -inf.

    Args:
        decoder, options: the arguments of `beam_search` up to ``b_output``, and those from ``lengths`` on.
        bos, eos, max_length, forbidden, limits, return_weights: as in `beam_search`.

    Returns:
        ``SearchOutput`` without the dimension of the n best: ids (B, max_length + 1) int64, filled with ``eos``;
        lengths (B,), tokens before ``eos``; scores (B,), the log probability of the tokens and ``eos``; weights
        (B, max_length + 1, S), zero past a row's end, or empty.

    Raises:
        ValueError, TypeError: as `beam_search`.
    """
    for name in ("beam", "n_best", "length_penalty", "coverage_penalty"):
        if name in options:
            raise TypeError(f"{name} is given, but greedy search has no such argument")
    search: dict[str, Any] = {"forbidden": forbidden, "limits": limits, "return_weights": return_weights}
    found = beam_search(*decoder, bos=bos, eos=eos, max_length=max_length, beam=1, **search, **options)
    ids, lengths, scores, weights = found
    return SearchOutput(ids[:, 0], lengths[:, 0], scores[:, 0], weights[:, 0] if return_weights else weights)
