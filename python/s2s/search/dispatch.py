"""Search for outputs: which kind, and by what means."""

from typing import Any

from torch import Tensor

from ..errors import S2SError
from .beam import beam_search
from .fused_search import fused_search, step_reason
from .greedy_search import greedy
from .hypothesis import Hypothesis, need_attention
from .options import SearchOptions
from .sampling import sample, uniform


def search(
    model: Any,
    source: Tensor,
    lengths: Tensor,
    options: SearchOptions,
    random: Tensor | None = None,
    attention: bool = False,
) -> list[list[Hypothesis]]:
    """Up to ``options.n_best`` Hypotheses a row, best first: the one place that decides what runs.

    Args:
        model: has ``start(source, lengths)`` and ``step(tokens, state, memory)``, as Seq2Seq.
        source: (B, S) ids.
        lengths: (B,), how many of them are valid.
        options: what to search for.
        random: (B, n_best, max_length + 1) from ``uniform``, for sampling; None draws it by ``options.seed``.
        attention: whether the Hypotheses get their attention weights.

    Raises:
        S2SError: 8 bits on a GPU, or attention or a coverage penalty asked of a model that has no weights.
    """
    if attention or options.coverage_penalty:
        need_attention(model)
    if options.quantize == "int8" and source.device.type != "cpu":
        raise S2SError(f"quantize is 'int8' on {source.device}, expected the CPU, which has kernels for 8 bits.")
    max_length = options.max_length or model.config.max_length
    common = {
        "no_repeat_ngram": options.no_repeat_ngram,
        "allow_unknown": options.allow_unknown,
        "attention": attention,
    }
    if options.sample:
        if random is None:
            random = uniform(len(source), options.n_best, max_length, options.generator())
        narrow = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        return sample(model, source, lengths, max_length, random, **narrow, **common)
    if step_reason(model, source.device.type, options) is None:
        return fused_search(model, source, lengths, options, max_length, attention)
    if options.beam == 1 and not (options.length_penalty or options.coverage_penalty):
        return [[best] for best in greedy(model, source, lengths, max_length, **common)]
    return beam_search(
        model,
        source,
        lengths,
        max_length,
        options.beam,
        ending=options.ending,
        length_penalty=options.length_penalty,
        coverage_penalty=options.coverage_penalty,
        n_best=options.n_best,
        **common,
    )
