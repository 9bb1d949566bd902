"""SpeechBrain: AttentionalRNNDecoder with its greedy and beam search, CRDNN, RNNLM, and rnn_init on all of them."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
from torch import nn

import s2s_kernels as sk
from s2s_kernels.integrations import speechbrain as integration

from .case import Case, Size, float_of_default_dtype

PINS = ["speechbrain==1.1.2", "hyperpyyaml==1.2.3", "ruamel.yaml==0.19.1", "scipy==1.17.1"]

# speechbrain.dataio imports torchaudio, whose wheel on PyPI loads only beside a CUDA build of torch. Nothing here
# calls it; an empty module stands in for it.
torchaudio = ModuleType("torchaudio")
torchaudio.__spec__ = ModuleSpec("torchaudio", None)
torchaudio.__version__ = "2.11.0"
sys.modules.setdefault("torchaudio", torchaudio)

import speechbrain as sb  # noqa: E402
from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher, S2SRNNGreedySearcher  # noqa: E402
from speechbrain.lobes.models.CRDNN import CRDNN  # noqa: E402
from speechbrain.lobes.models.RNNLM import RNNLM  # noqa: E402
from speechbrain.nnet.losses import ctc_loss, nll_loss  # noqa: E402
from speechbrain.nnet.RNN import rnn_init  # noqa: E402

VOCABULARY, BOS, EOS = 30, 0, 1
float_of_default_dtype()  # of the first weights of its location-aware attention


def relative_lengths(size: Size):
    """As SpeechBrain wants them: of the longest, here in whole steps."""
    return torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=2) / size.steps


def seq2seq(rnn, attention, layers=1, by=sk, refused=""):
    encoders = {"rnn": sb.nnet.RNN.RNN, "gru": sb.nnet.RNN.GRU, "lstm": sb.nnet.RNN.LSTM}

    def make(size: Size) -> Case:
        hidden = size.hidden
        decoder = sb.nnet.RNN.AttentionalRNNDecoder(
            rnn_type=rnn,
            attn_type=attention,
            hidden_size=hidden,
            attn_dim=hidden,
            num_layers=layers,
            enc_dim=2 * hidden,
            input_size=hidden,
            channels=4,
            kernel_size=2,
            dropout=0.1,
        )
        # SpeechBrain's recipes hold the parts in a ModuleDict and call them one after the other.
        model = nn.ModuleDict(
            {
                "enc_emb": sb.nnet.embedding.Embedding(VOCABULARY, embedding_dim=hidden),
                "enc": encoders[rnn](
                    hidden_size=hidden, input_size=hidden, num_layers=2, dropout=0.1, bidirectional=True
                ),
                "emb": sb.nnet.embedding.Embedding(VOCABULARY, embedding_dim=hidden),
                "dec": decoder,
                "seq_lin": sb.nnet.linear.Linear(n_neurons=VOCABULARY, input_size=hidden),
            }
        )
        characters = torch.randint(2, VOCABULARY, (size.batch, size.steps))
        phonemes = torch.randint(2, VOCABULARY, (size.batch, size.steps))
        with_bos, with_eos = (
            nn.functional.pad(phonemes, (1, 0), value=BOS),
            nn.functional.pad(phonemes, (0, 1), value=EOS),
        )
        lengths = relative_lengths(size)

        def outputs(model):
            encoded, state = model["enc"](model["enc_emb"](characters), lengths=lengths)
            decoded, weights = model["dec"](model["emb"](with_bos), encoded, lengths)
            return [model["seq_lin"](decoded).log_softmax(-1), weights, encoded, state]

        def decode(model):
            modules = {"embedding": model["emb"], "decoder": model["dec"], "linear": model["seq_lin"]}
            options = {"bos_index": BOS, "eos_index": EOS, "min_decode_ratio": 0, "max_decode_ratio": 1}
            with torch.no_grad():
                encoded, _ = model["enc"](model["enc_emb"](characters), lengths=lengths)
                greedy = S2SRNNGreedySearcher(**modules, **options)(encoded, lengths)
                beam = S2SRNNBeamSearcher(**modules, **options, beam_size=4, topk=2)(encoded, lengths)
            return [greedy, beam]

        return Case(
            model=model,
            outputs=outputs,
            loss=lambda model: nll_loss(outputs(model)[0], with_eos, length=lengths),
            converted=1 + layers if by is sk else 1,
            decode=decode,
            initialize=rnn_init,
            by=by,
            refused=refused,
        )

    return make


def crdnn(rnn, converted, note="", **options):
    def make(size: Size) -> Case:
        features = torch.randn(size.batch, size.steps, 16)
        model = nn.Sequential(
            CRDNN(
                input_shape=features.shape,
                dropout=0.1,
                cnn_blocks=1,
                cnn_channels=[4],
                rnn_class=rnn,
                rnn_layers=2,
                rnn_neurons=size.hidden,
                dnn_blocks=1,
                dnn_neurons=size.hidden,
                **options,
            ),
            sb.nnet.linear.Linear(n_neurons=VOCABULARY, input_size=size.hidden),
        )
        targets = torch.randint(2, VOCABULARY, (size.batch, 2))
        lengths = relative_lengths(size)

        def loss(model):
            return ctc_loss(model(features).log_softmax(-1), targets, lengths, torch.ones(size.batch), blank_index=0)

        return Case(
            model=model,
            outputs=lambda model: [model(features)],
            loss=loss,
            converted=converted,
            initialize=rnn_init,
            note=note,
        )

    return make


def language_model(rnn):
    def make(size: Size) -> Case:
        model = RNNLM(
            output_neurons=VOCABULARY,
            embedding_dim=size.hidden,
            dropout=0.1,
            rnn_class=rnn,
            rnn_layers=2,
            rnn_neurons=size.hidden,
            return_hidden=True,
            dnn_neurons=size.hidden,
        )
        words = torch.randint(2, VOCABULARY, (size.batch, size.steps))

        def decode(model):
            """Step by step with its hidden states carried, as SpeechBrain's scorers call it."""
            found, hidden = [], None
            with torch.no_grad():
                for word in words.T:
                    logits, hidden = model(word, hx=hidden)
                    found += [logits, hidden]
            model.reshape = False  # it stays True after a step
            return found

        return Case(
            model=model,
            outputs=lambda model: [*model(words)],
            loss=lambda model: nll_loss(model(words)[0].log_softmax(-1)[:, :-1], words[:, 1:]),
            converted=1,
            decode=decode,
            initialize=rnn_init,
        )

    return make


