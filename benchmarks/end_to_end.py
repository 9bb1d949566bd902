"""What the training and search benchmarks share: models of one configuration on one set of parameters."""

import sys
from importlib.util import find_spec
from pathlib import Path

import torch

from s2s_kernels import cudnn

from .eager_model import EagerSeq2Seq
from .parity import helpers

if find_spec("s2s") is None:  # a checkout that is not installed
    sys.path.append(str(Path(__file__).parents[1] / "python"))

VOCAB = 8_000
# As JoeyNMT's RNN: bidirectional GRU, additive attention after the cell, input feeding. H = 256, B = 32, S = T = 25.
LUONG = {"order": "after", "feed": "attentional"}
NO_BIAS = ("decoder.scan.attention.query_layer.bias", "output.bias")  # JoeyNMT has none: zero for all
BAHDANAU = {"order": "before", "feed": "context"}


def config(shape, feeding):
    """The ``s2s.Config`` of a named shape; no dropout, so that everyone computes the same."""
    from s2s.model.config import Config

    return Config(
        embedding_size=shape.E,
        encoder_size=shape.D // 2,
        hidden_size=shape.H,
        attention_size=shape.A,
        readout_size=shape.H,
        dropout=0.0,
        **feeding,
    )


def parameters(settings, vocab=VOCAB):
    """The state_dict of a fresh model, in float64."""
    from s2s.model import Seq2Seq

    torch.manual_seed(0)
    found = {name: p.detach().double() for name, p in Seq2Seq(settings, vocab, vocab).named_parameters()}
    for name in NO_BIAS:
        found[name].zero_()
    return found


def load(model_type, settings, inputs):
    """A model whose parameters hold the tensors of their names among ``inputs``, in their dtype and place."""
    vocab = inputs["output.bias"].shape[0]
    model = model_type(settings, vocab, vocab).to(inputs["output.bias"])
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(inputs[name])
    for module in model.modules():
        if isinstance(module, torch.nn.RNNBase):
            cudnn.flatten(module)  # of bfloat16, which torch.nn would copy in every call
    return model


def ours(settings, inputs):
    from s2s.model import Seq2Seq

    return load(Seq2Seq, settings, inputs)


def eager(settings, inputs):
    return load(EagerSeq2Seq, settings, inputs)


def sentences(B, length, vocab, seed):
    """(B, length) token ids, none of them special, and the lengths, full to half, falling as JoeyNMT has them."""
    r = helpers.Random(seed)
    tokens = torch.randint(4, vocab, (B, length), generator=r.generator)
    lengths = torch.randint((length + 1) // 2, length + 1, (B,), generator=r.generator)
    lengths[0] = length
    lengths = lengths.sort(descending=True).values
    return torch.where(torch.arange(length) < lengths[:, None], tokens, 0), lengths


def flops(settings, B, S, T, vocab):
    """Matrix products of a forward pass over padded batches."""
    c = settings
    E, H, A, M = c.embedding_size, c.hidden_size, c.attention_size, c.memory_size
    fed = c.readout_size if c.feed == "attentional" else M
    encoder = 2 * S * 3 * c.encoder_size * (E + c.encoder_size) + S * M * A + M * H
    decoder = 3 * H * (E + fed + H) + H * A + S * M + (H + M) * c.readout_size
    return 2 * B * (encoder + T * (decoder + c.readout_size * vocab))
