#!/usr/bin/env bash
# PyTorch 2.13.0, onnxscript 0.7.2: torch.onnx.export(dynamo=True) of an nn.GRU with a dynamic length keeps it dynamic only
# in the first export of a process. The second, of the same module with the same arguments, raises nothing and has the
# length of the example; and the output is declared with that length in both:
#   1: input ['B', 'T', 4], output ['B', 5, 6]
#   2: input ['B', 5, 4], output ['B', 5, 6]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn

module, x, found = nn.GRU(4, 6, batch_first=True), torch.randn(3, 5, 4), []
dynamic = ({0: torch.export.Dim("B"), 1: torch.export.Dim("T")},)
for i in (1, 2):
    graph = torch.onnx.export(module, (x,), dynamo=True, verbose=False, dynamic_shapes=dynamic).model_proto.graph
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (graph.input[0], graph.output[0])
    ]
    print(f"{i}: input {shapes[0]}, output {shapes[1]}")
    found.append(shapes)
assert found == [[["B", "T", 4], ["B", 5, 6]], [["B", 5, 4], ["B", 5, 6]]]
PYTHON
echo "still so"
