"""ONNX: the GRU and LSTM nodes of a graph.

A GRU's gates are ordered z, r, h, an LSTM's i, o, f, c; ``linear_before_reset=1`` is torch.nn's GRU; 0, the
default, is the one that resets before its product.
"""

from typing import Any

import torch
from torch import nn

from .layout import Cell, reorder, sequence_module, tensor

ORDER = {"GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1)}  # of ONNX' blocks in torch.nn's order
_ACTIVATIONS = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def require_onnx():
    """The onnx package; ImportError with a sentence where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise ImportError("onnx is not installed, which graphs of it need: pip install onnx") from None
    return onnx


def onnx_layer(source: Any, node: str | list[str] | None = None) -> nn.Module:
    """Our GRU, ResetBeforeGRU or LSTM for one of an ONNX graph.

    Args:
        source: a path to an .onnx file, or an ``onnx.ModelProto``.
        node: the node's name, or the names of several, one above the other; None where there is only one.

    Raises:
        ValueError: no such node, or one that computes otherwise: peepholes, ``clip``, other activations,
            ``input_forget``, direction "reverse", weights that are no constants.
        ImportError: onnx is not installed.
    """
    graph = _graph(source)
    found = recurrent_nodes(graph)
    if not found:
        raise ValueError("source has no GRU or LSTM node")
    if node is None:
        if len(found) > 1:
            raise ValueError(f"node is None, expected one of {', '.join(found)}, or a list of them")
        node = list(found)
    names = [node] if isinstance(node, str) else list(node)
    for name in names:
        if name not in found:
            raise ValueError(f"node is {name!r}, expected one of {', '.join(found)}")
    return sequence_module([_cells(found[name], graph) for name in names])


def _graph(source):
    onnx = require_onnx()
    if isinstance(source, onnx.ModelProto):
        return source.graph
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(source).graph
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise ValueError(f"{source} cannot be read: {str(error).splitlines()[0]}") from None


def recurrent_nodes(graph: Any) -> dict[str, Any]:
    """The GRU and LSTM nodes by name; one without a name is called by its first output."""
    nodes = [node for node in graph.node if node.op_type in ORDER and node.domain in ("", "ai.onnx")]
    return {node.name or next(filter(None, node.output)): node for node in nodes}


def refusal(node: Any) -> str | None:
    """What a node does that ours does not; None if it is nothing."""
    attributes = {a.name: require_onnx().helper.get_attribute_value(a) for a in node.attribute}
    direction = attributes.get("direction", b"forward").decode()
    if direction == "reverse":
        return "direction 'reverse', expected 'forward' or 'bidirectional'"
    wanted = _ACTIVATIONS[node.op_type] * (2 if direction == "bidirectional" else 1)
    activations = [a.decode() for a in attributes.get("activations", [])]
    if activations and [a.lower() for a in activations] != [a.lower() for a in wanted]:
        return f"activations {activations}, expected {wanted}"
    if attributes.get("clip", 0):
        return f"clip {attributes['clip']:g}, expected none"
    if attributes.get("input_forget", 0):
        return "input_forget 1, expected 0"
    if node.op_type == "LSTM" and len(node.input) > 7 and node.input[7]:
        return "peepholes (input P), expected none"
    return None


def _cells(node, graph):
    reason = refusal(node)
    if reason is not None:
        raise ValueError(f"node {node.name!r} is a {node.op_type} with {reason}")
    constant = _Constants(graph)
    attributes = {a.name: a for a in node.attribute}
    order, gates = ORDER[node.op_type], len(ORDER[node.op_type])
    recurrent = tensor("R", constant(node.input[2], node.name), None, None, None)
    directions, _, size = recurrent.shape
    tensor("R", recurrent, directions, gates * size, size)
    kernel = tensor("W", constant(node.input[1], node.name), directions, gates * size, None)
    bias = [None] * directions
    if len(node.input) > 3 and node.input[3]:
        bias = tensor("B", constant(node.input[3], node.name), directions, 2 * gates * size)
    after = node.op_type == "LSTM" or ("linear_before_reset" in attributes and attributes["linear_before_reset"].i)

    def read(d):
        biases = (None, None) if bias[d] is None else (reorder(b, order) for b in bias[d].chunk(2))
        weights = (reorder(x[d], order, 0) for x in (kernel, recurrent))
        return Cell(node.op_type.lower(), *weights, *biases, "after" if after else "before")

    return [read(d) for d in range(directions)]


class _Constants:
    """The values of a graph that depend on no input: exporters slice and join weights in the graph."""

    def __init__(self, graph):
        self.initializers = {x.name: x for x in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}

    def __call__(self, name, reader):
        onnx = require_onnx()
        if name in self.initializers:
            return torch.from_numpy(onnx.numpy_helper.to_array(self.initializers[name]).copy())
        if name not in self.producers:
            raise ValueError(f"node {reader!r} reads {name!r}, which is no constant: its weights come from outside")
        from onnx.reference import ReferenceEvaluator

        node = self.producers[name]
        inputs = {x: self(x, reader).numpy() for x in node.input if x}
        found = ReferenceEvaluator(node).run(None, inputs)
        return torch.from_numpy(found[list(node.output).index(name)].copy())
