"""What the tests of the two searches share: models as tensors, and outputs scored without a search."""

import itertools
from functools import partial

import torch
from decoder_inputs import PAIRS, PARTS, decoder_inputs
from helpers import Random, assert_within_rule, error, shrink
from torch.nn.functional import linear
from torch.utils._pytree import tree_map

import s2s_kernels as sk
from s2s_kernels import reference

NAMES = (
    "state", "keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih", "bias_hh",
    "embedding", "w_output", "b_output",
)  # fmt: skip
under_test = {"device": "cpu"}  # set by the fixtures of the searches
BOS, EOS = 1, 3
SEARCH = {"bos": BOS, "eos": EOS, "forbidden": (0, BOS), "max_length": 9}
FORMS = {
    "bahdanau": {"readout": "state_context", "R": 9},
    "lstm": {"lstm": True, "readout": "state_context_input"},
    "state alone": {"readout": "state", "first": True},
    "heads": {"N": 2, "readout": "state_context", "R": 5},
    "tensorflow": {"order": "after", "first": True, "readout": "state_context"},
    "tensorflow, initial attention": {"order": "after", "N": 3, "readout": "state_context_input", "R": 5},
    "luong": {"order": "after", "F": 8, "readout": "feed", "first": True},
    "luong, made feed, lstm": {"order": "after", "F": 8, "readout": "feed", "N": 2, "lstm": True},
    "luong, readout": {"order": "after", "F": 8, "readout": "state_context", "R": 6, "biases": False},
    "no feeding": {"order": "after", "fed": False, "readout": "state_context", "R": 5},
    "no feeding, lstm": {"order": "after", "fed": False, "lstm": True, "N": 2, "readout": "state"},
}
# Some with parts (docs/ops.md), of every kind of search: `PART_FORMS` are all.
FORMS |= {
    "dot, layers": {"order": "after", "readout": "feed", "F": 8, "parts": {"score": "dot", "L": 2}},
    "c_h, location": {
        "order": "after", "first": True, "readout": "state_context", "lstm": True,
        "parts": {"query": "c_h", "K": 3, "location": "both", "first_weights": True},
    },
    "gate, forward": {"readout": "state_context", "R": 5, "parts": {"feed": "gate", "normalization": "forward"}},
    "no feeding, coverage": {
        "order": "after", "fed": False, "readout": "state_context", "parts": {"K": 1, "location": "cumulative"},
    },
}  # fmt: skip
PART_NAMES = [name for name, form in FORMS.items() if "parts" in form]


def search_inputs(
    B=5, S=6, H=11, A=7, D=5, E=6, V=23, N=None, F=None, R=None, lstm=False, order="before", fed=True, first=False,
    readout="state", biases=True, lengths=True, scale=4.0, seed=0, parts=None,
):  # fmt: skip
    """float64 by argument name. F: the width of w_feed; R: that of w_readout; scale: how strong its opinions are.
    parts: what decoder_inputs makes the decoder with, where it is not a plain one."""
    r = Random(seed)
    n = 1 if N is None else N
    heads, context, gates = () if N is None else (N,), n * D, 4 if lstm else 3
    feed = (context if F is None else F) if fed else 0
    width = {"state": H, "state_context": H + context, "state_context_input": H + context + E, "feed": F}[readout]

    def matrix(outputs, inputs, scale=1.0):
        return r.normal(outputs, inputs, scale=scale * shrink(inputs))

    def bias(size):
        return r.normal(size) if biases else None

    inputs = {
        "state": (r.normal(B, H), r.normal(B, H)) if lstm else (r.normal(B, H),),
        "keys": r.normal(B, S, *heads, A),
        "values": r.normal(B, S, D),
        "v": r.normal(*heads, A),
        "w_query": matrix(n * A, H),
        "b_query": bias(n * A),
        "weight_ih": matrix(gates * H, E + feed, scale=2.0),
        "weight_hh": matrix(gates * H, H),
        "bias_ih": bias(gates * H),
        "bias_hh": bias(gates * H),
        "embedding": r.normal(V, E),
        "order": order,
        "readout": readout,
    }
    if F is not None:
        inputs |= {"w_feed": matrix(F, H + context), "b_feed": bias(F)}
    if first:
        inputs["first_feed"] = r.normal(B, feed)
    if R is not None:
        inputs |= {"w_readout": matrix(R, width), "b_readout": bias(R)}
    inputs |= {"w_output": matrix(V, width if R is None else R, scale=scale), "b_output": bias(V)}
    if lengths:
        inputs["lengths"] = r.lengths(B, S)
    if parts is not None:
        own = {
            "L": parts.get("L", 1),
            "N": parts.get("N", N),
            "F": parts.get("F", F),
            "first": parts.get("first", first),
        }
        inputs |= part_inputs(
            "attention_lstm" if lstm else "attention_gru", fed, seed, parts | own, B=B, S=S, H=H, A=A, D=D, I=E
        )
    return inputs


