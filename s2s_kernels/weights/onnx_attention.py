"""The attention decoder's start and step as plain ONNX operators."""

from typing import Any

import torch
from torch import nn

from .layout import cells_of
from .onnx_graph import Graph, step

_KNOWN = {
    *(f"attention.{name}" for name in ("query_layer.weight", "query_layer.bias", "key_layer.weight", "v", "g")),
    *(f"cell.{name}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    *("feed_layer.weight", "feed_layer.bias"),
}


def attention_graph(module: Any, part: str) -> Any:
    """``part="start"``: h0 [, c0], memory, lengths -> keys, feed, context, weights. ``part="step"``: x, h [, c], feed,
    memory, keys, lengths -> h_n [, c_n], feed_n, context, weights."""
    unknown = [name for name, _ in module.named_parameters() if name not in _KNOWN]
    if unknown:
        raise ValueError(f"module has {unknown[0]}, which the graph of an attention decoder's {part} does not know")
    graph = Graph(f"attention_{part}", module.cell.weight_ih.dtype)
    names = ("h", "c")[: 2 if isinstance(module.cell, nn.LSTMCell) else 1]
    suffix = "0" if part == "start" else ""
    if part == "step":
        x = graph.input("x", "B", module.input_size)
    states = [graph.input(f"{name}{suffix}", "B", module.hidden_size) for name in names]
    if part == "step":
        feed = graph.input("feed", "B", module.feed_size)
    memory = graph.input("memory", "B", "S", module.key_size)
    heads = () if module.num_heads == 1 else (module.num_heads,)
    keys_shape = ("B", "S", *heads, module.attention_size)
    if part == "step":
        keys = graph.input("keys", *keys_shape)
    lengths = graph.input("lengths", "B", dtype=graph.onnx.TensorProto.INT64)
    if part == "start":
        keys = _linear(graph, module.attention.key_layer, memory)
        if heads:
            keys = graph.add("Reshape", keys, graph.constant("heads", [0, 0, *heads, module.attention_size]))
        graph.output("keys", keys, *keys_shape)
    else:
        ((cell,),) = cells_of(module.cell)
        states = step(graph, cell, graph.add("Concat", x, feed, axis=1), states)
        for name, state in zip(names, states):
            graph.output(f"{name}_n", state, "B", module.hidden_size)
    context, weights = _attend(graph, module, states[0], memory, keys, lengths)
    feed = context
    if module.feed_layer is not None:
        feed = graph.add("Tanh", _linear(graph, module.feed_layer, graph.add("Concat", states[0], context, axis=1)))
    graph.output("feed" if part == "start" else "feed_n", feed, "B", module.feed_size)
    graph.output("context", context, "B", module.context_size)
    graph.output("weights", weights, "B", *heads, "S")
    return graph.model()


def _linear(graph, layer, x):
    x = graph.add("MatMul", x, graph.constant("weight", layer.weight.T))
    return x if layer.bias is None else graph.add("Add", x, graph.constant("bias", layer.bias))


def _attend(graph, module, h, memory, keys, lengths):
    """context (B, N*D) and weights (B, [N,] S); zeros for a row without a valid position, and nothing of what the
    memory and the keys hold beyond ``lengths``, NaN included."""
    v, heads = module.attention.score_vector(), module.num_heads
    last, one = graph.constant("axis", [-1]), graph.constant("axis", [1])
    size = graph.add("Squeeze", graph.add("Shape", memory, start=1, end=2))
    zero, step_ = graph.constant("zero", 0), graph.constant("one", 1)
    positions = graph.add("Range", zero, size, step_)
    valid = graph.add("Less", positions, graph.add("Unsqueeze", lengths, one))  # (B, S)
    inside = graph.add("Unsqueeze", valid, last)
    nothing = graph.constant("nothing", v.new_zeros(()))
    least = graph.constant("least", v.new_full((), torch.finfo(v.dtype).min))
    query = _linear(graph, module.attention.query_layer, h)
    memory = graph.add("Where", inside, memory, nothing)
    if heads > 1:
        query = graph.add("Reshape", query, graph.constant("heads", [0, heads, module.attention_size]))
        valid = graph.add("Unsqueeze", valid, one)  # (B, 1, S)
    energy = graph.add("Tanh", graph.add("Add", graph.add("Unsqueeze", query, one), keys))
    if heads == 1:
        scores = graph.add("Squeeze", graph.add("MatMul", energy, graph.constant("v", v[:, None])), last)
    else:
        scores = graph.add("ReduceSum", graph.add("Mul", energy, graph.constant("v", v)), last, keepdims=0)
        scores = graph.add("Transpose", scores, perm=[0, 2, 1])  # (B, N, S)
    weights = graph.add("Softmax", graph.add("Where", valid, scores, least), axis=-1)
    weights = graph.add("Where", valid, weights, nothing)
    if heads == 1:
        context = graph.add("Squeeze", graph.add("MatMul", graph.add("Unsqueeze", weights, one), memory), one)
    else:
        context = graph.add("Reshape", graph.add("MatMul", weights, memory), graph.constant("flat", [0, -1]))
    return context, weights
