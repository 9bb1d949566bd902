"""The former name of ``s2s_kernels.weights``: Keras' and TensorFlow 1's cells in the layout of torch.nn."""

from s2s_kernels.weights import keras_gru, keras_lstm, tf1_gru, tf1_lstm

__all__ = ["keras_gru", "keras_lstm", "tf1_gru", "tf1_lstm"]
