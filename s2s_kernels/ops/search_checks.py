"""What the arguments of a search must be."""

from ..checks import (
    check_choice,
    check_flag,
    check_integer,
    check_lengths,
    check_number,
    check_tuple,
    dims,
    expect,
    optional,
    refuse,
)
from .decoder_checks import check_decoder

ORDERS = ("before", "after")
READOUTS = ("state", "state_context", "state_context_input", "feed")


def tokens(name, value):
    """A tuple of what may be any iterable."""
    try:
        return tuple(value)
    except TypeError:
        raise TypeError(f"{name} is a {type(value).__name__}, expected a sequence of tokens") from None


def check(
    state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, w_output, b_output,
    *, bos, eos, max_length, beam=5, n_best=1, length_penalty=0.0, coverage_penalty=0.0, forbidden=(), limits=None,
    order="before", first_feed=None, w_feed=None, readout="state", w_readout=None, b_readout=None,
    return_weights=False, layers=(), transition=None, feed="tanh", **decoder,
):  # fmt: skip
    """``decoder``: the other parts, lengths, mask and b_feed."""
    if len(state) not in (1, 2):
        raise ValueError(f"state has {len(state)} tensors, expected h0 for a GRU or (h0, c0) for an LSTM")
    check_choice("order", order, ORDERS)
    if readout not in READOUTS:
        raise ValueError(f"readout is {readout!r}, expected one of {', '.join(map(repr, READOUTS))}")
    check_tuple("layers", layers)
    h0, gates = state[0], 2 + len(state)
    lead = dims("h0", h0, "L, B, H" if len(layers) else "B, H")
    (batch, hidden), like = lead[-2:], (h0, "h0")
    inputs, columns = dims("embedding", embedding, "V, I")[1], dims("weight_ih", weight_ih, f"{gates}H, I + F")[1]
    vocab, width = dims("w_output", w_output, "V, R")[0], dims("values", values, "B, S, D", "B, S, N, D")[-1]
    fed = w_feed is not None or columns != inputs or transition is not None
    refuse(
        transition is not None and order == "after",
        "order is 'after' with a transition, expected 'before', the default: it attends between its cells",
    )
    refuse(readout == "feed" and w_feed is None, "readout is 'feed' without w_feed, expected both")
    refuse(readout == "feed" and order == "before", "readout is 'feed' with order 'before', expected order 'after'")
    no_feed = first_feed is not None and columns == inputs and transition is None
    refuse(no_feed, "first_feed is given, but weight_ih has no columns for a feed")
    refuse(
        b_readout is not None and w_readout is None, "b_readout is given without w_readout, expected both or neither"
    )

    x, states = h0.new_empty((batch, 0, inputs)), tuple(zip(("h0", "c0"), state, strict=False))
    check_decoder(
        gates, x, states, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, w_feed=w_feed,
        first_feed=first_feed, layers=layers, transition=transition, feed=feed, fed=fed, x_name="h0", **decoder,
    )  # fmt: skip
    expect("embedding", embedding, "V, I", (max(embedding.shape[0], vocab), inputs), *like)
    context = width * (keys.shape[2] if keys.dim() == 4 else 1)
    features = {
        "state": hidden,
        "state_context": hidden + context,
        "state_context_input": hidden + context + inputs,
        "feed": columns - inputs,
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
