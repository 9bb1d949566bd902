#!/usr/bin/env bash
# Stanza 1.15.0: the dependency parser reads no morphological features. Its use_ufeats, on by default, makes embeddings for
# them and widens the LSTM's input, but what goes there is the embedding of the tags (upos and xpos) a second time. So no
# feature changes the loss, and ufeats_emb gets no gradient. With --no_upos and --no_xpos the features, all that is left
# of a word's tags, fail in the forward pass.
# Seen: input size 375 (325 with --no_ufeats), columns 150-199 and 200-249 equal, the loss the same with other features;
# no gradient for ufeats_emb.0.weight and ufeats_emb.1.weight alone; "'int' object has no attribute 'data'".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps stanza==1.15.0 emoji==2.16.0 orjson==3.13.0 protobuf==7.36.2 \
    requests==2.34.2 certifi==2026.10.19.post1 charset-normalizer==3.5.3 idna==3.20 urllib3==2.8.0 udtools==0.2.9 \
    udapi==0.5.2 colorama==0.4.6 regex==2026.7.19 platformdirs==4.14.5 termcolor==3.3.0 huggingface_hub==2.4.0 \
    tqdm==4.67.1 packaging==25.0 pyyaml==6.0.3
"$work/venv/bin/python" -W ignore - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import torch
from stanza.models import parser
from stanza.models.depparse.data import Dataset
from stanza.models.depparse.model import GraphParser
from stanza.models.depparse.trainer import unpack_batch
from stanza.utils.conll import CoNLL

document = CoNLL.conll2doc(
    input_str="1\tBirds\tbird\tNOUN\tNNS\tNumber=Plur\t2\tnsubj\t_\t_\n"
    "2\tsing\tsing\tVERB\tVBP\tTense=Pres\t0\troot\t_\t_\n"
    "3\tsongs\tsong\tNOUN\tNNS\tNumber=Plur\t2\tobj\t_\t_\n\n"
)


def build(*flags):
    """The parser, with dropout off and nothing left at zero, and a batch of the sentence."""
    args = vars(parser.build_argparse().parse_args(["--no_pretrain", "--word_cutoff", "0", *flags]))
    args["shorthand"] = "en_test"
    vocab = Dataset(document, args, pretrain=None).vocab
    data = Dataset(document, args, pretrain=None, vocab=vocab, evaluation=True)
    inputs, _, *others = unpack_batch(next(iter(data.to_loader(batch_size=1000))), "cpu")
    torch.manual_seed(0)
    model = GraphParser(args, vocab)
    for p in model.parameters():
        if not p.any():  # its classifiers begin as zeros, which would stop every gradient
            torch.nn.init.normal_(p)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.worddrop.dropprob = 0.0
    return model, list(inputs), others


model, inputs, others = build()
without, _, _ = build("--no_ufeats")
seen = []
model.parserlstm.register_forward_pre_hook(lambda module, args: seen.append(args[0].data))
loss = model.loss(*inputs, *others)[0]
loss.backward()
off = {"drop_replacement"}  # of the word dropout
stopped = [name for name, p in model.named_parameters() if p.grad is None and name not in off]
inputs[6], features = inputs[6].roll(1, dims=1), inputs[6]  # every word gets the features of the one before
assert not torch.equal(inputs[6], features)
other = model.loss(*inputs, *others)[0]
print(f"input size {model.input_size}, with --no_ufeats {without.input_size}")
print(f"loss {loss.item()}, with other features {other.item()}; no gradient: {stopped}")
assert (model.input_size, without.input_size) == (375, 325)
assert torch.equal(seen[0][:, 150:200], seen[0][:, 200:250]) and seen[0][:, 150:250].any()
assert torch.equal(loss, other) and stopped == ["ufeats_emb.0.weight", "ufeats_emb.1.weight"]

model, inputs, others = build("--no_upos", "--no_xpos")
try:
    model.loss(*inputs, *others)
except AttributeError as error:
    print(f"features alone: {error}")
    assert "'int' object has no attribute 'data'" in str(error)
else:
    raise AssertionError("features alone work")
PYTHON
echo "still so"
