#!/usr/bin/env bash
# onnx 1.23.2: its reference evaluator, which is there to say what an operator means, takes four of the ways in which a
# GRU or LSTM may be told to compute something else, and computes the plain one, without a word: sequence_lens (rows run
# on over their padding, in Y, Y_h and Y_c), clip, activations, and an LSTM's input_forget; of an RNN the first two. A
# model that a test holds against it is held against another. ONNX Runtime 1.32.0 heeds all four.
# Seen: the evaluator's outputs are equal in all bits with and without each of them; ONNX Runtime's are not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

STEPS, ROWS, INPUTS, UNITS = 5, 3, 3, 4
onnxruntime.set_default_logger_severity(4)


def results(op, gates, activations, clip=None, input_forget=None, lengths=None):
    random = np.random.default_rng(0)
    shapes = {"W": (1, gates * UNITS, INPUTS), "R": (1, gates * UNITS, UNITS), "B": (1, 2 * gates * UNITS)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    feed = {"X": random.standard_normal((STEPS, ROWS, INPUTS)).astype(np.float32)}
    if lengths:
        feed["lengths"] = np.array(lengths, np.int32)
    outputs = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    options = {"clip": clip, "input_forget": input_forget, "activations": activations}
    node = helper.make_node(
        op, ["X", "W", "R", "B", "lengths" if lengths else ""], outputs, hidden_size=UNITS,
        **{name: value for name, value in options.items() if value is not None},
    )
    types = {"X": TensorProto.FLOAT, "lengths": TensorProto.INT32}
    model = helper.make_model(
        helper.make_graph(
            [node], "g",
            [helper.make_tensor_value_info(name, types[name], x.shape) for name, x in feed.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [helper.make_tensor(name, TensorProto.FLOAT, x.shape, x.ravel()) for name, x in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 22)], ir_version=10,
    )
    runtime = onnxruntime.InferenceSession(model.SerializeToString())
    return ReferenceEvaluator(model).run(None, feed), runtime.run(None, feed)


for op, gates, relu in (("GRU", 3, ["Sigmoid", "Relu"]), ("LSTM", 4, ["Sigmoid", "Relu", "Relu"]), ("RNN", 1, None)):
    evaluator, runtime = results(op, gates, None)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(evaluator, runtime, strict=True)), "they agree on the plain one"
    told = [("sequence_lens", {"lengths": [5, 3, 1]}), ("clip", {"clip": 0.5})]
    told += [("activations", {"activations": relu})] if relu else []
    told += [("input_forget", {"input_forget": 1})] if op == "LSTM" else []
    for name, options in told:
        found, right = results(op, gates, **({"activations": None} | options))
        ignored = all(map(np.array_equal, found, evaluator))
        heeded = max(np.abs(a - b).max() for a, b in zip(right, runtime, strict=True))
        print(f"{op} {name}: the evaluator ignores it: {ignored}; ONNX Runtime's outputs change by up to {heeded:.2g}")
        assert ignored and heeded > 1e-2
PYTHON
echo "still so"
