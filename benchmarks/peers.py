"""The peers: what a careful user of PyTorch writes by hand, and PyTorch's own alternatives.

The eager functions hoist the input's part of the gates out of the loop, use one addmm for what is fed, unbind instead
of indexing (whose backward fills a tensor of zeros a step), and keep what autograd wants to keep.

Left out, because no faithful counterpart of the same function is at hand: onnxruntime's AttnLSTM (no training, and
weights in a layout of its own), and flashrnn (its cells have other gates and its kernels fixed widths). JoeyNMT is in
``joey.py``, TorchRL in ``torchrl_scan.py``.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

import s2s_kernels as sk
from s2s_kernels import cudnn
from s2s_kernels.info.plan import GATES as PLANNED  # the ops that may run as one launch

from . import torchrl_scan
from .cases import Implementation, Prepared, functional
from .parity import helpers

# --- eager PyTorch ------------------------------------------------------------------------------------------


def attend(query, keys, values, v, valid=None):
    """One query a row: query (B, A), keys (B, S, A), values (B, S, D); valid (B, S) bool."""
    scores = torch.tanh(query[:, None] + keys) @ v
    if valid is not None:
        scores = scores.masked_fill(~valid, -torch.inf)
    weights = torch.softmax(scores, -1)
    return torch.bmm(weights[:, None], values)[:, 0], weights


def additive_attention(query, keys, values, v):
    if query.dim() == 2:
        return attend(query, keys, values, v)
    weights = torch.softmax(torch.tanh(query[:, :, None] + keys[:, None]) @ v, -1)
    return torch.bmm(weights, values), weights


def gru_step(gates_x, gates_h, h):
    r_x, z_x, n_x = gates_x.chunk(3, -1)
    r_h, z_h, n_h = gates_h.chunk(3, -1)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    n = torch.tanh(n_x + r * n_h)
    return n + z * (h - n)


def lstm_step(gates_x, gates_h, c):
    i, f, g, o = (gates_x + gates_h).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
    h, outputs = h0, []
    steps = F.linear(x, weight_ih, bias_ih).unbind(1)
    for gates_x in reversed(steps) if reverse else steps:
        h = gru_step(gates_x, F.linear(h, weight_hh, bias_hh), h)
        outputs.append(h)
    return torch.stack(outputs[::-1] if reverse else outputs, 1), h


def lstm(x, state, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
    (h, c), outputs = state, []
    steps = F.linear(x, weight_ih, bias_ih).unbind(1)
    for gates_x in reversed(steps) if reverse else steps:
        h, c = lstm_step(gates_x, F.linear(h, weight_hh, bias_hh), c)
        outputs.append(h)
    return torch.stack(outputs[::-1] if reverse else outputs, 1), (h, c)


def scanned(op):
    """``gru`` or ``lstm`` on torch's own scan over time, compiled: one step is, not each of them."""

    @partial(torch.compile, fullgraph=True, dynamic=False)
    def over_time(gates, state, weight_hh, bias_hh, reverse):
        from torch._higher_order_ops.scan import scan

        def step(state, gates_x):
            gates_h = F.linear(state[0], weight_hh, bias_hh)
            if op == "gru":
                state = (gru_step(gates_x, gates_h, state[0]),)
            else:
                state = lstm_step(gates_x, gates_h, state[1])
            return tuple(x.clone() for x in state), state[0].clone()  # the default compiler finds aliases otherwise

        return scan(step, state, gates, reverse=reverse)

    def layer(x, state, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
        # Outside of what is compiled: its gradients would become those of the step's weights (PyTorch 2.14).
        gates = F.linear(x, weight_ih, bias_ih).transpose(0, 1)
        first = (state,) if op == "gru" else (state[0], state[1].clone())  # not one tensor of zeros twice: refused
        last, outputs = over_time(gates, first, weight_hh, bias_hh, reverse)
        return outputs.transpose(0, 1), last[0] if op == "gru" else last

    return layer


def attention_scan(step, x, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
                   *, valid=None, w_feed=None, b_feed=None, first_feed=None):  # fmt: skip
    """``step(gates_x, gates_h, state)`` -> state, a tuple with h first.

    Returns states, contexts, weights, feeds and the last state.
    """
    width = x.shape[-1]
    w_fed = weight_ih[:, width:].t()

    def attend_and_feed(h):
        context, w = attend(F.linear(h, w_query, b_query), keys, values, v, valid)
        if w_feed is None:
            return context, w, context
        return context, w, torch.tanh(F.linear(torch.cat([h, context], -1), w_feed, b_feed))

    context, w, feed = attend_and_feed(state[0])
    states, contexts, weights, feeds = [], [context], [w], [feed]
    feed = feed if first_feed is None else first_feed
    for gates_x in F.linear(x, weight_ih[:, :width], bias_ih).unbind(1):
        state = step(torch.addmm(gates_x, feed, w_fed), F.linear(state[0], weight_hh, bias_hh), state)
        context, w, feed = attend_and_feed(state[0])
        states.append(state[0])
        contexts.append(context)
        weights.append(w)
        feeds.append(feed)
    return (*(torch.stack(seq, 1) for seq in (states, contexts, weights, feeds)), state)


def attention_gru(x, h0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh):
    def step(gates_x, gates_h, state):
        return (gru_step(gates_x, gates_h, *state),)

    cell = (w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    states, contexts, weights, _, (h,) = attention_scan(step, x, (h0,), keys, values, v, *cell)
    return states, contexts, weights, h


def attention_lstm(x, h0, c0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh):
    def step(gates_x, gates_h, state):
        return lstm_step(gates_x, gates_h, state[1])

    cell = (w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    states, contexts, weights, _, (h, c) = attention_scan(step, x, (h0, c0), keys, values, v, *cell)
    return states, contexts, weights, h, c


# --- ours, and the sets of implementations ------------------------------------------------------------------

LOOP_OF_LAUNCHES, ONE_LAUNCH = "s2s_kernels, cuda", "s2s_kernels, cuda, one launch"
REPLAYED_STEP = "s2s_kernels, cuda, a step replayed"


def ours(prepare):
    """The kernels: the backend that "auto" takes, alone and in a CUDA graph, and each other compiled one."""
    first = Implementation("s2s_kernels", prepare)
    graph = replace(first, name="s2s_kernels, CUDA graph", devices=("cuda",), graph=True)
    return (
        first,
        graph,
        # Compiling Triton's kernels for each shape takes most of a minute.
        replace(
            first,
            name="s2s_kernels, triton",
            devices=devices_of("triton", beside=1),
            backend="triton",
            suites=frozenset({"quick", "cpu", "gpu", "full"}),
        ),
    )


def launches(prepare):
    """The kernels in CUDA C++, step after step and, where csrc/plan.h has a plan, in one launch."""
    first = Implementation(LOOP_OF_LAUNCHES, prepare, devices=devices_of("cuda"), backend="cuda")
    found = {LOOP_OF_LAUNCHES: "0", ONE_LAUNCH: "1"}
    return tuple(replace(first, name=n, environment=(("S2S_CUDA_PERSISTENT", x),)) for n, x in found.items())


def replayed(prepare):
    """The kernels in CUDA C++, one step forward captured and replayed for the others."""
    ways = (("S2S_CUDA_PERSISTENT", "0"), ("S2S_CUDA_GRAPH", "1"))
    return (Implementation(REPLAYED_STEP, prepare, devices=devices_of("cuda"), backend="cuda", environment=ways),)


def devices_of(name, beside=0):
    """The devices on which ``name`` is a backend; ``beside`` = 1: where it is not the one that "auto" takes."""
    from s2s_kernels.backend import available

    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return tuple(device for device in devices if name in available(device)[beside:])


def eager(prepare):
    """Eager PyTorch, on a GPU also in a CUDA graph."""
    first = Implementation("eager", prepare)
    return first, replace(first, name="eager, CUDA graph", devices=("cuda",), graph=True)


def compiled(function, suites=None):
    """torch.compile of an eager function; ``suites``: where its compile time is worth it."""

    def prepare(inputs):
        torch._dynamo.reset()
        return functional(torch.compile(function, fullgraph=True, dynamic=False))(inputs)

    first = Implementation("torch.compile", prepare, devices=("cpu",), suites=suites)
    return first, replace(first, devices=("cuda",), dtypes=(torch.bfloat16,))  # in ten minutes there is time for one


LOOP = frozenset({"full"})  # torch.compile unrolls a loop over time: minutes of compiling


def functions(op, peer, kernels=None, loop=False, reference=None):
    """Reference and implementations of an op on named inputs: ours, eager, torch.compile.

    ``kernels`` and ``reference`` take and return what ``peer`` does; by default the op itself.
    """
    kernels = kernels or flat(sk, op)
    reference = reference or flat(sk.reference, op)
    everyone = ours(functional(kernels)) + eager(functional(peer))
    if op in PLANNED:
        everyone += launches(functional(kernels))
    if op.startswith("attention_"):
        everyone += replayed(functional(kernels))
    return functional(reference), everyone + compiled(peer, LOOP if loop else frozenset({"cpu", "gpu", "full"}))


def flat(module, op):
    """``module.op`` on named inputs, its outputs a flat tuple."""
    return lambda **inputs: tuple(helpers.call(module, op, inputs))


# --- torch.nn.GRU and LSTM ----------------------------------------------------------------------------------

DIRECTIONS = ("", "_reverse")
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def recurrent(module_type, lengths=None):
    """``prepare`` of a bidirectional nn.GRU or nn.LSTM, torch's or ours, over the inputs x and its weights.

    ``lengths``: how it is told each row's length, "packed" or "argument", when the inputs have ``lengths``.
    """

    def prepare(inputs):
        x = inputs["x"].detach().clone().requires_grad_()
        hidden = inputs["weight_hh"].shape[1]
        module = module_type(x.shape[-1], hidden, batch_first=True, bidirectional=True)
        module = module.to(x.device, x.dtype)
        cudnn.flatten(module)  # of bfloat16, which torch.nn would copy in every call
        parameters = dict(module.named_parameters())
        leaves = {"x": x}
        with torch.no_grad():
            for end in DIRECTIONS:
                for name in WEIGHTS:
                    leaves[name + end] = parameters[f"{name}_l0{end}"]
                    leaves[name + end].copy_(inputs[name + end])

        def run():
            if lengths == "packed":
                packed = nn.utils.rnn.pack_padded_sequence(
                    x, inputs["lengths"].cpu(), batch_first=True, enforce_sorted=False
                )
                output, last = module(packed)
                output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
            elif lengths == "argument":
                output, last = module(x, lengths=inputs["lengths"])
            else:
                output, last = module(x)
            return (output, *last) if isinstance(last, tuple) else (output, last)

        return Prepared(run, leaves)

    return prepare


def both_directions(layer, states):
    """A function of x and the weights of both directions, of ``layer(x, state, *weights, reverse=)``."""

    def function(x, lengths=None, **weights):
        zero = x.new_zeros(x.shape[0], weights["weight_hh"].shape[1])
        state = zero if states == 1 else (zero, zero)
        extra = {} if lengths is None else {"lengths": lengths}
        outputs, last = [], []
        for end in DIRECTIONS:
            output, h = layer(x, state, *(weights[n + end] for n in WEIGHTS), reverse=bool(end), **extra)
            outputs.append(output)
            last.append(h if isinstance(h, tuple) else (h,))
        return (torch.cat(outputs, -1), *(torch.stack(h) for h in zip(*last, strict=True)))

    return function


def compiled_scans(op, states):
    def prepare(inputs):
        torch._dynamo.reset()
        return functional(both_directions(scanned(op), states))(inputs)

    return prepare


def recurrent_inputs(op, B, S, E, H, lengths=False):
    """x (B, S, E), the weights of both directions and perhaps the lengths; S is the time here."""
    first, second = (helpers.sequence_inputs(op, B=B, T=S, I=E, H=H, seed=seed) for seed in (0, 1))
    inputs = {"x": first["x"]}
    for name in WEIGHTS:
        inputs[name], inputs[f"{name}_reverse"] = first[name], second[name]
    if lengths:
        inputs["lengths"] = helpers.Random(2).lengths(B, S)
    return inputs


def recurrences(op, lengths=False):
    """Reference and implementations of a bidirectional GRU or LSTM."""
    states = 1 if op == "gru" else 2
    name = op.upper()
    peer = recurrent(getattr(nn, name), "packed" if lengths else None)
    implementations = ours(recurrent(getattr(sk.nn, name), "argument" if lengths else None))
    # On a GPU "auto" may take cuDNN: what these are measured against there.
    implementations += launches(implementations[0].prepare)
    implementations += (Implementation(f"nn.{name}", peer),)
    if not lengths:
        eager_layer = both_directions(gru if op == "gru" else lstm, states)
        implementations += eager(functional(eager_layer)) + compiled(eager_layer, LOOP)
        implementations += (Implementation("torch scan, torch.compile", compiled_scans(op, states), suites=LOOP),)
        its = torchrl_scan.prepare(op, DIRECTIONS, WEIGHTS)
        its = Implementation(torchrl_scan.NAME, its, devices=("cpu",), suites=frozenset({"cpu", "full"}))
        implementations += torchrl_scan.available(its)
    return functional(both_directions(getattr(sk.reference, op), states)), implementations
