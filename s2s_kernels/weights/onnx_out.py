"""Modules as graphs of plain ONNX operators, for ONNX Runtime and others: no operator of ours, no torch.

A graph is made of the weights alone, so that the same module gives the same graph at every export, with dynamic batch
and length.
"""

from typing import Any

import torch
from torch import nn

from ..nn import AttentionGRU, AttentionLSTM
from .layout import array, both_biases, cells_of, reorder
from .onnx_in import ORDER, require_onnx

OPSET = 17  # of 2022: what deployed runtimes read
_INVERSE = {kind: tuple(order.index(i) for i in range(len(order))) for kind, order in ORDER.items()}


class Graph:
    """Nodes, initializers, inputs and outputs, as they are added."""

    def __init__(self, name, dtype):
        self.onnx = require_onnx()
        self.name, self.nodes, self.initializers, self.inputs, self.outputs = name, [], [], [], []
        self.dtype = self.onnx.helper.np_dtype_to_tensor_dtype(array(torch.empty(0, dtype=dtype)).dtype)

    def add(self, op: str, *inputs: str, outputs: Any = 1, **attributes: Any) -> Any:
        """The name of the node's output, or their list."""
        names = [f"{op}_{len(self.nodes)}_{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), names, name=name, **attributes))
        return names[0] if len(names) == 1 else names

    def constant(self, name: str, x: Any) -> str:
        """An initializer: a tensor, or a list of whole numbers."""
        x = array(x if isinstance(x, torch.Tensor) else torch.tensor(x))
        name = f"{name}_{len(self.initializers)}"
        self.initializers.append(self.onnx.numpy_helper.from_array(x, name))
        return name

    def input(self, name: str, *shape: Any, dtype: int | None = None) -> str:
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, dtype or self.dtype, shape))
        return name

    def output(self, name: str, value: str, *shape: Any) -> None:
        self.add("Identity", value, outputs=[name])
        self.outputs.append(self.onnx.helper.make_tensor_value_info(name, self.dtype, shape))

    def model(self) -> Any:
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        opset = helper.make_opsetid("", OPSET)
        made = helper.make_model_gen_version(graph, opset_imports=[opset], producer_name="s2s_kernels")
        self.onnx.checker.check_model(made, full_check=True)
        return made


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
        from .onnx_attention import attention_graph

        made = attention_graph(module, part)
    else:
        layers = cells_of(module)
        made = _cell_graph(layers[0][0]) if isinstance(module, nn.RNNCellBase) else _sequence_graph(module, layers)
    if path is not None:
        require_onnx().save(made, path)
    return made


def recurrent_node(graph: Graph, layer: Any, x: str, lengths: str, *states: str) -> list[str]:
    """[Y (T, D, B, H), h_n (D, B, H), and of an LSTM c_n] of one layer over x (T, B, I)."""
    kind, size = layer[0].kind.upper(), layer[0].sizes[1]

    def weights(pick):
        return torch.stack([reorder(pick(cell), _INVERSE[kind], 0) for cell in layer])

    inputs = [
        x,
        graph.constant("W", weights(lambda cell: cell.weight_ih)),
        graph.constant("R", weights(lambda cell: cell.weight_hh)),
        "",
    ]
    if both_biases(layer[0])[0] is not None:
        sides = [weights(lambda cell, i=i: both_biases(cell)[i]) for i in range(2)]
        inputs[3] = graph.constant("B", torch.cat(sides, 1))
    attributes = {"hidden_size": size, "direction": "bidirectional" if len(layer) == 2 else "forward"}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(layer[0].reset == "after")
    names = [f"{kind}_{len(graph.nodes)}_{name}" for name in ("Y", "h", "c")[: 2 if kind == "GRU" else 3]]
    return graph.add(kind, *inputs, lengths, *states, outputs=names, **attributes)


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


def step(graph: Graph, cell: Any, x: str, states: list[str]) -> list[str]:
    """The states (B, H) after one step of x (B, I): a sequence of one."""
    first = graph.constant("axis", [0])
    x, *states = (graph.add("Unsqueeze", value, first) for value in (x, *states))
    _, *new = recurrent_node(graph, [cell], x, "", *states)
    return [graph.add("Squeeze", state, first) for state in new]