CASES = {
    "AttentionalRNNDecoder gru, content": seq2seq("gru", "content"),
    "AttentionalRNNDecoder lstm, location, 2 layers": seq2seq("lstm", "location", layers=2),
    "AttentionalRNNDecoder lstm, keyvalue": seq2seq("lstm", "keyvalue"),
    "CRDNN, GRU": crdnn(sb.nnet.RNN.GRU, 1),
    "CRDNN, LSTM, time pooling": crdnn(sb.nnet.RNN.LSTM, 1, time_pooling=True),
    "CRDNN, LiGRU": crdnn(sb.nnet.RNN.LiGRU, 0, "LiGRU is SpeechBrain's own loop: nothing to convert"),
    "RNNLM, LSTM": language_model(sb.nnet.RNN.LSTM),
    "whole loop: gru, content": seq2seq("gru", "content", by=integration),
    "whole loop: lstm, content, 3 layers": seq2seq("lstm", "content", layers=3, by=integration),
    "whole loop: lstm, location, 2 layers": seq2seq("lstm", "location", layers=2, by=integration),
    "whole loop: gru, location": seq2seq("gru", "location", by=integration),
    "whole loop: lstm, keyvalue": seq2seq("lstm", "keyvalue", by=integration),
    "whole loop: gru, keyvalue, 2 layers": seq2seq("gru", "keyvalue", layers=2, by=integration),
    "whole loop: rnn": seq2seq("rnn", "content", by=integration, refused="rnn_type = rnn"),
}
