"""Dive into Deep Learning: its sequence-to-sequence classes with attention, its language model, its initialiser.

d2l has the encoder, the attention and the base classes of the decoder; the decoder itself is left to the reader, and
written here as a reader would.
"""

import torch
from d2l import torch as d2l
from torch import nn

import s2s_kernels as sk
from s2s_kernels.integrations import d2l as integration

from .case import Case, Size

PINS = [
    "d2l==1.0.3",
    "torchvision==0.28.0",
    "ipython==9.18.1",
    "asttokens==3.0.2",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "decorator==5.2.1",
    "executing==2.3.0",
    "idna==3.20",
    "ipython_pygments_lexers==1.1.1",
    "jedi==0.20.1",
    "matplotlib-inline==0.2.2",
    "pandas==3.0.6",
    "parso==0.8.7",
    "pexpect==4.9.0",
    "prompt_toolkit==3.0.53",
    "psutil==7.2.2",
    "ptyprocess==0.7.0",
    "pure_eval==0.2.4",
    "requests==2.34.2",
    "scipy==1.17.1",
    "stack-data==0.6.3",
    "traitlets==5.16.1",
    "urllib3==2.8.0",
    "wcwidth==0.9.4",
]

WORDS, PAD = 30, 0
CPU = torch.device("cpu")


class Decoder(d2l.AttentionDecoder):
    """Attends with the top state before each step, and gives the recurrence the context and the word."""

    def __init__(self, vocab_size, width, layers, attention):
        super().__init__()
        self.attention = attention
        self.embedding = nn.Embedding(vocab_size, width)
        self.rnn = nn.GRU(2 * width, width, layers, dropout=0.2 if layers > 1 else 0)
        self.dense = nn.LazyLinear(vocab_size)
        self.apply(d2l.init_seq2seq)

    def init_state(self, enc_outputs, enc_valid_lens):
        outputs, state = enc_outputs
        return outputs.transpose(0, 1), state, enc_valid_lens

    def forward(self, X, state):
        memory, hidden, lengths = state
        outputs, self._weights = [], []
        for word in self.embedding(X).transpose(0, 1):
            context = self.attention(hidden[-1].unsqueeze(1), memory, memory, lengths)
            out, hidden = self.rnn(torch.cat((context, word.unsqueeze(1)), dim=-1).transpose(0, 1), hidden)
            outputs.append(out)
            self._weights.append(self.attention.attention_weights)
        return self.dense(torch.cat(outputs)).transpose(0, 1), [memory, hidden, lengths]

    @property
    def attention_weights(self):
        return self._weights


class WordFirst(Decoder):
    """Not the book's: its rnn runs on [word ; context]."""

    def forward(self, X, state):
        memory, hidden, lengths = state
        outputs, self._weights = [], []
        for word in self.embedding(X).transpose(0, 1):
            context = self.attention(hidden[-1].unsqueeze(1), memory, memory, lengths)
            out, hidden = self.rnn(torch.cat((word.unsqueeze(1), context), dim=-1).transpose(0, 1), hidden)
            outputs.append(out)
            self._weights.append(self.attention.attention_weights)
        return self.dense(torch.cat(outputs)).transpose(0, 1), [memory, hidden, lengths]


class LSTM(d2l.RNN):
    """As d2l.GRU is made, which is the only other one that it has."""

    def __init__(self, num_inputs, num_hiddens, num_layers):
        d2l.Module.__init__(self)
        self.save_hyperparameters()
        self.rnn = nn.LSTM(num_inputs, num_hiddens, num_layers)


class LanguageModel(d2l.RNNLM):
    """d2l's one_hot makes float32, whatever the model is."""

    def one_hot(self, X):
        return super().one_hot(X).type(torch.get_default_dtype())


class Letters:
    """The two things that RNNLM.predict asks of a vocabulary."""

    def __init__(self):
        self.idx_to_token = [chr(ord("a") + i) for i in range(WORDS)]

    def __getitem__(self, token):
        return self.idx_to_token.index(token)


def translation(layers, attention, by=sk, shortest=1, kind=Decoder, refused=""):
    def make(size: Size) -> Case:
        encoder = d2l.Seq2SeqEncoder(WORDS, size.hidden, size.hidden, layers, dropout=0.2 if layers > 1 else 0)
        decoder = kind(WORDS, size.hidden, layers, attention(size))
        model = d2l.Seq2Seq(encoder, decoder, tgt_pad=PAD, lr=0.01)
        lengths = torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=1)
        lengths[-1] = shortest
        source, target = (torch.randint(1, WORDS, (size.batch, size.steps)) for _ in range(2))
        source[torch.arange(size.steps) >= lengths[:, None]] = PAD
        batch = source, target, lengths, target.roll(-1, 1)
        with torch.no_grad():
            model(*batch[:-1])  # its lazy layers take their shapes here

        def forward(model):
            state = model.decoder.init_state(model.encoder(source), lengths)
            found = [*model.encoder(source), model(*batch[:-1]), *model.decoder(target, state)[1][:2]]
            return [*found, *model.decoder.attention_weights]

        return Case(
            model=model,
            outputs=forward,
            loss=lambda model: model.loss(model(*batch[:-1]), batch[-1]),
            converted=2 if by is sk else 1,
            by=by,
            refused=refused,
            decode=lambda model: model.predict_step(batch, CPU, 9, save_attention_weights=True),
            initialize=lambda model: model.apply(d2l.init_seq2seq),
            note="its init_seq2seq asks `type(module) == nn.GRU`; the decoder is ours, on d2l.AttentionDecoder",
        )

    return make


def additive(size):
    return d2l.AdditiveAttention(size.hidden, dropout=0.2)


def dot_product(size):
    return d2l.DotProductAttention(dropout=0.2)


def language(recurrence, converted, left=0):
    def make(size: Size) -> Case:
        model = LanguageModel(recurrence(size), WORDS, lr=0.01)
        words = torch.randint(WORDS, (size.batch, size.steps + 1))
        with torch.no_grad():
            model(words)

        def forward(model):
            out, state = model.rnn(model.one_hot(words))
            again, state = model.rnn(model.one_hot(words), state)
            return [model(words), out, again, *(state if isinstance(state, tuple) else [state])]

        return Case(
            model=model,
            outputs=forward,
            loss=lambda model: model.loss(model(words[:, :-1]), words[:, 1:]),
            converted=converted,
            left=left,
            decode=lambda model: model.predict("abc", 9, Letters()),
        )

    return make


CASES = {
    "GRU encoder and decoder, additive attention": translation(2, additive),
    "GRU encoder and decoder, dot product attention": translation(1, dot_product),
    "whole loop: GRU, additive attention": translation(1, additive, integration),
    "whole loop: GRU, additive attention, 2 layers, a row of length 0": translation(2, additive, integration, 0),
    "whole loop: GRU, dot product attention, a row of length 0": translation(1, dot_product, integration, 0),
    "whole loop: not the book's": translation(
        1,
        additive,
        integration,
        kind=WordFirst,
        refused="decoder cannot be converted: in evaluation it gives other numbers",
    ),
    "language model, GRU": language(lambda size: d2l.GRU(WORDS, size.hidden, 2, dropout=0.2), converted=1),
    "language model, LSTM": language(lambda size: LSTM(WORDS, size.hidden, 2), converted=1),
    "language model, RNN": language(lambda size: d2l.RNN(WORDS, size.hidden), converted=0, left=1),
}
