"""What the arguments of an attention decoder must be: of the plain one, and of every part that docs/ops.md names."""

from ..checks import (
    check_choice,
    check_flag,
    check_lengths,
    check_mask,
    check_number,
    check_tuple,
    dims,
    expect,
    optional,
    refuse,
)
from .recurrence import check_cell

QUERIES, SCORES = ("h", "c_h"), ("additive", "dot")
NORMALIZATIONS, FEEDS = ("softmax", "sigmoid", "forward"), ("tanh", "linear", "gate")
CELL = "(weight_ih, weight_hh, bias_ih, bias_hh)"
CARRIED = ("drop_h", "drop_c", "zone_h", "zone_c")
LOCATIONS = {"previous": 1, "cumulative": 1, "both": 2}  # and the channels of their histories


def check_decoder(
    gates, x, states, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
    *, lengths=None, mask=None, w_feed=None, b_feed=None, first_feed=None, layers=(), transition=None, query="h",
    score="additive", scale=1.0, b_score=None, normalization="softmax", w_location=None, w_dense=None,
    location="previous", first_weights=None, detach_location=False, feed="tanh", fed=True, x_name="x", **masks,
):  # fmt: skip
    """``states`` are the named tensors (B, H), with layers (L, B, H), of a cell with ``gates`` gates; ``masks`` the
    factors of dropout and zoneout by name. A search has no ``x``: it makes one like the tensor called ``x_name``, and
    its cell may be fed nothing (``fed``)."""
    check_choices(gates, query, score, scale, normalization, location, detach_location, feed)
    check_tuple("layers", layers)
    if transition is not None:
        check_tuple("transition", transition, 4, CELL)
    batch, steps = dims("x", x, "B, T, I")[:2]
    hidden = dims(*states[0], "L, B, H" if len(layers) else "B, H")[-1]
    if score == "dot":
        refuse(v is not None, "v is given with score 'dot', expected None")
        tail = tuple(dims("keys", keys, "B, S, A", "B, S, N, A")[2:])
    else:
        tail = tuple(dims("v", v, "A", "N, A"))
    heads, n = tail[:-1], tail[0] if len(tail) == 2 else 1
    keys_form = "B, S, N, A" if heads else "B, S, A"
    source = dims("keys", keys, keys_form)[1]
    own = len(dims("values", values, "B, S, D", *["B, S, N, D"] * len(heads))) == 4
    width, like = values.shape[-1], (x, x_name)
    context, queries, asked = n * width, n * tail[-1], hidden * (2 if query == "c_h" else 1)
    feed_form = "N * D, H" if feed == "gate" else "F, H + N * D" if heads else "F, H + D"
    made = context if w_feed is None or feed == "gate" else dims("w_feed", w_feed, feed_form)[0]
    fed = made if fed else 0
    attended = hidden if feed == "gate" else hidden + context

    below = fed if transition is None else 0
    check_cell(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh, below, len(layers), x_name)
    for i, layer in enumerate(layers):
        check_layer(gates, f"layers[{i}]", layer, hidden, hidden, "H", *like)
    if transition is not None:
        check_layer(gates, "transition", transition, hidden, fed, "F", *like)
        refuse(len(layers), f"transition is given with {len(layers)} layers above, expected none")
        refuse(first_feed is not None, "first_feed is given with a transition, expected None: no feed comes before it")
    expect("keys", keys, keys_form, (batch, source, *tail), *like)
    expect("values", values, "B, S, N, D" if own else "B, S, D", (batch, source, *heads * own, width), *like)
    optional("v", v, "N, A" if heads else "A", tail, *like)
    if w_query is not None or score == "additive":
        of_state = "2H" if query == "c_h" else "H"
        expect("w_query", w_query, f"N * A, {of_state}" if heads else f"A, {of_state}", (queries, asked), *like)
    else:
        refuse(b_query is not None, "b_query is given without w_query, expected both or neither")
        expected = f"{'N * A' if heads else 'A'} = {asked}: without w_query the query is the state"
        refuse(queries != asked, f"keys has shape {tuple(keys.shape)}, expected ({keys_form}) with {expected}")
    optional("b_query", b_query, "N * A" if heads else "A", (queries,), *like)
    optional("w_feed", w_feed, feed_form, (fed, attended), *like)
    refuse(b_feed is not None and w_feed is None, "b_feed is given without w_feed, expected both or neither")
    refuse(feed != "tanh" and w_feed is None, f"feed is {feed!r} without w_feed, expected both")
    optional("b_feed", b_feed, "F", (fed,), *like)
    optional("first_feed", first_feed, "B, F", (batch, fed), *like)
    optional("b_score", b_score, "N" if heads else "1", (n,), *like)
    refuse(normalization == "forward" and heads, "normalization is 'forward' with heads, expected one head")
    check_location(
        w_location, w_dense, location, first_weights, detach_location, score, heads, batch, source, tail[-1], like
    )

    masks = {name: factors for name, factors in masks.items() if factors is not None}
    for name in masks if transition is not None else ():
        refuse(name in CARRIED, f"{name} is given with a transition, expected None: neither cell has it")
    if masks:
        wide = (asked, feed_form.split(", ")[1], attended, fed)
        check_masks(
            gates, masks, (batch, steps, hidden), (*heads, source), *wide, len(layers), w_feed is not None, like
        )
    check_lengths(lengths, batch, source, x, "S")
    check_mask(mask, batch, source, x)


