"""Scores and windows with heads against loops over their formulas, and decoder layers against torch.nn, in float64."""

import math

import pytest
import torch
from torch import nn

from s2s.model import Seq2Seq
from s2s.model.attention import DotAttention, LocalAttention, build_attention
from s2s.model.config import Config
from s2s.text.data import make_batch

B, T, S, H, M, N, A, D = 3, 6, 5, 4, 7, 2, 3, 2
LENGTHS = torch.tensor([5, 1, 3])


def scores(module, query, keys):
    """(N, S) of one query (H,) and keys (S, N, .), from the parameters."""
    found = torch.empty(N, len(keys), dtype=torch.float64)
    for n in range(N):
        for s in range(len(keys)):
            if isinstance(module, DotAttention):
                weight = module.key_layer.weight.view(N, H, M)[n]
                found[n, s] = query @ (weight @ keys[s])
            else:
                rows = slice(n * A, (n + 1) * A)
                q, k = module.query_layer, module.key_layer
                hidden = q.weight[rows] @ query + q.bias[rows] + k.weight[rows] @ keys[s]
                found[n, s] = module.v[n] @ torch.tanh(hidden)
    return found


@pytest.mark.parametrize("window", ["global", "local-m", "local-p"])
@pytest.mark.parametrize("attention", ["general", "additive"])
@pytest.mark.parametrize("first", [0, 2])
def test_heads_and_windows_by_the_formula(attention, window, first):
    torch.manual_seed(5)
    config = Config(
        attention=attention, attention_heads=N, attention_window=window, window_size=D, attention_size=A,
        hidden_size=H, encoder_size=M, bidirectional=False, order="after", feed="none",
    )  # fmt: skip
    module = build_attention(config).double()
    inner = module.score if isinstance(module, LocalAttention) else module
    query, memory = torch.randn(B, T, H, dtype=torch.float64), torch.randn(B, S, M, dtype=torch.float64)
    options = {"position": torch.full((B,), first)} if window != "global" else {}
    context, weights = module(query, memory, lengths=LENGTHS, **options)
    for b in range(B):
        length = int(LENGTHS[b])
        for t in range(T):
            centre, near = first + t, range(length)
            if window == "local-p":
                hidden = torch.tanh(module.position_layer.weight @ query[b, t])
                centre = length * torch.sigmoid(module.position_v.weight[0] @ hidden).item()
            if window != "global":
                near = [s for s in near if abs(s - centre) <= D] or [length - 1]
            rows = scores(inner, query[b, t], memory[b])[:, near].softmax(-1)
            if window == "local-p":
                nearness = [math.exp(-((s - centre) ** 2) / (2 * (D / 2) ** 2)) for s in near]
                rows = rows * torch.tensor(nearness, dtype=torch.float64)
            expected = torch.zeros(N, S, dtype=torch.float64)
            expected[:, near] = rows
            torch.testing.assert_close(weights[b, t], expected, rtol=1e-11, atol=1e-12)
            torch.testing.assert_close(context[b, t], expected @ memory[b], rtol=1e-11, atol=1e-12)
    one = {"position": options["position"] + 3} if options else {}
    for many, single in zip((context, weights), module(query[:, 3], memory, lengths=LENGTHS, **one)):
        torch.testing.assert_close(single, many[:, 3])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("feed", ["context", "none"])
def test_decoder_layers_are_those_of_torch(cell, feed):
    """Each starts from its own encoder layer's state; without feeding the top one is the query, else the lowest."""
    torch.manual_seed(6)
    config = Config(
        cell=cell, encoder_layers=3, decoder_layers=3, initial_state="last", bidirectional=False, encoder_size=H,
        hidden_size=H, embedding_size=A, order="after", feed=feed, readout="state_context", dropout=0.0,
    )  # fmt: skip
    model, batch = Seq2Seq(config, 10, 10).double().eval(), make_batch([([4, 5, 6], [7, 8]), ([9, 9, 4], [5, 5])])
    encoder, kind = model.encoder.rnn, nn.GRU if cell == "gru" else nn.LSTM
    stack = kind(A, H, 3, batch_first=True).double()
    stack.load_state_dict(encoder.state_dict())
    memory, last = stack(model.encoder.embedding(batch.source))
    inputs = model.embedding(batch.inputs)
    if feed == "none":
        decoder = kind(A, H, 3, batch_first=True).double()
        decoder.load_state_dict(model.decoder.rnn.state_dict())
        states = query = decoder(inputs, last)[0]
    else:
        above = lambda state: tuple(s[1:].contiguous() for s in state) if cell == "lstm" else state[1:].contiguous()
        lowest = tuple(state[0] for state in (last if cell == "lstm" else (last,)))
        query = model.decoder.scan(
            inputs, (lowest,), memory, keys=model.decoder.project_keys(memory), first_feed=torch.zeros(2, H).double()
        ).states
        upper = kind(H, H, 2, batch_first=True).double()
        upper.load_state_dict(model.decoder.rnn.state_dict())
        states = upper(query, above(last))[0]
    attention = model.decoder.attention if feed == "none" else model.decoder.scan.attention
    context, _ = attention(query, memory)
    features, _ = model(batch.source, batch.source_lengths, batch.inputs)
    torch.testing.assert_close(features, torch.cat([states, context], -1))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_input_feeding_through_layers(cell):
    """Luong et al. (2015), section 3.3: the attentional vector of the top layer goes into the lowest."""
    torch.manual_seed(7)
    config = Config(
        cell=cell, encoder_layers=2, decoder_layers=2, initial_state="last", bidirectional=False, encoder_size=H,
        hidden_size=H, embedding_size=A, readout_size=M, attention="dot", order="after", feed="attentional",
        dropout=0.0,
    )  # fmt: skip
    model, batch = Seq2Seq(config, 10, 10).double().eval(), make_batch([([4, 5, 6], [7, 8]), ([9, 9, 4], [5, 5])])
    stack = (nn.GRU if cell == "gru" else nn.LSTM)(A + M, H, 2, batch_first=True).double()
    cells = [model.decoder.scan.cell, *model.decoder.scan.cells_above]
    stack.load_state_dict({f"{n}_l{i}": w for i, one in enumerate(cells) for n, w in one.state_dict().items()})
    memory, state = model.encoder.rnn(model.encoder.embedding(batch.source))
    vector, expected = torch.zeros(2, M, dtype=torch.float64), []
    for x in model.embedding(batch.inputs).unbind(1):
        h, state = stack(torch.cat([x, vector], -1)[:, None], state)
        context = torch.softmax(h @ memory.mT, -1) @ memory
        vector = torch.tanh(model.decoder.scan.feed_layer(torch.cat([h, context], -1)))[:, 0]
        expected.append(vector)
    features, _ = model(batch.source, batch.source_lengths, batch.inputs)
    torch.testing.assert_close(features, torch.stack(expected, 1))
