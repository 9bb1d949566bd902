"""A GRU or LSTM layer, forward, in the runtimes that people serve models with; each an optional import.

Every function takes ``"gru"`` or ``"lstm"``, a torch.nn layer (batch first, one direction) and x (B, T, I), and returns
what is timed: a call gives the output (B, T, H).
"""

import numpy as np
import torch


def s2s_kernels(op, layer, x):
    import s2s_kernels as sk

    return eager(op, sk.convert(layer), x)


def eager(op, layer, x):
    def step():
        with torch.no_grad():
            return layer(x)[0]

    return step


def arrays(layer):
    return [getattr(layer, f"{name}_l0").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def jax(op, layer, x):
    import jax
    from jax import numpy as jnp

    w_ih, w_hh, b_ih, b_hh = map(jnp.asarray, arrays(layer))
    hidden, x = w_hh.shape[1], jnp.asarray(x.numpy())

    def gru(state, gates_x):
        h = state[0]
        gates_h = h @ w_hh.T + b_hh
        r, z = jnp.split(jax.nn.sigmoid((gates_x + gates_h)[:, : 2 * hidden]), 2, -1)
        n = jnp.tanh(gates_x[:, 2 * hidden :] + r * gates_h[:, 2 * hidden :])
        h = n + z * (h - n)
        return (h,), h

    def lstm(state, gates_x):
        h, c = state
        i, f, g, o = jnp.split(gates_x + h @ w_hh.T + b_hh, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    @jax.jit
    def run(x):
        zero = jnp.zeros((x.shape[0], hidden), x.dtype)
        step, state = (gru, (zero,)) if op == "gru" else (lstm, (zero, zero))
        return jax.lax.scan(step, state, jnp.swapaxes(x @ w_ih.T + b_ih, 0, 1))[1].swapaxes(0, 1)

    return lambda: run(x).block_until_ready()


def jax_attention_gru(inputs, cotangents):
    """The attention decoder forward and backward: a call gives the gradients of ``inputs``, by their names."""
    import jax
    from jax import numpy as jnp

    inputs, grads = (
        {name: jnp.asarray(x.detach().float().numpy()) for name, x in of.items()} for of in (inputs, cotangents)
    )
    hidden = inputs["h0"].shape[1]

    def loss(p):
        width = p["x"].shape[-1]
        gates_x = p["x"] @ p["weight_ih"][:, :width].T + p["bias_ih"]

        def attend(h):
            query = h @ p["w_query"].T + p["b_query"]
            scores = jnp.tanh(query[:, None] + p["keys"]) @ p["v"]
            return jnp.einsum("bs,bsd->bd", jax.nn.softmax(scores, -1), p["values"])

        def step(state, gates):
            h, context = state
            gates_h = h @ p["weight_hh"].T + p["bias_hh"]
            gates = gates + context @ p["weight_ih"][:, width:].T
            r, z = jnp.split(jax.nn.sigmoid(gates[:, : 2 * hidden] + gates_h[:, : 2 * hidden]), 2, -1)
            n = jnp.tanh(gates[:, 2 * hidden :] + r * gates_h[:, 2 * hidden :])
            h = n + z * (h - n)
            context = attend(h)
            return (h, context), (h, context)

        first = attend(p["h0"])
        states, contexts = jax.lax.scan(step, (p["h0"], first), gates_x.swapaxes(0, 1))[1]
        contexts = jnp.concatenate([first[None], contexts])
        made = {"states": states, "contexts": contexts}
        return sum((y.swapaxes(0, 1) * grads[name]).sum() for name, y in made.items())

    run = jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(run(inputs))


def torchrl(op, layer, x):
    """In TorchRL's recurrent mode, on its scan backend."""
    from . import torchrl_scan

    made = torchrl_scan.module(op, x.shape[2], layer.hidden_size)
    getattr(made, op).load_state_dict(layer.state_dict())

    def step():
        with torch.no_grad():
            return torchrl_scan.layer(made, op, x)[0]

    return step


def onnx_model(op, layer, x):
    """The layer as one node of ONNX, whose gates have another order; sequence first."""
    from onnx import TensorProto, helper, numpy_helper

    order = [1, 0, 2] if op == "gru" else [0, 3, 1, 2]
    (_, time, width), hidden = x.shape, layer.hidden_size
    w_ih, w_hh, b_ih, b_hh = (np.concatenate([np.split(a, len(order))[i] for i in order]) for a in arrays(layer))
    made = {"W": w_ih[None], "R": w_hh[None], "B": np.concatenate([b_ih, b_hh])[None]}
    extra = {"linear_before_reset": 1} if op == "gru" else {}
    node = helper.make_node(op.upper(), ["x", "W", "R", "B"], ["y"], hidden_size=hidden, **extra)
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [time, x.shape[0], width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [time, 1, x.shape[0], hidden])],
        [numpy_helper.from_array(a, name) for name, a in made.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model.SerializeToString()


def batch_first(y):
    return y[:, 0].swapaxes(0, 1)


def onnxruntime(op, layer, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx_model(op, layer, x), options, providers=["CPUExecutionProvider"])
    feed = {"x": np.ascontiguousarray(x.numpy().swapaxes(0, 1))}
    return lambda: batch_first(session.run(None, feed)[0])


def openvino(op, layer, x):
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = core.compile_model(core.read_model(onnx_model(op, layer, x)), "CPU", options)
    feed = np.ascontiguousarray(x.numpy().swapaxes(0, 1))
    return lambda: batch_first(next(iter(model([feed]).values())))


RUNTIMES = {
    "s2s_kernels": s2s_kernels,
    "torch.nn": eager,
    "jax.lax.scan": jax,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "torchrl": torchrl,
}


def layer_of(op, hidden):
    torch.manual_seed(0)
    return getattr(torch.nn, op.upper())(hidden, hidden, batch_first=True)
