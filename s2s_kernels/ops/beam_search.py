"""Beam search of an attention decoder: all steps in one op."""

import torch

from .. import reference, transforms
from ..checks import (
    check_flag,
    check_integer,
    check_lengths,
    check_mask,
    check_number,
    dims,
    expect,
    floating,
    of_ops,
    optional,
)
from ..reference import SearchOutput
from . import registration

READOUTS = ("state", "state_context", "state_context_input", "feed")


def beam_search(
    state,
    keys,
    values,
    v,
    w_query,
    b_query,
    weight_ih,
    weight_hh,
    bias_ih,
    bias_hh,
    embedding,
    w_output,
    b_output=None,
    *,
    bos,
    eos,
    max_length,
    beam=5,
    n_best=1,
    length_penalty=0.0,
    coverage_penalty=0.0,
    forbidden=(),
    limits=None,
    lengths=None,
    mask=None,
    order="before",
    w_feed=None,
    b_feed=None,
    first_feed=None,
    readout="state",
    w_readout=None,
    b_readout=None,
    return_weights=False,
):
    """The outputs Y of the largest ``log P(Y) / lp(Y) + cp(Y)`` that a beam finds (Wu et al. 2016, equation 14).

    The decoder is that of `attention_gru` and `attention_lstm`, whose step t reads the token y_t (y_0 is ``bos``):

        order "before" (Bahdanau):  c = attend(h);  h' = cell([E y ; c], h)
        order "after" (Luong):      h' = cell([E y ; f], h);  c = attend(h');  f' = c or tanh(W_f [h' ; c] + b_f)
        p(y') = softmax(W_o features + b_o)

    where features is h', [h' ; c], [h' ; c ; E y] or f', and with ``w_readout`` tanh(W_r features + b_r).
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
        w_feed, b_feed: (F, H + N*D) and (F,), with order "after". None: what is fed is the context.
        first_feed: (B, F), the feed of the first step; None: made from the initial state.
        readout: "state", "state_context", "state_context_input" or "feed", which needs w_feed.
        w_readout, b_readout: (R, width of the features) and (R,), or None.
        return_weights: whether attention weights are kept and returned.

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
    weights = (state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    weights += (embedding, w_output, b_output)
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
    check(*weights, **options)
    options |= {name: float(options[name]) for name in ("length_penalty", "coverage_penalty")}
    with torch.no_grad():
        found = registration.run("beam_search", reference.beam_search, keys.device.type, *weights, **options)
    return SearchOutput(*found)


def tokens(name, value):
    """A tuple of what may be any iterable."""
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}, expected a sequence of tokens") from None


def check(
    state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, w_output, b_output,
    *, bos, eos, max_length, beam=5, n_best=1, length_penalty=0.0, coverage_penalty=0.0, forbidden=(), limits=None,
    lengths=None, mask=None, order="before", w_feed=None, b_feed=None, first_feed=None, readout="state",
    w_readout=None, b_readout=None, return_weights=False,
):  # fmt: skip
    if len(state) not in (1, 2):
        raise ValueError(f"state has {len(state)} tensors, expected h0 for a GRU or (h0, c0) for an LSTM")
    if order not in ("before", "after"):
        raise ValueError(f"order is {order!r}, expected 'before' or 'after'")
    if readout not in READOUTS:
        raise ValueError(f"readout is {readout!r}, expected one of {', '.join(map(repr, READOUTS))}")
    h0, gates, like = state[0], 2 + len(state), (state[0], "h0")
    batch, hidden = dims("h0", h0, "B, H")
    floating("h0", h0)
    heads = len(dims("v", v, "A", "N, A")) == 2
    keys_form = "B, S, N, A" if heads else "B, S, A"
    source, width = dims("keys", keys, keys_form)[1], dims("values", values, "B, S, D")[2]
    context, asked = width * (v.shape[0] if heads else 1), v.numel()
    inputs, columns = dims("embedding", embedding, "V, I")[1], dims("weight_ih", weight_ih, f"{gates}H, I + F")[1]
    vocab = dims("w_output", w_output, "V, R")[0]
    feed = context if w_feed is None else dims("w_feed", w_feed, "F, H + N*D")[0]
    if w_feed is None and columns == inputs:
        feed = 0
    if order == "before" and w_feed is not None:
        raise ValueError("w_feed is given with order 'before', expected order 'after'")
    if readout == "feed" and w_feed is None:
        raise ValueError("readout is 'feed' without w_feed, expected both")
    if first_feed is not None and feed == 0:
        raise ValueError("first_feed is given, but weight_ih has no columns for a feed")
    for layer in ("feed", "readout"):
        weight, bias = (w_feed, b_feed) if layer == "feed" else (w_readout, b_readout)
        if bias is not None and weight is None:
            raise ValueError(f"b_{layer} is given without w_{layer}, expected both or neither")

    for name, x in zip(("h0", "c0"), state, strict=False):
        expect(name, x, "B, H", (batch, hidden), *like)
    expect("keys", keys, keys_form, (batch, source, *v.shape), *like)
    expect("values", values, "B, S, D", (batch, source, width), *like)
    expect("v", v, "N, A" if heads else "A", tuple(v.shape), *like)
    expect("w_query", w_query, "N*A, H", (asked, hidden), *like)
    optional("b_query", b_query, "N*A", (asked,), *like)
    expect("weight_ih", weight_ih, f"{gates}H, I + F", (gates * hidden, inputs + feed), *like)
    expect("weight_hh", weight_hh, f"{gates}H, H", (gates * hidden, hidden), *like)
    optional("bias_ih", bias_ih, f"{gates}H", (gates * hidden,), *like)
    optional("bias_hh", bias_hh, f"{gates}H", (gates * hidden,), *like)
    expect("embedding", embedding, "V, I", (max(embedding.shape[0], vocab), inputs), *like)
    optional("w_feed", w_feed, "F, H + N*D", (feed, hidden + context), *like)
    optional("b_feed", b_feed, "F", (feed,), *like)
    optional("first_feed", first_feed, "B, F", (batch, feed), *like)
    features = {
        "state": hidden,
        "state_context": hidden + context,
        "state_context_input": hidden + context + inputs,
        "feed": feed,
    }[readout]
    if w_readout is not None:
        expect("w_readout", w_readout, "R, features", (dims("w_readout", w_readout, "R, features")[0], features), *like)
        features = w_readout.shape[0]
    optional("b_readout", b_readout, "R", (features,), *like)
    expect("w_output", w_output, "V, R", (vocab, features), *like)
    optional("b_output", b_output, "V", (vocab,), *like)

    check_integer("bos", bos, 0, embedding.shape[0] - 1)
    check_integer("eos", eos, 0, vocab - 1)
    for token in forbidden:
        check_integer("forbidden", token, 0, vocab - 1)
    check_integer("max_length", max_length, 0)
    check_integer("beam", beam, 1)
    check_integer("n_best", n_best, 1, beam)
    if batch * beam * (max_length + 1) >= 2**31:  # rows and paths are counted in 32 bits
        expected = "expected B * beam * (max_length + 1) below 2^31"
        raise ValueError(f"beam is {beam} and max_length is {max_length}, {expected}")
    check_number("length_penalty", length_penalty)
    check_number("coverage_penalty", coverage_penalty, 0)
    check_flag("return_weights", return_weights)
    check_lengths(limits, batch, max_length, h0, "max_length", "limits")
    check_lengths(lengths, batch, source, h0, "S")
    check_mask(mask, batch, source, h0)


of_ops["beam_search"] = check


@registration.fake("beam_search")
def _(*weights, max_length, n_best=1, return_weights=False, **options):
    check(*weights, max_length=max_length, n_best=n_best, return_weights=return_weights, **options)
    keys = weights[1]
    found, steps = (keys.shape[0], n_best), max_length + 1
    wide = torch.float64 if keys.dtype == torch.float64 else torch.float32
    return (
        keys.new_empty((*found, steps), dtype=torch.int64),
        keys.new_empty(found, dtype=torch.int64),
        keys.new_empty(found, dtype=wide),
        keys.new_empty((*found, steps, keys.shape[1]) if return_weights else 0, dtype=wide),
    )


registration.autocast("beam_search")
