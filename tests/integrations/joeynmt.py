"""JoeyNMT: build_model, its Batch, its loss, greedy and beam search, and its initializers."""

from types import SimpleNamespace

import torch
from joeynmt.batch import Batch
from joeynmt.initialization import initialize_model
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary

import s2s_kernels as sk
from s2s_kernels.integrations import joeynmt as integration

from .case import Case, Size

PINS = [
    "joeynmt==2.3.0",
    "importlib_metadata==8.7.0",
    "zipp==3.23.0",
    "tensorboard==2.20.0",
    "absl-py==2.3.1",
    "protobuf==6.33.0",
    "subword-nmt==0.3.8",
    "pandas==2.3.3",
    "pytz==2025.2",
]

SPECIAL = {"unk": 0, "pad": 1, "bos": 2, "eos": 3}


def vocabulary(size):
    tokens = {f"{name}_token": f"<{name}>" for name in SPECIAL}
    ids = {f"{name}_id": i for name, i in SPECIAL.items()}
    settings = SimpleNamespace(**tokens, **ids, sep_token=None, sep_id=None, lang_tags=[])
    return Vocabulary([f"w{i}" for i in range(size)], settings)


def batch(size: Size, words):
    lengths = torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=2)
    source = torch.full((size.batch, size.steps), SPECIAL["pad"])
    target = torch.full((size.batch, size.steps + 1), SPECIAL["pad"])
    for row, length in enumerate(lengths.tolist()):
        source[row, :length] = torch.randint(len(SPECIAL), words, (length,))
        source[row, length - 1] = SPECIAL["eos"]
        target[row, 1:length] = torch.randint(len(SPECIAL), words, (length - 1,))
        target[row, 0], target[row, length] = SPECIAL["bos"], SPECIAL["eos"]
    return Batch(
        src=source,
        src_length=lengths,
        src_prompt_mask=None,
        trg=target,
        trg_prompt_mask=None,
        indices=torch.arange(size.batch),
        device=torch.device("cpu"),
        pad_index=SPECIAL["pad"],
        eos_index=SPECIAL["eos"],
    )


def case(rnn, attention, init_hidden="bridge", input_feeding=True, layers=1, by=sk, refused="", **options):
    def make(size: Size) -> Case:
        words = vocabulary(40)
        common = {"type": "recurrent", "rnn_type": rnn, "num_layers": layers, "dropout": 0.2}
        embeddings = {"embedding_dim": size.hidden, "scale": False, "dropout": 0.1}
        config = {
            "encoder": {**common, "embeddings": embeddings, "hidden_size": size.hidden, "bidirectional": True},
            "decoder": {
                **common,
                "embeddings": embeddings,
                "hidden_size": 2 * size.hidden if init_hidden == "last" else size.hidden,
                "attention": attention,
                "init_hidden": init_hidden,
                "input_feeding": input_feeding,
                "hidden_dropout": 0.2,
                **options,
            },
            "init_rnn_orthogonal": True,
            "bias_initializer": "uniform",
        }
        model = build_model(config, words, words)
        model.loss_function = ("crossentropy", 0.1)
        data = batch(size, len(words))

        def forward(model):
            return model(return_type="loss", **vars(data))

        def decode(model):
            found = []
            for beam in (1, 4):
                output, scores, attention = search(
                    model, data, max_output_length=9, beam_size=beam, beam_alpha=1.0, return_prob="hyp"
                )
                found += [output, scores, attention]
            return found

        return Case(
            model=model,
            outputs=lambda model: [x for x in forward(model) if x is not None],
            loss=lambda model: data.normalize(forward(model)[0], "tokens"),
            converted=2 if by is sk else 1,
            by=by,
            refused=refused,
            decode=decode,
            initialize=lambda model: initialize_model(model, config, SPECIAL["pad"], SPECIAL["pad"]),
        )

    return make


CASES = {
    "gru, bahdanau, input feeding": case("gru", "bahdanau"),
    "gru, luong, last state, 2 layers": case("gru", "luong", "last", False, 2),
    "lstm, luong, input feeding": case("lstm", "luong"),
    "lstm, bahdanau, zero state": case("lstm", "bahdanau", "zero", False),
    "whole loop: gru, bahdanau": case("gru", "bahdanau", by=integration),
    "whole loop: gru, luong, last state, 2 layers": case("gru", "luong", "last", layers=2, by=integration),
    "whole loop: lstm, luong": case("lstm", "luong", by=integration),
    "whole loop: lstm, bahdanau, zero state, 3 layers": case("lstm", "bahdanau", "zero", layers=3, by=integration),
    "whole loop: gru, bahdanau, no input feeding, 2 layers": case(
        "gru", "bahdanau", input_feeding=False, layers=2, by=integration
    ),
    "whole loop: lstm, luong, no input feeding": case("lstm", "luong", input_feeding=False, by=integration),
    "whole loop: activation": case("gru", "luong", by=integration, refused="activation = ReLU", activation="relu"),
    "whole loop: Transformer": case(
        "gru",
        "luong",
        by=integration,
        refused="the Model has no RecurrentDecoder",
        type="transformer",
        num_heads=2,
        ff_size=8,
    ),
}
