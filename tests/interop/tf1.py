"""TensorFlow 1's GRUCell, BasicLSTMCell and LSTMCell, which TensorFlow 2 still carries, in graph mode."""

import numpy as np
import tensorflow as tf
from tensorflow.python.keras.layers.legacy_rnn import rnn_cell_impl

from .case import B, Case, H, T, cotangent, filled, inputs, random

PINS = [
    "tensorflow-cpu==2.20.0",
    "absl-py==2.5.1",
    "astunparse==1.6.3",
    "gast==0.7.0",
    "google-pasta==0.2.0",
    "h5py==3.16.0",
    "keras==3.15.1",
    "libclang==18.1.1",
    "namex==0.1.0",
    "opt_einsum==3.4.0",
    "optree==0.20.0",
    "requests==2.34.2",
    "six==1.17.0",
    "termcolor==3.3.0",
    "wrapt==2.5.2",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "idna==3.20",
    "urllib3==2.8.0",
    "wheel==0.48.0",
    "grpcio==1.85.3",
]
tf.compat.v1.disable_eager_execution()


def case(name, cell, make, keep=False):
    """``make(variables)`` -> the weights by the names of our arguments; here of tensors, to have their gradients."""
    with tf.Graph().as_default():
        x = tf.constant(inputs())
        own = cell()
        state, outputs = own.zero_state(B, tf.float32), []
        for t in range(T):
            y, state = own(x[:, t], state)
            outputs.append(y)
        output = tf.stack(outputs, 1)
        last = [state.h, state.c] if hasattr(state, "c") else [state]
        variables = {v.name.split("/", 1)[-1].split(":")[0]: v for v in own.variables}
        named = make(variables)
        weight = tf.constant(cotangent(np.zeros((B, T, H))))
        gradients = tf.compat.v1.gradients(tf.reduce_sum(output * weight), [x, *named.values()])
        with tf.compat.v1.Session() as session:
            generator = random(len(name))
            for v in own.variables:
                session.run(tf.compat.v1.assign(v, filled(v.shape.as_list(), generator)))
            values, output, last, gradients = session.run([list(named.values()), output, last, gradients])
    return Case(
        name,
        "tf1",
        dict(zip(named, values)),
        inputs(),
        output,
        [s[None] for s in last],
        {"cell": "gru" if len(last) == 1 else "lstm"},
        dict(zip(["x", *named], gradients)),
        keep=keep,
    )


def cases():
    def gru(v):
        sides = ("gates", "candidate")
        return {f"{side}_{part}": v[f"{side}/{part}"] for side in sides for part in ("kernel", "bias")}

    def lstm(v):
        return {"kernel": v["kernel"], "bias": v["bias"]}

    yield case("GRUCell", lambda: rnn_cell_impl.GRUCell(H), gru, keep=True)
    yield case("BasicLSTMCell", lambda: rnn_cell_impl.BasicLSTMCell(H), lstm, keep=True)
    yield case("LSTMCell", lambda: rnn_cell_impl.LSTMCell(H), lstm)
