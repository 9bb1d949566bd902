"""The op behind `attention_gru` and `attention_lstm` with parts: one for both cells and all that docs/ops.md names.

It takes its tensors as a list in the order of INPUTS, then four for each layer above the first or for the transition,
and its choices as a list of integers. ``scale`` never comes to it: that is multiplied into what makes the scores.
"""

import torch

from .. import transforms
from ..backend import NAMES, resolve
from ..checks import of_ops, refuse
from ..reference.decoder import run_decoder
from ..reference.gru import step as gru_step
from ..reference.lstm import step as lstm_step
from . import registration
from .decoder_checks import FEEDS, LOCATIONS, NORMALIZATIONS, QUERIES, SCORES, check_decoder
from .recurrence import pair, register_halves, rounded, saved_like

NAME = "attention_decoder"
SOURCE_AND_CELL = ("keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
MASKS = ("drop_query", "drop_weights", "drop_attended", "drop_fed", "drop_layers", "drop_h", "drop_c")
MASKS += ("zone_h", "zone_c")
# The public parts and what they are when not given, as both functions list them.
PARTS = {
    "layers": (),
    "transition": None,
    "query": "h",
    "score": "additive",
    "scale": 1.0,
    "b_score": None,
    "normalization": "softmax",
    "w_location": None,
    "w_dense": None,
    "location": "previous",
    "first_weights": None,
    "detach_location": False,
    "feed": "tanh",
    **dict.fromkeys(MASKS),
}
PLAIN = tuple(PARTS.values())
DIFFERENTIABLE = ("w_feed", "b_feed", "first_feed", "b_score", "w_location", "first_weights")
INPUTS = ("x", "h0", "c0", *SOURCE_AND_CELL, *DIFFERENTIABLE, *MASKS, "w_dense")
CHOICES = {
    "query": QUERIES,
    "score": SCORES,
    "normalization": NORMALIZATIONS,
    "location": tuple(LOCATIONS),
    "detach_location": (False, True),
    "feed": FEEDS,
    "transition": (False, True),  # whether the four weights after INPUTS are those, and no layer's
}
STEPS = {3: gru_step, 4: lstm_step}
# Backends that run it. Until the compiled extension has it for the CPU, the reference does.
_compiled = torch._C._dispatch_has_kernel_for_dispatch_key(f"s2s_kernels::{NAME}_forward", "CPU")
BACKENDS = tuple(name for name in NAMES if name != "cpp" or _compiled)
# Device types on which no kernel runs the op, but others one after another: s2s_kernels/triton/attention_decoder.py.
COMPOSED = {"cuda"}


def decode(op, x, state, *source_and_cell, parts, **options):
    """The outputs as the op has them: states, contexts, weights, feeds (empty without w_feed), h_n and c_n (empty for
    a GRU). ``parts`` are in PLAIN's order."""
    gates = 4 if op == "attention_lstm" else 3
    states = tuple(pair("state", state)) if gates == 4 else (state,)
    named = tuple(zip(("h0", "c0"), states))
    given = options | dict(zip(PARTS, parts, strict=True))
    check_decoder(gates, x, named, *source_and_cell, **given)
    lengths, mask = given.pop("lengths"), given.pop("mask")
    inputs, form = pack(x, states, given | dict(zip(SOURCE_AND_CELL, source_and_cell, strict=True)))
    if transforms.at_work():
        return registration.run_transformed(op, run, x.device.type, inputs, lengths, mask, form)
    return registration.run(NAME, run, x.device.type, inputs, lengths, mask, form, kernels=BACKENDS)


def pack(x, states, given):
    """inputs and form, as the op takes them, of all that is given by name."""
    scale = float(given["scale"])  # a tensor takes no integer beyond 64 bits, and no fraction
    if scale != 1:
        scaled = "v" if given["score"] == "additive" else "keys" if given["w_query"] is None else "w_query"
        names = (scaled, "b_score", *["b_query"] * (scaled == "w_query"))
        given |= {name: given[name] * scale for name in names if given[name] is not None}
    inputs = [x, *states, *[None] * (2 - len(states)), *(given[name] for name in INPUTS[3:])]
    transition = () if given["transition"] is None else (given["transition"],)
    inputs += [weight for cell in (*given["layers"], *transition) for weight in cell]
    given["transition"] = len(transition) > 0
    return inputs, [2 + len(states), *(choices.index(given[name]) for name, choices in CHOICES.items())]


def arguments(inputs, form):
    """gates, the states, and all others by name, from what the op takes."""
    above = len(inputs) - len(INPUTS)
    refuse(above < 0 or above % 4, f"inputs has {len(inputs)} elements, expected {len(INPUTS)} and 4 a layer above")
    refuse(len(form) != 1 + len(CHOICES), f"form has {len(form)} elements, expected {1 + len(CHOICES)}")
    refuse(form[0] not in (3, 4), f"form[0] is {form[0]}, expected 3 gates of a GRU or 4 of an LSTM")
    parts = {}
    for i, (name, choices) in zip(form[1:], CHOICES.items(), strict=True):
        refuse(not 0 <= i < len(choices), f"form holds {i} for {name}, expected 0 to {len(choices) - 1}")
        parts[name] = choices[i]
    parts |= zip(INPUTS, inputs[: len(INPUTS)], strict=True)
    cells = [inputs[i : i + 4] for i in range(len(INPUTS), len(inputs), 4)]
    if parts["transition"]:
        refuse(len(cells) != 1, f"inputs has {above} elements after {INPUTS[-1]}, expected the 4 of a transition")
        parts |= {"layers": [], "transition": cells[0]}
    else:
        parts |= {"layers": cells, "transition": None}
    states = [parts.pop(name) for name in ("h0", "c0")]
    refuse(form[0] == 3 and states[1] is not None, "c0 is given to a GRU, expected None: only an LSTM has a c")
    return form[0], states[: form[0] - 2], parts


def run(inputs, lengths, mask, form, *, steps=STEPS, **primitives):
    """The reference. ``steps`` and ``primitives`` are what it is made of, where not of its own."""
    gates, states, parts = arguments(inputs, form)
    outputs = run_decoder(steps[gates], state=states, lengths=lengths, mask=mask, **parts, **primitives)
    states, contexts, weights, feeds, last = outputs
    none = contexts.new_empty(0)
    return [states, contexts, weights, none if parts["w_feed"] is None else feeds, *last, *[none] * (4 - gates)]


def check(inputs, lengths, mask, form, *_):
    gates, states, parts = arguments(inputs, form)
    check_decoder(gates, states=tuple(zip(("h0", "c0"), states)), lengths=lengths, mask=mask, **parts)


of_ops[f"{NAME}_forward"] = check


@registration.fake(f"{NAME}_forward")
def _(inputs, lengths, mask, form, save):
    check(inputs, lengths, mask, form)
    gates, states, parts = arguments(inputs, form)
    x, keys, values, w_feed = (parts[name] for name in ("x", "keys", "values", "w_feed"))
    (batch, steps), hidden = x.shape[:2], states[0].shape[-1]
    layers = 1 + len(parts["layers"]) + (parts["transition"] is not None)
    heads = tuple(keys.shape[2:-1])
    n, source = heads[0] if heads else 1, keys.shape[1]
    context = (batch, steps + 1, n * values.shape[-1])
    feeds = 0 if w_feed is None else (batch, steps + 1, context[2] if parts["feed"] == "gate" else w_feed.shape[0])
    outputs = [(batch, steps, hidden), context, (batch, steps + 1, *heads, source), feeds]
    save = save and not composed(x.device.type)

    def saved(*shape, when=True):
        return saved_like(x, shape, save and when)

    lstm = gates == 4
    return [
        *(x.new_empty(shape) for shape in outputs),
        *(state.new_empty(state.shape) for state in states),
        *[x.new_empty(0)] * (4 - gates),
        saved(layers, batch, steps, 4 * hidden),
        saved(layers, batch, steps, hidden, when=lstm),
        saved(layers, batch, steps, hidden, when=lstm and not parts["drop_c"] is parts["zone_c"] is None),
        saved(layers - 1, batch, steps, hidden, when=layers > 1),
        saved(batch, steps + 1, n * keys.shape[-1]),
        saved(*outputs[2], when=parts["normalization"] != "softmax"),
        saved(*context, when=w_feed is not None and parts["feed"] == "gate"),
        *(saved_like(x, shape, rounded(x, save)) for shape in outputs),
    ]


def composed(device_type):
    """Whether the op is there made of others: nothing is saved, the backward pass runs forward again."""
    return device_type in COMPOSED or (device_type != "meta" and resolve(device_type) == "triton")


register_halves(NAME, run)
registration.autocast(NAME)
