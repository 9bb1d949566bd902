"""Inputs of the attention decoder with parts, and the parts alone, in pairs and all together."""

from itertools import combinations

import pytest
import torch
from helpers import Random, call, scan_inputs, shrink

import s2s_kernels as sk
from s2s_kernels.ops import attention_decoder
from s2s_kernels.ops.decoder_checks import CARRIED


def decoder_inputs(
    op, *, L=1, query="h", score="additive", project=True, scale=None, b_score=False, normalization=None, K=None,
    dense=None, location=None, first_weights=False, detach=False, feed=None, own_values=False, masks=(), F=None,
    N=None, transition=False, seed=0,
    **sizes,
):  # fmt: skip
    """As ``scan_inputs``, which takes the sizes, with the parts. The choices are there only where they are given.

    L: layers. project: whether a dot score has a w_query. K: of w_location. dense: the filters of
    a w_dense. masks: their names.
    A layer above the first is ``layers[0][0]`` .. ``layers[0][3]``, a transition ``transition[0]`` .. ``[3]``.
    """
    r = Random(seed + 1000)
    H, D = sizes.get("H", 11), sizes.get("D", 7)
    context = D * (1 if N is None else N)
    if feed == "gate":
        F = context
    asked = 2 * H if query == "c_h" else H
    if not project:
        sizes["A"] = asked // (N or 1)
    inputs = scan_inputs(op, F=F, N=N, seed=seed, **sizes)
    B, T, S = *inputs["x"].shape[:2], inputs["keys"].shape[1]
    A, queries = inputs["keys"].shape[-1], inputs["w_query"].shape[0]
    fed, gates = inputs["weight_ih"].shape[1] - inputs["x"].shape[2], 4 if "lstm" in op else 3

    if query != "h":
        inputs |= {"query": query, "w_query": r.normal(queries, asked, scale=shrink(asked))}
    if score == "dot":
        inputs |= {"score": score, "v": None, "keys": inputs["keys"] * shrink(A)}
        if not project:
            inputs |= {"w_query": None, "b_query": None}
    if feed == "gate":
        inputs["w_feed"] = r.normal(F, H, scale=shrink(H))
    if own_values:
        inputs["values"] = r.normal(B, S, N, D)
    if b_score:
        inputs["b_score"] = r.normal(1 if N is None else N)
    if K is not None:
        inputs["w_location"] = r.normal(A if dense is None else dense, 2 if location == "both" else 1, K)
    if dense is not None:
        inputs["w_dense"] = r.normal(A, dense, scale=shrink(dense))
    if first_weights:
        inputs["first_weights"] = r.normal(B, S).abs()
    given = {"scale": scale, "normalization": normalization, "location": location, "feed": feed}
    inputs |= {name: x for name, x in given.items() if x is not None} | ({"detach_location": True} if detach else {})
    if L > 1:
        for name in ("h0", "c0") if gates == 4 else ("h0",):
            inputs[name] = r.normal(L, B, H)
        for i in range(L - 1):
            shapes = ((gates * H, H), (gates * H, H), (gates * H,), (gates * H,))
            for j, shape in enumerate(shapes):
                inputs[f"layers[{i}][{j}]"] = r.normal(*shape, scale=shrink(H) if j < 2 else 1.0)
    if transition:
        inputs["weight_ih"] = inputs["weight_ih"][:, : inputs["x"].shape[2]].contiguous()
        for j, shape in enumerate(((gates * H, fed), (gates * H, H), (gates * H,), (gates * H,))):
            inputs[f"transition[{j}]"] = r.normal(*shape, scale=shrink(shape[1]) if j < 2 else 1.0)
    heads, layers = () if N is None else (N,), () if L == 1 else (L,)
    shapes = {
        "drop_query": (B, T + 1, asked),
        "drop_weights": (B, T + 1, *heads, S),
        "drop_attended": (B, T + 1, H if feed == "gate" else H + context),
        "drop_fed": (B, T, fed),
        "drop_layers": (L - 1, B, T, H),
        **dict.fromkeys(CARRIED, (*layers, B, T, H)),
    }
    for name in masks:
        inputs[name] = r.factors(*shapes[name], zone=name.startswith("zone"))
    return inputs