def check_masks(gates, masks, sizes, weights, asked, attended_form, attended, fed, above, has_feed, like):
    batch, steps, hidden = sizes
    layered, of_layers = ("L, ", (1 + above,)) if above else ("", ())
    carried = f"{layered}B, T, H", (*of_layers, batch, steps, hidden)
    shapes = {
        "drop_query": ("B, T + 1, 2H" if asked > hidden else "B, T + 1, H", (batch, steps + 1, asked)),
        "drop_weights": ("B, T + 1, N, S" if len(weights) == 2 else "B, T + 1, S", (batch, steps + 1, *weights)),
        "drop_attended": (f"B, T + 1, {attended_form}", (batch, steps + 1, attended)),
        "drop_fed": ("B, T, F", (batch, steps, fed)),
        "drop_layers": ("L - 1, B, T, H", (above, batch, steps, hidden)),
        **dict.fromkeys(CARRIED, carried),
    }
    needed = {"drop_attended": ("w_feed", has_feed), "drop_layers": ("layers", above > 0)}
    for name, factors in masks.items():
        refuse(gates == 3 and name.endswith("_c"), f"{name} is given to a GRU, expected None: only an LSTM has a c")
        what, there = needed.get(name, ("", True))
        refuse(not there, f"{name} is given without {what}, expected both or neither")
        expect(name, factors, *shapes[name], *like)
        refuse(factors.requires_grad, f"{name} requires a gradient, expected a tensor that does not: masks have none")


def check_choices(gates, query, score, scale, normalization, location, detach_location, feed):
    check_choice("query", query, QUERIES)
    check_choice("score", score, SCORES)
    check_choice("normalization", normalization, NORMALIZATIONS)
    check_choice("location", location, LOCATIONS)
    check_choice("feed", feed, FEEDS)
    check_number("scale", scale)
    check_flag("detach_location", detach_location)
    refuse(gates == 3 and query == "c_h", "query is 'c_h' for a GRU, expected 'h': only an LSTM has a c")


def check_layer(gates, name, layer, hidden, inputs, form, *like):
    """A cell above the first, over so many ``inputs``, spelt ``form``."""
    check_tuple(name, layer, 4, CELL)
    names, wide = [f"{name}[{i}]" for i in range(4)], gates * hidden
    for i, (columns, size) in enumerate(((form, inputs), ("H", hidden))):
        expect(names[i], layer[i], f"{gates}H, {columns}", (wide, size), *like)
        optional(names[i + 2], layer[i + 2], f"{gates}H", (wide,), *like)


def check_location(
    w_location, w_dense, location, first_weights, detached, score, heads, batch, source, attention, like
):
    if w_location is None:
        refuse(location != "previous", f"location is {location!r} without w_location, expected both")
        refuse(first_weights is not None, "first_weights is given without w_location, expected both or neither")
        refuse(detached, "detach_location is True without w_location, expected both")
        refuse(w_dense is not None, "w_dense is given without w_location, expected both")
        return
    refuse(score == "dot", "w_location is given with score 'dot', expected score 'additive'")
    refuse(heads, "w_location is given with heads, expected one head")
    form, filters = ("A, C, K", attention) if w_dense is None else ("F, C, K", dims("w_dense", w_dense, "A, F")[1])
    size = dims("w_location", w_location, form)[2]
    expected = f"expected ({form}) = ({filters}, {LOCATIONS[location]}, odd)"
    refuse(size % 2 == 0, f"w_location has shape {tuple(w_location.shape)}, {expected}")
    expect("w_location", w_location, form, (filters, LOCATIONS[location], size), *like)
    optional("w_dense", w_dense, "A, F", (attention, filters), *like)
    refuse(filters == 0 and attention > 0, "w_dense has no columns, expected one for each filter of w_location")
    optional("first_weights", first_weights, "B, S", (batch, source), *like)
