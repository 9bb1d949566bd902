"""A user's script: every op, module, search and integration, called as documented. Type checkers accept it as it is."""

from pathlib import Path

import torch
from torch import Tensor, nn

import s2s
import s2s_kernels as sk
from s2s_kernels.integrations import coqui, d2l, doctr, espnet, joeynmt, opennmt_py, speechbrain, stanza, torchrl

x, query, keys, values = torch.randn(2, 4, 3), torch.randn(2, 5), torch.randn(2, 6, 5), torch.randn(2, 6, 7)
h0, c0, v = torch.zeros(2, 5), torch.zeros(2, 5), torch.randn(5)
lengths, mask = torch.tensor([6, 2]), torch.ones(2, 6, dtype=torch.bool)


def ops(weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, w_query: Tensor, embedding: Tensor) -> list[Tensor]:
    context, weights = sk.additive_attention(query, keys, values, v, lengths=lengths, mask=mask, bias=None)
    h = sk.gru_step(x[:, 0], x[:, 1], h0)
    h, c = sk.lstm_step(x[:, 0], x[:, 1], c0)
    output, h_n = sk.gru(x, h0, weight_ih, weight_hh, bias, bias, lengths=lengths, reverse=True)
    output, (h_n, c_n) = sk.lstm(x, (h0, c0), weight_ih, weight_hh, resets=mask, reset_states=(x, x))
    loss = sk.linear_cross_entropy(x[:, 0], embedding, None, lengths, label_smoothing=0.1)
    gru = sk.attention_gru(x, h0, keys, values, v, w_query, None, weight_ih, weight_hh, bias, bias, lengths=lengths)
    lstm = sk.attention_lstm(
        x, (h0, c0), keys, values, v, w_query, bias, weight_ih, weight_hh, query="c_h", feed="gate", w_feed=w_query
    )
    decoder = (keys, values, v, w_query, None, weight_ih, weight_hh, bias, bias, embedding, embedding, bias)
    found = sk.beam_search(h0, *decoder, bos=1, eos=2, max_length=9, beam=3, n_best=2, readout="state_context")
    best = sk.greedy_search((h0, c0), *decoder, bos=1, eos=2, max_length=9, return_weights=True)
    return [context, weights, h, c, output, h_n, c_n, loss, gru.h_n, lstm.c_n, found.ids, best.scores]


def modules(embedding: nn.Embedding, output: nn.Linear) -> Tensor:
    attention = sk.nn.AdditiveAttention(5, 7, 4, num_heads=2, normalize=True)
    projected: Tensor = attention.project_keys(values)
    decoder, lstm = (
        sk.nn.AttentionGRU(3, 5, 7, 4, feed_size=5, location="both", location_size=3),
        sk.nn.AttentionLSTM(3, 5, 7, 4, score="general", num_layers=2),
    )
    state = decoder.start(h0, values, keys=decoder.project_keys(values))
    state = decoder.step(x[:, 0], state, values)
    out = decoder.forward(x, h0, values, lengths=lengths)
    both = lstm.forward(x, (h0, c0), values)
    found = decoder.beam_search(h0, values, embedding, output, bos=1, eos=2, max_length=9)
    packed: sk.QuantizedWeights = decoder.quantize(output)
    found = decoder.beam_search(h0, values, embedding, output, bos=1, eos=2, max_length=9, weights=packed)
    best = lstm.greedy_search((h0, c0), values, embedding, output, bos=1, eos=2, max_length=9)
    gru = sk.nn.GRU(3, 5, num_layers=2, bidirectional=True, batch_first=True)
    encoded, _ = gru(x, lengths=lengths)
    decoded, (h_n, c_n) = sk.nn.LSTM(3, 5)(x)
    stepped = sk.nn.GRUCell(3, 5).forward(x[:, 0], h0)
    h, c = sk.nn.LSTMCell(3, 5).forward(x[:, 0], (h0, c0))
    print(encoded, decoded, h_n, c_n, stepped, h, c)
    return projected + state.context + out.weights + both.c_n + found.scores + best.scores


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5)


def existing() -> Model:
    model: Model = sk.convert(Model())
    report = sk.convert(model, report=True)
    print(report.converted, report, sk.info()["backends"], sk.__version__)
    for integration in (coqui, d2l, doctr, espnet, joeynmt, opennmt_py, speechbrain, stanza, torchrl):
        model = integration.revert(integration.convert(model))
    with sk.backend("reference"):
        sk.revert(model)
    sk.weights.to_onnx(sk.nn.AttentionGRU(3, 5, 7, 4), "step.onnx")
    layer: nn.Module = sk.weights.keras_layer(object())
    print(layer, sk.weights.to_flax(layer), sk.weights.keras_gru(x, x)["weight_ih"].shape)
    return sk.revert(model)


def model_layer(folder: Path) -> None:
    translator = s2s.load(folder, "cpu")
    text: str = translator.translate("a sentence", beam=5, length_penalty=1.0)
    texts: list[str] = translator.translate(["a sentence", "another"])
    looked = translator.align(["a sentence"])[0].weights
    scores = translator.evaluate([("a", "b")])
    config = s2s.Config(cell="lstm", epochs=3).updated(lr=1e-3)
    vocab = translator.source_vocab
    data = s2s.Dataset([("a", "b")], vocab, vocab, config)
    model = s2s.Seq2Seq(config, len(vocab), len(vocab))
    history = s2s.train(model, data, data, show_bar=False)
    history += s2s.Trainer(model, data, data, state=folder).run()
    s2s.Translator(model, vocab, vocab).save(folder, history)
    s2s.import_joeynmt("models/rnn").translate([text, *texts], **vars(s2s.SearchOptions(beam=2)))
    s2s.import_opennmt(folder / "model.pt")
    print(looked, scores)
