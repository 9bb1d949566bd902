#!/usr/bin/env bash
# Marian 1.12 (pymarian 1.12.31), models of type s2s: the decoder's step has two GRU cells, which treat their candidate's
# bias bx in two ways. The first one's (and the encoder's) stands outside the reset gate,
#   tanh(x Wx + bx + r * (h Ux)),
# the second one's inside it,
#   tanh(c Wx + r * (h Ux + bx)),
# although both are stored under the same names. Either rule for both of them gives other probabilities, which a look at
# the outputs would not tell. Below, the scores of a model that Marian trained, once more in numpy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymarian==1.12.31 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import random
import subprocess

import numpy as np

random.seed(1)
lines = [" ".join(random.choices("abcdef", k=random.randrange(2, 8))) for _ in range(1000)]
for name, texts in (("src", lines), ("trg", [line[::-1] for line in lines])):
    open(name, "w").write("".join(f"{text}\n" for text in texts))
    open(f"test.{name}", "w").write("".join(f"{text}\n" for text in texts[:20]))
tokens = ["</s>", "<unk>", *"abcdef"]
open("v.yml", "w").write("".join(f'"{token}": {i}\n' for i, token in enumerate(tokens)))


def marian(command, texts, *options):
    files = ["-m", "m.npz", "-v", "v.yml", "v.yml", "-t", *texts, "--cpu-threads", "1", "-w", "100", "--quiet"]
    done = subprocess.run(["venv/bin/pymarian", command, *files, *options], check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


sizes = "--dim-emb 8 --dim-rnn 12 --after-batches 200 --mini-batch 32 --learn-rate 0.02 --seed 1"
marian("train", ["src", "trg"], "--type", "s2s", *sizes.split())
expected = np.array(marian("score", ["test.src", "test.trg"]))
p = {name: x for name, x in np.load("m.npz").items() if not name.startswith("special")}


def gru(name, x, h, inside):
    gates = 1 / (1 + np.exp(-(x @ p[f"{name}_W"] + h @ p[f"{name}_U"] + p[f"{name}_b"][0])))
    r, z = np.split(gates, 2)
    bias = p[f"{name}_bx"][0]
    inner = r * (h @ p[f"{name}_Ux"] + bias) if inside else r * (h @ p[f"{name}_Ux"]) + bias
    return (1 - z) * np.tanh(x @ p[f"{name}_Wx"] + inner) + z * h


def score(source, target, first, second):
    words = [p["encoder_Wemb"][tokens.index(token)] for token in [*source.split(), "</s>"]]
    read = {}
    for name, order in (("encoder_bi", words), ("encoder_bi_r", words[::-1])):
        h, read[name] = np.zeros(12), []
        for x in order:
            h = gru(name, x, h, first)
            read[name].append(h)
    memory = np.concatenate([read["encoder_bi"], read["encoder_bi_r"][::-1]], 1)
    s = np.tanh(memory.mean(0) @ p["decoder_ff_state_W"] + p["decoder_ff_state_b"][0])
    y, total = np.zeros(8), 0.0
    for token in [*target.split(), "</s>"]:
        s = gru("decoder_cell1", y, s, first)
        keys = memory @ p["decoder_Wc_att"] + p["decoder_b_att"][0]
        weights = np.exp(np.tanh(keys + s @ p["decoder_W_comb_att"]) @ p["decoder_U_att"][:, 0])
        c = weights @ memory / weights.sum()
        s = gru("decoder_cell2", c, s, second)
        parts = [x @ p[f"decoder_ff_logit_l1_W{i}"] + p[f"decoder_ff_logit_l1_b{i}"][0] for i, x in enumerate((y, s, c))]
        logits = np.tanh(sum(parts)) @ p["decoder_ff_logit_l2_Wt"].T + p["decoder_ff_logit_l2_b"][0]
        total += logits[tokens.index(token)] - np.log(np.exp(logits).sum())
        y = p["decoder_Wemb"][tokens.index(token)]
    return total


pairs = [(line, line[::-1]) for line in lines[:20]]
for first, second in ((False, True), (False, False), (True, True)):
    off = np.abs(np.array([score(*pair, first, second) for pair in pairs]) - expected).max()
    where = ["outside", "inside"]
    print(f"bx of the first cell {where[first]}, of the second {where[second]}: off by {off:.1e}")
    assert (off < 1e-4) == (not first and second)
PYTHON
echo "still so"
