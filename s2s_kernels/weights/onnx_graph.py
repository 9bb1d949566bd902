"""ONNX graphs as they are made: nodes and constants, and the recurrent layer that all of them have."""

from typing import Any

import torch

from .layout import array, both_biases, reorder
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


def step(graph: Graph, cell: Any, x: str, states: list[str]) -> list[str]:
    """The states (B, H) after one step of x (B, I): a sequence of one."""
    first = graph.constant("axis", [0])
    x, *states = (graph.add("Unsqueeze", value, first) for value in (x, *states))
    _, *new = recurrent_node(graph, [cell], x, "", *states)
    return [graph.add("Squeeze", state, first) for state in new]
