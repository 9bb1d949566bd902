"""JoeyNMT: models that its own trainer has trained for some steps, read by s2s.import_joeynmt."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from joeynmt.config import load_config, parse_global_args
from joeynmt.prediction import prepare
from joeynmt.search import search

import s2s

from . import reversal
from .reversal import SENTENCES, STEPS

PINS = "integrations/joeynmt"
KEPT = "lstm, luong, input feeding"


def trained(name, rnn="gru", encoder_layers=1, scale=False, **decoder):
    """The folder of a model after STEPS steps."""
    folder = Path(name.replace(" ", "_").replace(",", ""))
    reversal.write(folder)
    side = {"max_length": 30, "level": "word", "tokenizer_type": "moses", "voc_min_freq": 1}
    embeddings = {"embedding_dim": 16, "scale": scale}
    common = {"type": "recurrent", "rnn_type": rnn, "embeddings": embeddings, "hidden_size": 24}
    settings = {
        "name": name,
        "joeynmt_version": "2.3.0",
        "model_dir": str(folder / "model"),
        "use_cuda": False,
        "fp16": False,
        "random_seed": 1,
        "data": {
            **{part: str(folder / part) for part in ("train", "dev", "test")},
            "dataset_type": "plain",
            "src": {"lang": "src", **side},
            "trg": {"lang": "trg", **side},
        },
        "testing": {"beam_size": 4, "batch_size": 32, "batch_type": "sentence", "eval_metrics": []},
        "training": {
            "optimizer": "adam",
            "scheduling": "exponential",  # its other schedulers ask PyTorch for an option that went away
            "decrease_factor": 0.99,
            "learning_rate": 0.01,
            "batch_size": 32,
            "batch_type": "sentence",
            "epochs": 50,
            "updates": STEPS,
            "validation_freq": STEPS,
            "logging_freq": STEPS,
            "overwrite": True,
            "early_stopping_metric": "loss",
            "shuffle": True,
            "print_valid_sents": [0],
        },
        "model": {
            "encoder": {**common, "num_layers": encoder_layers, "bidirectional": True},
            "decoder": {**common, "num_layers": 1, **decoder},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "joeynmt", "train", str(folder / "config.yaml"), "--skip-test"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def theirs(folder):
    """Their model and the batch of the test's sentences."""
    cfg = load_config(folder / "model" / "config.yaml")
    args = parse_global_args(cfg, rank=0, mode="test")
    model, _, _, test = prepare(args, rank=0, mode="test")
    checkpoint = torch.load(folder / "model" / "best.ckpt", map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["model_state"])
    iterator = test.make_iter(
        batch_size=SENTENCES,
        batch_type="sentence",
        shuffle=False,
        device=torch.device("cpu"),
        pad_index=model.pad_index,
    )
    (batch,) = list(iterator)
    batch.sort_by_src_length()
    return model.eval(), batch, test


def tokens(vocabulary, ids):
    rows = vocabulary.arrays_to_sentences(np.asarray(ids), cut_at_eos=True)
    return [" ".join(row).removesuffix(" </s>") for row in rows]


def compared(name, **options):
    folder = trained(name, **options)
    model, batch, _ = theirs(folder)
    ours = s2s.import_joeynmt(folder / "model")
    with torch.no_grad():
        model.double()
        _, logp, *_ = model(return_type="loss", **vars(batch))
        logp = logp.gather(2, batch.trg[..., None]).squeeze(2)
        expected = logp.masked_fill(batch.trg == model.pad_index, 0).sum(1).tolist()
        model.float()
    sources, references = tokens(model.src_vocab, batch.src), tokens(model.trg_vocab, batch.trg)
    scores = reversal.scores(ours, sources, references)
    outputs = {}
    for beam in (1, 5):
        ids, _, _ = search(model, batch, max_output_length=20, beam_size=beam, beam_alpha=-1, min_output_length=0)
        found = ours.translate(sources, beam=beam, ending="best", max_length=20, allow_unknown=True)
        outputs[beam] = found, tokens(model.trg_vocab, ids)
    if name == KEPT:
        files = {file: folder / "model" / file for file in ("config.yaml", "src_vocab.txt", "trg_vocab.txt")}
        state = torch.load(folder / "model" / "best.ckpt", weights_only=True)["model_state"]
        files["best.ckpt"] = reversal.serialised({"model_state": state})
        reversal.keep("joeynmt", files, (sources, references), expected, outputs)
    return reversal.verdict(name, scores, expected, outputs)


def cases():
    return []


def checks():
    for name, options in {
        "gru, bahdanau, input feeding": {"attention": "bahdanau"},
        "lstm, luong, input feeding": {"rnn": "lstm", "attention": "luong", "scale": True},
        "gru, luong, forward half, 2 encoder layers": {
            "attention": "luong",
            "init_hidden": "last",
            "encoder_layers": 2,
        },
        "lstm, bahdanau, no feeding, 2 decoder layers": {
            "rnn": "lstm",
            "attention": "bahdanau",
            "input_feeding": False,
            "num_layers": 2,
        },
    }.items():
        yield compared(name, **options)
