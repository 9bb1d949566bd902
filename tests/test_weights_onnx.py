"""Modules as plain ONNX, run in ONNX Runtime; and ONNX' recurrent nodes as modules."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import s2s_kernels as sk
from s2s_kernels import weights
from s2s_kernels.weights.onnx_graph import OPSET

I, H, D, A = 4, 6, 5, 7
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}  # float32, other kernels


def run(model, **inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {name: x.numpy() for name, x in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, found)))


def biased(module):
    """Biases of a visible size, also where initial ones are zero."""
    with torch.no_grad():
        for x in module.parameters():
            x.normal_(std=0.5)
    return module.eval()


SEQUENCES = {
    "gru": lambda: sk.nn.GRU(I, H, batch_first=True),
    "gru without bias, time first": lambda: sk.nn.GRU(I, H, bias=False),
    "2-layer bidirectional gru": lambda: sk.nn.GRU(I, H, 2, batch_first=True, bidirectional=True),
    "reset before": lambda: sk.nn.ResetBeforeGRU(I, H, batch_first=True),
    "lstm": lambda: sk.nn.LSTM(I, H, batch_first=True),
    "3-layer lstm": lambda: sk.nn.LSTM(I, H, 3),
    "bidirectional lstm": lambda: sk.nn.LSTM(I, H, batch_first=True, bidirectional=True),
    "torch's": lambda: nn.LSTM(I, H, batch_first=True),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_in_onnx_runtime(name):
    module = biased(SEQUENCES[name]())
    lstm, model = isinstance(module, nn.LSTM), weights.to_onnx(module)
    count = module.num_layers * (2 if module.bidirectional else 1)
    for batch, steps in ((3, 5), (1, 1), (2, 9)):  # one graph for all
        x = torch.randn(batch, steps, I) if module.batch_first else torch.randn(steps, batch, I)
        states = [torch.randn(count, batch, H) for _ in range(2 if lstm else 1)]
        lengths = torch.randint(1, steps + 1, (batch,), dtype=torch.int32)
        found = run(model, x=x, lengths=lengths, **dict(zip(("h0", "c0"), states)))
        ours = sk.convert(module)
        with torch.no_grad():
            output, last = ours(x, tuple(states) if lstm else states[0], lengths=lengths)
        torch.testing.assert_close(found["output"], output, **TOLERANCE)
        for key, state in zip(("h_n", "c_n"), last if lstm else (last,)):
            torch.testing.assert_close(found[key], state, **TOLERANCE)


@pytest.mark.parametrize("name", SEQUENCES)
def test_there_and_back_to_the_bit(name, tmp_path):
    module = biased(SEQUENCES[name]())
    path = tmp_path / "model.onnx"
    weights.to_onnx(module, path)
    names = [node.name for node in onnx.load(path).graph.node if node.op_type in ("GRU", "LSTM")]
    back = weights.onnx_layer(str(path), names)
    assert isinstance(back, type(SEQUENCES[name]()).__mro__[1 if name == "torch's" else 0]) and back.batch_first
    for key, x in module.state_dict().items():
        assert torch.equal(back.state_dict()[key], x), key


@pytest.mark.parametrize("kind", [sk.nn.GRUCell, sk.nn.LSTMCell, sk.nn.ResetBeforeGRUCell])
def test_a_cell(kind):
    cell, x = biased(kind(I, H)), torch.randn(3, I)
    states = [torch.randn(3, H) for _ in range(2 if kind is sk.nn.LSTMCell else 1)]
    found = run(weights.to_onnx(cell), x=x, **dict(zip("hc", states)))
    with torch.no_grad():
        expected = cell(x, tuple(states) if len(states) == 2 else states[0])
    for key, state in zip(("h_n", "c_n"), expected if len(states) == 2 else (expected,)):
        torch.testing.assert_close(found[key], state, **TOLERANCE)


@pytest.mark.parametrize("options", [{}, {"feed_size": 3}, {"num_heads": 2}, {"normalize": True, "bias": False}])
@pytest.mark.parametrize("kind", [sk.nn.AttentionGRU, sk.nn.AttentionLSTM])
def test_the_attention_decoder_step_by_step(kind, options):
    """A loop of the two graphs equals ``forward``, for a row without source too, and NaN past lengths is not seen."""
    decoder, (B, T, S) = biased(kind(I, H, D, A, **options)), (3, 4, 6)
    x, memory, lengths = torch.randn(B, T, I), torch.randn(B, S, D), torch.tensor([6, 2, 0])
    states = [torch.randn(B, H) for _ in range(2 if kind is sk.nn.AttentionLSTM else 1)]
    with torch.no_grad():
        out = decoder(x, tuple(states) if len(states) == 2 else states[0], memory, lengths=lengths)
    memory[torch.arange(S) >= lengths[:, None]] = float("nan")
    start, step = weights.to_onnx(decoder, part="start"), weights.to_onnx(decoder)
    found = run(start, memory=memory, lengths=lengths, **dict(zip(("h0", "c0"), states)))
    given = {"memory": memory, "keys": found["keys"], "lengths": lengths}
    feed, known = found["feed"], dict(zip("hc", states))
    for t in range(T + 1):
        for key, expected in (("context", out.contexts), ("weights", out.weights)):
            torch.testing.assert_close(found[key], expected[:, t], **TOLERANCE)
        torch.testing.assert_close(feed, out.feeds[:, t], **TOLERANCE)
        if t < T:
            found = run(step, x=x[:, t], feed=feed, **known, **given)
            known, feed = {key: found[f"{key}_n"] for key in known}, found["feed_n"]
            torch.testing.assert_close(known["h"], out.states[:, t], **TOLERANCE)


def test_a_decoder_of_another_form_is_refused():
    decoder = sk.nn.AttentionGRU(I, H, D, A)
    decoder.location = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"module has location\.weight, which the graph"):
        weights.to_onnx(decoder)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: weights.to_onnx(nn.Linear(2, 2)), TypeError, "module is a Linear, expected a GRU"),
        (lambda: weights.to_onnx(sk.nn.GRU(2, 2), part="all"), ValueError, "part is 'all', expected 'start' or 'step'"),
        (lambda: weights.to_onnx(sk.nn.GRU(2, 2).bfloat16()), TypeError, "dtype torch.bfloat16, which numpy has not"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Other people's graphs.


def graph_of(op="GRU", extra=(), constant=True, **attributes):
    """A model of one node with random weights."""
    gates, random = {"GRU": 3, "LSTM": 4}[op], np.random.default_rng(0)
    arrays = {"W": (1, gates * H, I), "R": (1, gates * H, H), "B": (1, 2 * gates * H), "P": (1, 3 * H)}
    arrays = {name: random.standard_normal(shape).astype(np.float32) for name, shape in arrays.items()}
    inputs = ["x", "W", "R", "B", *extra]
    node = helper.make_node(op, inputs, ["", "h"], name="rnn", hidden_size=H, **attributes)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("T", "B", I))]
    if not constant:
        values.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, arrays["W"].shape))
    initializers = [numpy_helper.from_array(x, name) for name, x in arrays.items() if name in inputs]
    initializers = [x for x in initializers if constant or x.name != "W"]
    last = helper.make_tensor_value_info("h", TensorProto.FLOAT, (1, "B", H))
    graph = helper.make_graph([node], "g", values, [last], initializers)
    # Not onnx's newest, which the newest ONNX Runtime of an old Python need not know.
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)])


@pytest.mark.parametrize("before_reset", [0, 1])
def test_a_node_is_read_as_onnx_runtime_runs_it(before_reset):
    model = graph_of(linear_before_reset=before_reset)
    gru, x = weights.onnx_layer(model), torch.randn(2, 5, I)
    assert isinstance(gru, sk.nn.ResetBeforeGRU) == (before_reset == 0)
    torch.testing.assert_close(gru(x)[1], run(model, x=x.transpose(0, 1).contiguous())["h"], **TOLERANCE)


@pytest.mark.parametrize(
    "model, message",
    [
        (graph_of("LSTM", ["", "", "", "P"]), "node 'rnn' is a LSTM with peepholes"),
        (graph_of(clip=3.0), "with clip 3, expected none"),
        (graph_of("LSTM", input_forget=1), "with input_forget 1"),
        (graph_of(direction="reverse"), "with direction 'reverse'"),
        (graph_of(activations=["HardSigmoid", "Tanh"]), "with activations ['HardSigmoid', 'Tanh'], expected"),
        (graph_of(constant=False), "reads 'W', which is no constant"),
    ],
)
def test_a_node_that_computes_otherwise_is_refused(model, message):
    with pytest.raises(ValueError) as error:
        weights.onnx_layer(model)
    assert message in str(error.value)


def test_which_node_is_asked():
    two = weights.to_onnx(sk.nn.GRU(I, H, 2, batch_first=True))
    with pytest.raises(ValueError, match="node is None, expected one of GRU_"):
        weights.onnx_layer(two)
    with pytest.raises(ValueError, match="node is 'encoder', expected one of GRU_"):
        weights.onnx_layer(two, "encoder")


@pytest.mark.parametrize("name", ["missing", "damaged"])
def test_no_graph_is_a_sentence(tmp_path, name):
    (tmp_path / "damaged").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        weights.onnx_layer(str(tmp_path / name))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_what_torch_exports_is_read(kind, tmp_path):
    """Its exporter slices and joins the weights within the graph."""
    module, x = biased(kind(I, H, 2, batch_first=True)), torch.randn(2, 5, I)
    torch.onnx.export(module, (x,), tmp_path / "model.onnx", dynamo=True, verbose=False, external_data=False)
    model = onnx.load(tmp_path / "model.onnx")
    names = [node.name for node in model.graph.node if node.op_type in ("GRU", "LSTM")]
    back = weights.onnx_layer(model, names)
    torch.testing.assert_close(back(x)[0], module(x)[0], **TOLERANCE)
    for key, value in module.state_dict().items():
        assert torch.equal(back.state_dict()[key], value), key