PARTS = {
    "layers": {"L": 2},
    "three layers": {"L": 3, "masks": ("drop_layers",)},
    "c_h": {"query": "c_h"},
    "dot": {"score": "dot"},
    "dot of the state": {"score": "dot", "project": False},
    "scale": {"scale": 0.7},
    "b_score": {"b_score": True},
    "sigmoid": {"normalization": "sigmoid"},
    "forward": {"normalization": "forward"},
    "coverage": {"K": 1, "location": "cumulative"},
    "location": {"K": 3},
    "both, first weights": {"K": 5, "location": "both", "first_weights": True},
    "detached": {"K": 3, "detach": True},
    "filters": {"K": 5, "location": "both", "dense": 4},
    "linear": {"F": 9, "feed": "linear"},
    "gate": {"feed": "gate"},
    "tanh": {"F": 6, "masks": ("drop_attended",)},
    "heads": {"N": 2, "own_values": True},
    "first": {"first": True},
    "transition": {"transition": True},
    **{name: {"masks": (name,)} for name in ("drop_query", "drop_weights", "drop_fed")},
    **{name: {"masks": (name,)} for name in ("drop_h", "drop_c", "zone_h", "zone_c")},
}
ALL = {
    "all": {
        "L": 3, "query": "c_h", "scale": 0.7, "b_score": True, "normalization": "sigmoid", "K": 3, "location": "both",
        "dense": 3, "first_weights": True, "F": 9, "feed": "tanh", "first": True, "lengths": torch.int64, "mask": True,
        "masks": ("drop_query", "drop_weights", "drop_attended", "drop_fed", "drop_layers", "drop_h", "drop_c",
                  "zone_h", "zone_c"),
    },
    "all of heads": {
        "L": 2, "score": "dot", "N": 2, "own_values": True, "b_score": True, "scale": 1.3, "normalization": "sigmoid",
        "feed": "gate", "lengths": torch.int32,
        "masks": ("drop_query", "drop_weights", "drop_attended", "drop_fed", "drop_layers", "drop_h", "zone_h"),
    },
    "all of a transition": {
        "transition": True, "query": "c_h", "scale": 0.7, "b_score": True, "normalization": "sigmoid", "K": 3,
        "location": "both", "dense": 3, "first_weights": True, "F": 9, "feed": "tanh", "lengths": torch.int64,
        "mask": True, "masks": ("drop_query", "drop_weights", "drop_attended", "drop_fed"),
    },
}  # fmt: skip


def joined(a, b):
    """Two parts in one form; None where they do not go together."""
    if any(a[name] != b[name] for name in a.keys() & b.keys() - {"masks"}):
        return None
    form = a | b | {"masks": a.get("masks", ()) + tuple(x for x in b.get("masks", ()) if x not in a.get("masks", ()))}
    one_head = "K" in form or form.get("normalization") == "forward"
    if ("N" in form and one_head) or ("K" in form and form.get("score") == "dot"):
        return None
    if form.get("feed") == "gate" and "F" in form:
        return None
    if "transition" in form and ("L" in form or "first" in form or set(form["masks"]) & set(CARRIED)):
        return None
    if form.get("N") and not form.get("project", True):
        form["H"] = 12
    return form


def of(op, forms):
    """Those of the cell; a GRU has no c."""
    if op == "attention_lstm":
        return forms
    made = {}
    for name, form in forms.items():
        masks = tuple(mask for mask in form.get("masks", ()) if not mask.endswith("_c"))
        if form.get("query") != "c_h" and masks == form.get("masks", ()):
            made[name] = form
        elif name.startswith("all"):
            made[name] = form | {"query": "h", "masks": masks}
    return made


PAIRS = {f"{a}, {b}": joined(PARTS[a], PARTS[b]) for a, b in combinations(PARTS, 2)}
PAIRS = {name: form for name, form in PAIRS.items() if form is not None}


def as_the_op_takes(op, inputs):
    """What the public function hands to torch.ops."""
    handed = []
    with pytest.MonkeyPatch.context() as patch:

        def run(name, function, device, *args, **kwargs):
            handed.extend(args)
            return function(*args)

        patch.setattr(attention_decoder.registration, "run", run)
        call(sk, op, inputs)
    return handed
