#!/usr/bin/env bash
# ONNX Runtime 1.32.0 and OpenVINO 2026.4.1: a row whose sequence_lens is 0 ends in zeros, not in its initial state: Y_h,
# and an LSTM's Y_c, of GRU, LSTM and RNN, forward and in reverse. A recognizer that carries the states of several
# streams from chunk to chunk as initial_h forgets a stream in every chunk that has nothing new of it, while a row of one
# step goes on from its state as it should. Nothing is said; both do the same, so that comparing them shows nothing.
# Seen: zeros in all elements.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
import openvino
from onnx import TensorProto, helper

STEPS, INPUTS, UNITS, LENGTHS = 5, 3, 4, np.array([5, 0, 1], np.int32)


def results(op, gates, direction):
    random = np.random.default_rng(0)
    shapes = {"W": (1, gates * UNITS, INPUTS), "R": (1, gates * UNITS, UNITS)}
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    states = ["h0", "c0"] if op == "LSTM" else ["h0"]
    feed = {"X": random.standard_normal((STEPS, len(LENGTHS), INPUTS)).astype(np.float32), "lengths": LENGTHS}
    feed |= {name: random.standard_normal((1, len(LENGTHS), UNITS)).astype(np.float32) for name in states}
    outputs = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    node = helper.make_node(
        op, ["X", "W", "R", "", "lengths", *states], outputs, hidden_size=UNITS, direction=direction
    )
    model = helper.make_model(
        helper.make_graph(
            [node], "g",
            [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in feed.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [helper.make_tensor(name, TensorProto.FLOAT, x.shape, x.ravel()) for name, x in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 22)], ir_version=10,
    ).SerializeToString()
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    one = list(compiled({i.get_any_name(): feed[i.get_any_name()] for i in compiled.inputs}).values())
    two = onnxruntime.InferenceSession(model).run(None, feed)
    return {"OpenVINO": one, "ONNX Runtime": two}, [feed[name] for name in states]


for op, gates in (("GRU", 3), ("LSTM", 4), ("RNN", 1)):
    for direction in ("forward", "reverse"):
        found, initial = results(op, gates, direction)
        for name, (_, *ends) in found.items():
            zeros = all((end[0, 1] == 0).all() for end in ends)
            print(f"{op} {direction}, {name}: a row of no steps ends in zeros: {zeros}")
            assert zeros and all((state[0, 1] != 0).all() for state in initial)
            assert all((end[0, [0, 2]] != 0).all() for end in ends)
PYTHON
echo "still so"