def part_inputs(op, fed, seed, parts, **sizes):
    """What of a decoder with parts takes the place of a plain one's weights."""
    made = decoder_inputs(op, T=1, seed=seed, **parts | sizes)
    embedded = made.pop("x").shape[2]
    layers = [made.pop(name) for name in list(made) if name.startswith("layers[")]
    transition = [made.pop(name) for name in list(made) if name.startswith("transition[")]
    if transition:
        made["transition"] = tuple(transition)
    if layers:
        made["layers"] = tuple(tuple(layers[i : i + 4]) for i in range(0, len(layers), 4))
    made["state"] = tuple(made.pop(name) for name in ("h0", "c0") if name in made)
    if not fed:
        made["weight_ih"] = made["weight_ih"][:, :embedded].clone()
    return made


# Every part that a search can use, alone and in pairs, of both cells, each in one order after the other.
WAYS = [
    {"readout": "state_context", "R": 9},
    {"order": "after", "readout": "state_context_input"},
    {"order": "after", "readout": "state_context", "first": True},
    {"readout": "state", "first": True},
]
BETWEEN = [{"readout": "state_context_input", "R": 9}, {"readout": "state_context"}]


def part_forms(parts):
    """By name: forms of search_inputs with ``parts`` of decoder_inputs."""
    unmasked = {name: form for name, form in parts.items() if not form.get("masks") and not form.get("detach")}
    cells = [(name, form, lstm) for name, form in unmasked.items() for lstm in (False, True)]
    cells = [(name, form, lstm) for name, form, lstm in cells if lstm or form.get("query") != "c_h"]
    forms = {}
    for i, (name, form, lstm) in enumerate(cells):
        sizes = {size: form[size] for size in ("H", "N", "F") if size in form}
        way = WAYS[(i // 2 + lstm) % len(WAYS)]
        if "transition" in form:  # which knows neither another order nor a first feed
            way = BETWEEN[i // 2 % len(BETWEEN)]
        kept = {key: x for key, x in form.items() if key not in ("H", "masks")}
        forms[f"{name}{', lstm' * lstm}, {way.get('order', 'before')}"] = way | sizes | {"lstm": lstm, "parts": kept}
    return forms


PART_FORMS, PAIR_FORMS = part_forms(PARTS), part_forms(PAIRS)


def cast(inputs, change):
    """``change`` applied to every floating tensor."""

    def one(x):
        if isinstance(x, tuple):
            return tuple(map(one, x))
        return change(x) if isinstance(x, torch.Tensor) and x.is_floating_point() else x

    return {name: one(x) for name, x in inputs.items()}


def run(function, inputs, **options):
    """On the device of the backend under test; inputs and outputs are on the CPU."""

    def move(x, device):
        return x.to(device) if isinstance(x, torch.Tensor) else x

    options = {name: x for name, x in inputs.items() if name not in NAMES} | SEARCH | options
    args, options = tree_map(lambda x: move(x, under_test["device"]), ([inputs[name] for name in NAMES], options))
    return tree_map(lambda x: move(x, "cpu"), function(*args, **options))


def check_parity(op, inputs, dtypes=(torch.float64, torch.float32), **options):
    """The search ``op`` against the reference: the same tokens; scores and weights by the rule."""
    search, truthful = getattr(sk, op), getattr(reference, op)
    options = {"return_weights": True} | options
    for dtype in dtypes:
        given = cast(inputs, partial(torch.Tensor.to, dtype=dtype))
        truth = run(truthful, cast(given, torch.Tensor.double), **options)
        found = run(search, given, **options)
        assert torch.equal(found.ids, truth.ids) and torch.equal(found.lengths, truth.lengths)
        assert torch.equal(found.scores == -torch.inf, truth.scores == -torch.inf)
        eager = run(truthful, cast(given, torch.Tensor.float), **options)
        assert torch.equal(eager.ids, truth.ids), "these inputs decide nothing in float32: take others"
        scale = 2 * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps if dtype == torch.float64 else 1
        names, real = ("scores", "weights"), truth.scores > -torch.inf
        found, eager, truth = (dict(zip(names, (x.scores[real], x.weights))) for x in (found, eager, truth))
        errors = {name: scale * error(eager[name], truth[name]) for name in names}
        assert_within_rule([(found, errors, truth)], dtype, op)


# One number of a weight, from which some prefixes, some rows or all follow.
SPECIAL = [torch.nan, torch.inf, -torch.inf]
SPOILED = ["embedding", "w_output", "b_output", "weight_hh", "values", "v", "keys"]


def check_spoiled(name, value, op="beam_search", **options):
    """With one number of a weight NaN or infinite, what the reference finds."""
    inputs = search_inputs(readout="state_context", lengths=False)
    x = inputs[name]
    x.view(-1)[0 if name in ("values", "keys") else 5 * x[0].numel() if x.dim() > 1 else 2] = value
    truth, found = (run(getattr(module, op), inputs, **options) for module in (reference, sk))
    assert torch.equal(found.ids, truth.ids) and torch.equal(found.lengths, truth.lengths)
    torch.testing.assert_close(found.scores, truth.scores, rtol=1e-9, atol=1e-9)


def check_sixteen_bits(inputs, dtype, exact, **options):
    """Weights of 16 bits. exact: all between them is float32, so as exact as float32 is on the same values; else the
    products are rounded, as those of eager PyTorch."""
    given = cast(inputs, lambda x: x.to(dtype))
    truth = run(reference.beam_search, cast(given, torch.Tensor.double), **options)
    eager = run(reference.beam_search, cast(given, torch.Tensor.float) if exact else given, **options)
    found = run(sk.beam_search, given, **options)
    assert torch.equal(found.ids, truth.ids)
    assert torch.equal(eager.ids, truth.ids), "these inputs decide nothing in 16 bits: take others"
    rule = torch.float32 if exact else dtype
    draw = {"scores": found.scores.to(rule)}, {"scores": error(eager.scores, truth.scores)}, {"scores": truth.scores}
    assert_within_rule([draw], rule, "beam_search")


def teacher_forced(inputs, b, output):
    """The log probabilities (T, V) after each prefix of ``output`` and the weights (T, S), by the recurrences'
    reference."""
    rows = ("keys", "values", "first_feed", "first_weights", "lengths")
    row = {name: inputs[name][b : b + 1] for name in rows if name in inputs}
    state = tuple(x[..., b : b + 1, :] for x in inputs["state"])
    x = inputs["embedding"][torch.tensor([[BOS, *output]])]
    scan = reference.attention_lstm if len(state) == 2 else reference.attention_gru
    elsewhere = ("state", "embedding", "order", "readout", "w_output", "b_output", "w_readout", "b_readout")
    weights = {name: y for name, y in inputs.items() if name not in rows + elsewhere}
    first = state if len(state) == 2 else state[0]
    between, fed = "transition" in inputs, inputs["weight_ih"].shape[1] > x.shape[2]
    if not fed and not between:  # a cell that ignores what it is fed
        width = row["values"].shape[-1] * (inputs["keys"].shape[2] if inputs["keys"].dim() == 4 else 1)
        unread = weights["weight_ih"].new_zeros(len(weights["weight_ih"]), width)
        weights["weight_ih"] = torch.cat([weights["weight_ih"], unread], 1)
        if inputs["order"] == "after":  # and nothing has looked at the source before
            row["first_feed"] = unread.new_zeros(1, width)
    out = scan(x, first, **weights, **row)
    before = inputs["order"] == "before" and not between
    read = slice(None, -1) if before else slice(1, None)
    parts = {"state": [out.states], "state_context": [out.states, out.contexts[:, read]]}
    parts["state_context_input"] = [*parts["state_context"], x]
    features = out.feeds[:, 1:] if inputs["readout"] == "feed" else torch.cat(parts[inputs["readout"]], -1)
    if "w_readout" in inputs:
        features = torch.tanh(linear(features, inputs["w_readout"], inputs["b_readout"]))
    weights = out.weights[0, read]
    logits = linear(features, inputs["w_output"], inputs["b_output"])
    return torch.log_softmax(logits, -1)[0], weights.mean(1) if weights.dim() == 3 else weights


def log_probability(inputs, b, output):
    """log P and the weights (T, S) of ``output`` and the end."""
    logp, weights = teacher_forced(inputs, b, output)
    return sum(logp[t, token] for t, token in enumerate([*output, EOS])).item(), weights


def exhaustive(inputs, b, longest, alpha=0.0, beta=0.0):
    """Every output of row b of up to ``longest`` tokens, best first: [(score, tokens)]."""
    allowed = [token for token in range(len(inputs["w_output"])) if token not in (0, BOS, EOS)]
    scored = []
    for output in (list(o) for n in range(longest + 1) for o in itertools.product(allowed, repeat=n)):
        logp, weights = log_probability(inputs, b, output)
        attended = weights.sum(0)[: inputs["lengths"][b]].clamp(max=1)
        scored.append((logp / ((6 + len(output)) / 6) ** alpha + beta * attended.log().sum().item(), output))
    return sorted(scored, key=lambda row: -row[0])
