"""Modules as graphs of plain ONNX operators, for ONNX Runtime and others: no operator of ours, no torch.

A graph is made of the weights alone, so that the same module gives the same graph at every export, with dynamic batch
and length.
"""

from typing import Any

from torch import nn

from ..nn import AttentionGRU, AttentionLSTM
from .layout import cells_of
from .onnx_attention import attention_graph
from .onnx_graph import Graph, recurrent_node, step
from .onnx_in import require_onnx


def to_onnx(module: nn.Module, path: Any = None, *, part: str = "step") -> Any:
    """An ``onnx.ModelProto`` of a module, written to ``path`` too if that is given.

    - GRU, LSTM, ResetBeforeGRU: inputs ``x`` (B, T, I), without batch_first (T, B, I), ``lengths`` (B,) int32 and the
      states ``h0`` (and ``c0``) (L*D, B, H); outputs ``output``, ``h_n`` (and ``c_n``).
    - GRUCell, LSTMCell: ``x`` (B, I), ``h`` (``c``) -> ``h_n`` (``c_n``).
    - AttentionGRU, AttentionLSTM: ``part="start"`` makes the keys of a memory and the first feed, ``part="step"`` is
      one step; the names are those of ``s2s_kernels.nn.AttentionGRU``. ``lengths`` (B,) int64.

    Raises:
        TypeError: another module. ValueError: a form that has no such graph, or an unknown part.
        ImportError: onnx is not installed.
    """
    if part not in ("start", "step"):
        raise ValueError(f"part is {part!r}, expected 'start' or 'step'")
    if isinstance(module, (AttentionGRU, AttentionLSTM)):
        made = attention_graph(module, part)
    else:
        layers = cells_of(module)
        made = _cell_graph(layers[0][0]) if isinstance(module, nn.RNNCellBase) else _sequence_graph(module, layers)
    if path is not None:
        require_onnx().save(made, path)
    return made


def _sequence_graph(module, layers):
    kind, (inputs, size), directions = layers[0][0].kind, layers[0][0].sizes, len(layers[0])
    graph = Graph(kind, layers[0][0].weight_ih.dtype)
    shape = ("B", "T") if module.batch_first else ("T", "B")
    x = graph.input("x", *shape, inputs)
    lengths = graph.input("lengths", "B", dtype=graph.onnx.TensorProto.INT32)
    names = ("h", "c")[: 2 if kind == "lstm" else 1]
    count = len(layers) * directions
    first = [graph.input(f"{name}0", count, "B", size) for name in names]
    if module.batch_first:
        x = graph.add("Transpose", x, perm=[1, 0, 2])
    if len(layers) > 1:
        parts = graph.constant("layers", [directions] * len(layers))
        first = [graph.add("Split", state, parts, outputs=len(layers), axis=0) for state in first]
    else:
        first = [[state] for state in first]
    last = []
    flat = graph.constant("flat", [0, 0, -1])
    for i, layer in enumerate(layers):
        y, *states = recurrent_node(graph, layer, x, lengths, *(state[i] for state in first))
        x = graph.add("Reshape", graph.add("Transpose", y, perm=[0, 2, 1, 3]), flat)  # (T, B, D*H)
        last.append(states)
    if module.batch_first:
        x = graph.add("Transpose", x, perm=[1, 0, 2])
    graph.output("output", x, *shape, directions * size)
    for name, states in zip(names, zip(*last)):
        joined = states[0] if len(states) == 1 else graph.add("Concat", *states, axis=0)
        graph.output(f"{name}_n", joined, count, "B", size)
    return graph.model()


def _cell_graph(cell):
    graph, (inputs, size) = Graph(cell.kind, cell.weight_ih.dtype), cell.sizes
    x = graph.input("x", "B", inputs)
    states = [graph.input(name, "B", size) for name in ("h", "c")[: 2 if cell.kind == "lstm" else 1]]
    for name, state in zip(("h_n", "c_n"), step(graph, cell, x, states)):
        graph.output(name, state, "B", size)
    return graph.model()
