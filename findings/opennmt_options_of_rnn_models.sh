#!/usr/bin/env bash
# OpenNMT-py 3.5.1, two options of models of RNNs.
# -truncated_decoder N fails for every target of more than N + 1 tokens, <s> and </s> included: Trainer hands the model a
# piece of the target, and LossCompute cuts that piece's output at the piece's start once more, so that of the second piece
# nothing is left, and the loss raises. A target of N + 1 tokens is one piece, and trains, but without its last token, </s>.
# -replace_unk with a decoder that feeds its input (the default): its attention is (steps, batch, source), while the
# searches index (batch, steps, source), which it is without input feeding. So beam search raises, and so does greedy search
# of more than one sentence.
# Seen, targets of 9 tokens: N = 0 and 9 train 24 target tokens of 3 sentences, 8 trains 21, 7 and 4 raise "Expected input
# batch_size (0) to match target batch_size (3)" and (9); "index 1 is out of bounds for dimension 0 with size 1".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps opennmt-py==3.5.1 \
    annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 blinker==1.9.0 blis==1.3.4 \
    catalogue==2.0.10 certifi==2026.10.19.post1 charset-normalizer==3.5.3 click==8.5.1 cloudpathlib==0.26.0 \
    colorama==0.4.6 confection==1.3.4 configargparse==1.9.0 cymem==2.0.16 fasttext-wheel==0.9.2 flask==3.1.3 \
    h11==0.16.0 httpcore==1.0.9 httpx==0.28.1 idna==3.20 itsdangerous==2.2.0 lxml==6.1.3 murmurhash==1.0.16 \
    packaging==25.0 portalocker==4.4.2 preshed==3.0.15 pyahocorasick==2.3.1 pybind11==3.1.0 pydantic-core==2.50.5 \
    pydantic==2.14.4 pyonmttok==1.38.1 pyyaml==6.0.3 rapidfuzz==3.14.6 regex==2026.7.19 requests==2.34.2 \
    sacrebleu==2.6.0 shellingham==1.5.4 six==1.17.0 smart_open==9.0.2 spacy-legacy==3.0.12 spacy-loggers==1.0.5 \
    spacy==3.8.18 srsly==2.5.6 tabulate==0.10.0 thinc==8.3.14 tqdm==4.67.1 typer==0.29.2 typing-inspection==0.4.5 \
    urllib3==2.8.0 waitress==3.0.2 wasabi==1.1.3 weasel==1.0.1 werkzeug==3.1.9 wrapt==2.5.2
"$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
from collections import Counter
from types import SimpleNamespace

import onmt.opts
import pyonmttok
import torch
from onmt.model_builder import build_base_model
from onmt.trainer import Trainer
from onmt.translate import GNMTGlobalScorer, Translator
from onmt.utils.loss import LossCompute
from onmt.utils.optimizers import Optimizer
from onmt.utils.parse import ArgumentParser

SPECIAL = ["<unk>", "<blank>", "<s>", "</s>"]
words = Counter(dict.fromkeys("abcdefgh", 1))
vocab = pyonmttok.build_vocab_from_tokens(words, maximum_size=0, minimum_frequency=1, special_tokens=SPECIAL)
vocabs = {"src": vocab, "tgt": vocab, "decoder_start_token": "<s>", "data_task": "seq2seq"}
torch.manual_seed(0)
start, end = torch.full((3, 1, 1), 2), torch.full((3, 1, 1), 3)
target = torch.cat([start, torch.randint(4, len(vocab), (3, 7, 1)), end], 1)
batch = {"src": torch.randint(4, len(vocab), (3, 6, 1)), "srclen": torch.tensor([6, 6, 6]), "tgt": target}


def build(*flags):
    parser = ArgumentParser(description="train.py")
    onmt.opts.train_opts(parser)
    files = ["--data", "{}", "--src_vocab", "none", "--save_data", "none"]
    sizes = ["--encoder_type", "rnn", "--decoder_type", "rnn", "--hidden_size", "8", "--word_vec_size", "8"]
    options = parser.parse_args([*files, *sizes, *flags])
    ArgumentParser.update_model_opts(options)
    ArgumentParser.validate_model_opts(options)
    torch.manual_seed(0)
    model = build_base_model(options, vocabs)
    for p in model.parameters():
        torch.nn.init.uniform_(p, -options.param_init, options.param_init)
    return options, model


def outcome(function, *kinds):
    try:
        return function()
    except kinds as error:
        return str(error)


trained = {}
for size in (0, 9, 8, 7, 4):
    options, model = build("--truncated_decoder", str(size))
    loss, optimizer = LossCompute.from_opts(options, model, vocab), Optimizer.from_opt(model, options)
    no_transforms = SimpleNamespace(transforms=None)
    trainer = Trainer(model, loss, None, no_transforms, [], optimizer, trunc_size=options.truncated_decoder)
    trained[size] = outcome(lambda: trainer.train([(batch, 0)], 1).n_words, ValueError)
    print(f"--truncated_decoder {size}: {trained[size]}")
wrong = "Expected input batch_size (0) to match target batch_size ({})."
assert trained == {0: 24, 9: 24, 8: 21, 7: wrong.format(3), 4: wrong.format(9)}

for feed in ("1", "0"):
    model = build("--input_feed", feed)[1].eval()
    for rows, beam in ((1, 1), (3, 1), (1, 5), (3, 5)):
        data = {name: values[:rows] for name, values in batch.items()}
        translator = Translator(
            model,
            vocabs,
            beam_size=beam,
            random_sampling_topk=1,
            max_length=4,
            replace_unk=True,
            global_scorer=GNMTGlobalScorer(alpha=0.0, beta=0.0, length_penalty="none", coverage_penalty="none"),
            dump_beam="",
            report_score=False,
        )
        found = outcome(lambda: translator.translate_batch(data, attn_debug=False), IndexError)
        found = found if isinstance(found, str) else f"{len(found['predictions'])} translated"
        print(f"--replace_unk, input_feed {feed}, {rows} sentences, beam {beam}: {found}")
        assert ("out of bounds for dimension 0 with size 1" in found) == (feed == "1" and (rows, beam) != (1, 1))
PYTHON
echo "still so"
