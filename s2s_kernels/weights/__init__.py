"""Weights of models trained elsewhere: in, to the same numbers, and out again.

One function for each source takes the framework's own object or arrays and returns a module of ``s2s_kernels.nn``, or
says in a ValueError what it would compute otherwise. No framework is imported, and no pickle of a file is executed.

>>> gru = weights.keras_layer(layer)  # Keras
>>> lstm = weights.flax_layer(variables["params"])  # Flax, linen or nnx; and haiku_layer, equinox_layer
>>> gru = weights.onnx_layer("model.onnx")  # a GRU or LSTM node
>>> layer.set_weights(weights.to_keras(gru)[0])  # and back: to_keras, to_flax, to_onnx

Each was compared with the framework itself: docs/interop.md.
"""

from .flashrnn import flashrnn_layer
from .haste import haste_layer
from .jax_trees import equinox_layer, flax_layer, haiku_layer, to_flax
from .keras import keras_gru, keras_layer, keras_lstm, to_keras
from .mlx import mlx_layer
from .onnx_in import onnx_layer
from .onnx_out import to_onnx
from .paddle import paddle_layer
from .tf1 import tf1_gru, tf1_lstm

__all__ = [
    "equinox_layer",
    "flashrnn_layer",
    "flax_layer",
    "haiku_layer",
    "haste_layer",
    "keras_gru",
    "keras_layer",
    "keras_lstm",
    "mlx_layer",
    "onnx_layer",
    "paddle_layer",
    "tf1_gru",
    "tf1_lstm",
    "to_flax",
    "to_keras",
    "to_onnx",
]
