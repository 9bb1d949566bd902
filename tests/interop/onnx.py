"""ONNX Runtime: recurrent nodes read as our modules, and our modules written as graphs."""

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import s2s_kernels as sk
from s2s_kernels import weights

from .case import Case, H, I, filled, inputs, random

PINS = ["onnxruntime==1.32.0"]


def run(model, names, **arrays):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, arrays)


def case(name, op, directions=1, bias=True, **attributes):
    gates, generator = {"GRU": 3, "LSTM": 4}[op], random(len(name))
    arrays = {"W": (directions, gates * H, I), "R": (directions, gates * H, H), "B": (directions, 2 * gates * H)}
    arrays = {n: filled(shape, generator) for n, shape in list(arrays.items())[: 3 if bias else 2]}
    direction = "bidirectional" if directions == 2 else "forward"
    states = ["h", "c"][: 1 if op == "GRU" else 2]
    node = helper.make_node(op, ["x", *arrays], ["y", *states], "rnn", hidden_size=H, direction=direction, **attributes)
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", *states)]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("T", "B", I))],
        outputs,
        [numpy_helper.from_array(x, n) for n, x in arrays.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    y, *last = run(model, ["y", *states], x=inputs().transpose(1, 0, 2).copy())
    y = y.transpose(2, 0, 1, 3).reshape(y.shape[2], y.shape[0], -1)
    return Case(name, "onnx", {"model": np.frombuffer(model.SerializeToString(), np.uint8)}, inputs(), y, last)


def cases():
    yield case("GRU, linear_before_reset=1", "GRU", linear_before_reset=1)
    yield case("GRU, linear_before_reset=0", "GRU")
    yield case("GRU without bias", "GRU", bias=False, linear_before_reset=1)
    yield case("bidirectional GRU", "GRU", 2, linear_before_reset=1)
    yield case("LSTM", "LSTM")
    yield case("bidirectional LSTM", "LSTM", 2)
    yield case("LSTM, activations spelt out", "LSTM", activations=["Sigmoid", "Tanh", "Tanh"])


def written(module, lengths=(5, 2, 3)):
    """to_onnx of a sequence, with lengths and states, against the module."""
    x, count = torch.from_numpy(inputs()), module.num_layers * (2 if module.bidirectional else 1)
    lengths = torch.tensor(lengths, dtype=torch.int32)
    states = [torch.from_numpy(inputs(seed, count, 3, H)) for seed in range(2 if isinstance(module, sk.nn.LSTM) else 1)]
    with torch.no_grad():
        output, last = module(x, tuple(states) if len(states) == 2 else states[0], lengths=lengths)
    names = ["output", "h_n", "c_n"][: 1 + len(states)]
    arrays = {n: s.numpy() for n, s in zip(("h0", "c0"), states)}
    found = run(weights.to_onnx(module), names, x=x.numpy(), lengths=lengths.numpy(), **arrays)
    expected = [output, *(last if isinstance(last, tuple) else (last,))]
    worst = max(np.abs(a - b.numpy()).max() for a, b in zip(found, expected, strict=True))
    return "" if worst <= 2e-6 else f"differs by {worst:.2g}"


def checks():
    torch.manual_seed(0)
    for name, module in [
        ("GRU", sk.nn.GRU(I, H, batch_first=True)),
        ("2-layer bidirectional GRU", sk.nn.GRU(I, H, 2, batch_first=True, bidirectional=True)),
        ("ResetBeforeGRU", sk.nn.ResetBeforeGRU(I, H, batch_first=True)),
        ("LSTM", sk.nn.LSTM(I, H, batch_first=True)),
        ("2-layer bidirectional LSTM", sk.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True)),
    ]:
        yield f"to_onnx: {name} with lengths and states", written(module)
