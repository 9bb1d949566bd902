"""OpenNMT-py: models that its own trainer has trained for some steps, read by s2s.import_opennmt."""

import subprocess
import sys
from pathlib import Path

import torch
import yaml
from onmt.inputters.inputter import dict_to_vocabs
from onmt.model_builder import build_base_model

import s2s

from . import reversal
from .reversal import STEPS

PINS = "integrations/opennmt_py"
KEPT = "LSTM, mlp, no feeding, 2 layers"


def run(program, *arguments):
    # Its own checkpoints have an argparse.Namespace in them, which PyTorch's torch.load no longer takes by itself.
    allowed = "import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace])"
    code = f"{allowed}; from onmt.bin.{program} import main; main()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, *arguments], check=True, capture_output=True)


def trained(name, **options):
    """The checkpoint of a model after STEPS steps, and its folder."""
    folder = Path(name.replace(" ", "_").replace(",", ""))
    reversal.write(folder)
    corpus = {
        part: {"path_src": str(folder / f"{file}.src"), "path_tgt": str(folder / f"{file}.trg"), "transforms": []}
        for part, file in (("corpus_1", "train"), ("valid", "dev"))
    }
    settings = {
        "save_data": str(folder / "data"),
        "src_vocab": str(folder / "src.vocab"),
        "tgt_vocab": str(folder / "tgt.vocab"),
        "overwrite": True,
        "data": corpus,
        "save_model": str(folder / "model"),
        "save_checkpoint_steps": STEPS,
        "train_steps": STEPS,
        "valid_steps": STEPS,
        "report_every": STEPS,
        "num_workers": 0,
        "batch_size": 32,
        "batch_type": "sents",
        "optim": "adam",
        "learning_rate": 0.01,
        "seed": 1,
        "decoder_type": "rnn",
        "word_vec_size": 16,
        "hidden_size": 24,
        "dropout": 0.1,
        **options,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if k in VOCABULARY}))
    run("build_vocab", "-config", str(path), "-n_sample", "-1")
    path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if k != "overwrite"}))
    run("train", "-config", str(path))
    return folder, folder / f"model_step_{STEPS}.pt"


VOCABULARY = ("save_data", "src_vocab", "tgt_vocab", "overwrite", "data")


def theirs(path, sources, targets):
    """Log probabilities of the targets by OpenNMT-py's own model."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    vocabularies = dict_to_vocabs(checkpoint["vocab"])
    model = build_base_model(checkpoint["opt"], vocabularies)
    model.load_state_dict({"model": checkpoint["model"], "generator": checkpoint["generator"]}, precision=torch.float32)
    model.double().eval()
    scores = []
    for source, target in zip(sources, targets):
        ids = torch.tensor([vocabularies["src"](source.split())])[..., None]
        known = torch.tensor([vocabularies["tgt"](["<s>", *target.split(), "</s>"])])[..., None]
        with torch.no_grad():
            out, _ = model(ids, known, torch.tensor([ids.shape[1]]))
            logp = torch.log_softmax(model.generator(out), -1)
        scores.append(logp.gather(2, known[:, 1:]).sum().item())
    return scores


def compared(name, **options):
    folder, path = trained(name, **options)
    ours, (sources, targets) = s2s.import_opennmt(path), reversal.test(folder)
    scores = reversal.scores(ours, sources, targets)
    outputs = {}
    for beam in (1, 5):
        out = folder / f"out{beam}"
        arguments = ["-model", str(path), "-src", str(folder / "test.src"), "-output", str(out), "-gpu", "-1"]
        limits = ["-beam_size", str(beam), "-max_length", "20", "-length_penalty", "none", "-batch_size", "32"]
        run("translate", *arguments, *limits)
        found = ours.translate(sources, beam=beam, ending="best", max_length=20, allow_unknown=True)
        outputs[beam] = found, out.read_text().splitlines()
    expected = theirs(path, sources, targets)
    if name == KEPT:
        checkpoint = torch.load(path, weights_only=False)
        parts = ("model", "generator", "vocab", "opt")
        file = reversal.serialised({part: checkpoint[part] for part in parts})
        reversal.keep("opennmt_py", {"model.pt": file}, (sources, targets), expected, outputs)
    return reversal.verdict(name, scores, expected, outputs)


def cases():
    return []


def checks():
    for name, options in {
        "LSTM, general, input feeding": {"encoder_type": "brnn", "rnn_type": "LSTM", "layers": 1},
        "GRU, dot, input feeding": {
            "encoder_type": "rnn",
            "rnn_type": "GRU",
            "layers": 1,
            "global_attention": "dot",
        },
        "LSTM, mlp, no feeding, 2 layers": {
            "encoder_type": "brnn",
            "rnn_type": "LSTM",
            "layers": 2,
            "global_attention": "mlp",
            "input_feed": 0,
        },
    }.items():
        yield compared(name, **options)
