"""What is recorded for another runtime must be made of operators that this runtime has."""

import sys

import torch


def recorded():
    """Whether torch.jit.trace or an ONNX export is recording: modules then compute as torch.nn's."""
    return not torch.compiler.is_dynamo_compiling() and (torch._C._is_tracing() or for_onnx())


def for_onnx():
    """Whether an ONNX export, of either exporter, is recording: ops then run as the reference."""
    if torch.compiler.is_dynamo_compiling() or not (torch._C._is_tracing() or torch.compiler.is_exporting()):
        return False
    return "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()
