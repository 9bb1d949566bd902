"""Beam search of an attention decoder: all steps in one op."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .. import reference, transforms
from ..checks import of_ops, refuse
from ..quantize import QuantizedWeights
from ..reference import SearchOutput
from . import decoder_search, registration
from .search_checks import check, tokens
from .shortlist import shortened, tokens_of


def beam_search(
    state: Tensor | Sequence[Tensor],
    keys: Tensor,
    values: Tensor,
    v: Tensor | None,
    w_query: Tensor | None,
    b_query: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    embedding: Tensor,
    w_output: Tensor,
    b_output: Tensor | None = None,
    *,
    bos: int,
    eos: int,
    max_length: int,
    beam: int = 5,
    n_best: int = 1,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    forbidden: Sequence[int] = (),
    limits: Tensor | None = None,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    order: Literal["before", "after"] = "before",
    w_feed: Tensor | None = None,
    b_feed: Tensor | None = None,
    first_feed: Tensor | None = None,
    readout: Literal["state", "state_context", "state_context_input", "feed"] = "state",
    w_readout: Tensor | None = None,
    b_readout: Tensor | None = None,
    return_weights: bool = False,
    layers: Sequence[Sequence[Tensor | None]] = (),
    transition: Sequence[Tensor | None] | None = None,
    query: Literal["h", "c_h"] = "h",
    score: Literal["additive", "dot"] = "additive",
    scale: float = 1.0,
    b_score: Tensor | None = None,
    normalization: Literal["softmax", "sigmoid", "forward"] = "softmax",
    w_location: Tensor | None = None,
    w_dense: Tensor | None = None,
    location: Literal["previous", "cumulative", "both"] = "previous",
    first_weights: Tensor | None = None,
    feed: Literal["tanh", "linear", "gate"] = "tanh",
    weights: Literal["int8"] | QuantizedWeights | None = None,
    shortlist: Tensor | None = None,
) -> SearchOutput:
    """The outputs Y of the largest ``log P(Y) / lp(Y) + cp(Y)`` that a beam finds (Wu et al. 2016, equation 14).

    The decoder is that of `attention_gru` and `attention_lstm`, whose step t reads the token y_t (y_0 is ``bos``):

        order "before" (Bahdanau):  c = attend(h);  f = feed(h, c);  h' = cell([E y ; f], h)
        order "after" (Luong):      h' = cell([E y ; f], h);  c = attend(h');  f' = feed(h', c)
        with a transition:          u = cell(E y, h);  c = attend(u);  h' = cell'(feed(u, c), u)
        p(y') = softmax(W_o features + b_o)

    where feed(h, c) is c or tanh(W_f [h ; c] + b_f), features are h', [h' ; c], [h' ; c ; E y] or f', and with
    ``w_readout`` tanh(W_r features + b_r).
    ``lp = ((5 + |Y|) / 6)^length_penalty``, ``cp = coverage_penalty * sum_s log(min(sum_t weights_ts, 1))``; |Y|
    counts ``eos``, and a position that was never looked at counts as the smallest float32.

    Every step extends each of K prefixes by every token and keeps the most probable K that do not end; those among
    the best K that end are finished. A row is done, and costs nothing any more, when K outputs have finished or when
    no prefix can come to beat the last of its best ``n_best``. Of equal candidates the one of the better prefix comes
    first, then that of the larger logit, then the lower token.

    A candidate or an output whose score is NaN or -inf is none, so NaN and infinite weights break nothing: a NaN or
    +inf among a prefix's logits ends that prefix, a logit of -inf rules out its token, and a row that has no candidate
    left finds no more outputs.

    Args:
        state: h0 (B, H) for a GRU, the pair (h0, c0) for an LSTM.
        keys: (B, S, A), already projected; values: (B, S, D); v: (A,); with N heads as in `attention_gru`.
        w_query, b_query: (N*A, H), and (N*A,) or None.
        weight_ih: (3H, I + F) or for an LSTM (4H, I + F), columns [embedding | feed]; F = 0: the cell is fed nothing.
        weight_hh: (3H, H) or (4H, H); bias_ih, bias_hh: (3H,) or (4H,), or None.
        embedding: (V, I) or larger, a row a token; w_output, b_output: (V, R), and (V,) or None.
        bos, eos: tokens. max_length: most tokens before ``eos``; after as many only ``eos`` can follow.
        beam: K. n_best: outputs a row, at most K.
        forbidden: tokens that are never an output, such as padding. They keep their part of the probability.
        limits: (B,) integers from 0 to max_length, a max_length for each row.
        lengths: (B,) integers, valid source positions; mask: (B, S) bool, True = may be attended.
        order: "before" or "after".
        w_feed, b_feed: (F, H + N*D) and (F,). None: what is fed is the context.
        first_feed: (B, F), the feed of the first step; None: made from the initial state.
        readout: "state", "state_context", "state_context_input" or, with order "after" and w_feed, "feed".
        w_readout, b_readout: (R, width of the features) and (R,), or None.
        return_weights: whether attention weights are kept and returned.
        weights: "int8": the products with w_query, weight_ih, weight_hh, w_feed, w_readout, w_output and the matrices
            of ``layers`` and ``transition`` are in 8 bits (docs/ops.md), on the CPU. What `s2s_kernels.quantize` made
            of them: the same, without making them again; the matrices then say only their shapes.
        shortlist: (K,) int64 or int32, in ascending order, ``eos`` among them: the tokens that a batch's outputs
            may be made of. What is found is what a search finds whose other logits are -inf, but only these are
            computed. Read on the host, so not under ``torch.compile(fullgraph=True)``.

    All other arguments are the parts of docs/ops.md, with their shapes, from ``layers`` (states are then (L, B, H)) to
    ``feed``; also values (B, S, N, D) of heads. Searches with parts are fused on the CPU; on cuda and Triton they run
    step by step in PyTorch, as the reference does.

    Returns:
        ``SearchOutput``: ids (B, n_best, max_length + 1) int64, filled with ``eos``; lengths (B, n_best), tokens
        before ``eos``; scores (B, n_best), best first, -inf where fewer outputs were found; weights
        (B, n_best, max_length + 1, S), where each token and ``eos`` looked, the mean over the heads, or empty.
        Scores and weights are float64 for float64, else float32.

    float32, float64, bfloat16 or float16, all arguments the same. On the CPU states and sums are float32 (float64)
    whatever the weights are; bfloat16 weights are read as they are by small batches, which halves the memory traffic
    that bounds them. On cuda and Triton products take and give 16 bits, states and probabilities are float32, and no
    step waits for the host; all but the first are replays of a CUDA graph, which S2S_CUDA_GRAPH=0 does without. They
    have not run on a GPU yet. Not differentiable.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    if transforms.at_work():
        raise RuntimeError(
            "a search has no derivative and no batching rule: expected it outside of torch.func and forward-mode "
            "differentiation"
        )
    state = tuple(state) if isinstance(state, (tuple, list)) else (state,)
    decoder = (state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    decoder += (embedding, w_output, b_output)
    options = {
        "bos": bos,
        "eos": eos,
        "max_length": max_length,
        "beam": beam,
        "n_best": n_best,
        "length_penalty": length_penalty,
        "coverage_penalty": coverage_penalty,
        "forbidden": tokens("forbidden", forbidden),
        "limits": limits,
        "lengths": lengths,
        "mask": mask,
        "order": order,
        "w_feed": w_feed,
        "b_feed": b_feed,
        "first_feed": first_feed,
        "readout": readout,
        "w_readout": w_readout,
        "b_readout": b_readout,
        "return_weights": return_weights,
    }
    parts = (
        layers, transition, query, score, scale, b_score, normalization, w_location, w_dense, location, first_weights,
        feed,
    )  # fmt: skip
    plain = parts == decoder_search.PLAIN and scale is not True and getattr(values, "ndim", 3) != 4
    plain = plain and (w_feed is None or order != "before") and weights is None
    if not plain:
        options |= zip(decoder_search.PARTS, parts, strict=True)
    check(*decoder, **options)
    options |= {name: float(options[name]) for name in ("length_penalty", "coverage_penalty")}
    with torch.no_grad():
        matrices = {"w_query": w_query, "weight_ih": weight_ih, "weight_hh": weight_hh, "w_feed": w_feed}
        matrices |= {"w_readout": w_readout, "w_output": w_output, "layers": layers, "transition": transition}
        packed = None
        if isinstance(weights, QuantizedWeights) or (weights is not None and shortlist is None):
            packed = decoder_search.in_8_bits(weights, keys, **matrices)
        if shortlist is not None:
            among = tokens_of(shortlist, w_output.shape[0], eos, keys)
            *outputs, options = shortened(shortlist, among, embedding, w_output, b_output, options)
            decoder = (*decoder[:-3], *outputs)
            if packed is not None:
                packed = packed.with_outputs(shortlist)
            elif weights is not None:
                packed = decoder_search.in_8_bits(weights, keys, **matrices | {"w_output": outputs[1]})
        if plain:
            found = registration.run("beam_search", reference.beam_search, keys.device.type, *decoder, **options)
        else:
            found = decoder_search.search(*decoder, packed=packed, **options)
        ids, *rest = found
        return SearchOutput(ids if shortlist is None else shortlist.long()[ids], *rest)


def check_plain(*weights, order="before", w_feed=None, **options):
    """What this op has no arguments for, `decoder_search` has."""
    check(*weights, order=order, w_feed=w_feed, **options)
    refuse(order == "before" and w_feed is not None, "w_feed is given with order 'before', expected order 'after'")
    refuse(weights[2].dim() == 4, "values has a dimension of heads, expected (B, S, D)")


of_ops["beam_search"] = check_plain


@registration.fake("beam_search")
def _(*weights, **options):
    check_plain(*weights, **options)
    return decoder_search.empty_outputs(weights[1], **options)


registration.autocast("beam_search")
