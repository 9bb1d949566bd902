#!/usr/bin/env bash
# Stanza 1.15.0: of the four choices of --attn_type, in the lemmatizer and in the expander of multi-word tokens, "soft", the
# default, is the only one that runs: the decoder calls its attention with return_logattn, which no other attention takes,
# and so "mlp", "linear" and "deep" raise at the first step of the model, with or without copying.
# Seen: "BasicAttention.forward() got an unexpected keyword argument 'return_logattn'"; the same of LinearAttention and
# DeepAttention.
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
from stanza.models import lemmatizer, mwt_expander
from stanza.models.common.seq2seq_model import Seq2SeqModel

NAMES = {"mlp": "BasicAttention", "linear": "LinearAttention", "deep": "DeepAttention"}
source = torch.randint(4, 20, (2, 6))
for script in (lemmatizer, mwt_expander):
    for attention in ("soft", *NAMES):
        for copy in ([], ["--no_copy"]):
            args = vars(script.build_argparse().parse_args(["--num_layers", "1", "--attn_type", attention, *copy]))
            args.update(vocab_size=20, pos_vocab_size=5)
            model, pos = Seq2SeqModel(args), torch.tensor([1, 2]) if args.get("pos") else None
            try:
                model(source, source.eq(0), source, pos)
            except TypeError as error:
                said = str(error)
                assert said == f"{NAMES[attention]}.forward() got an unexpected keyword argument 'return_logattn'"
            else:
                said = "runs"
                assert attention == "soft"
            print(f"{script.__name__}, --attn_type {attention}, copy={args['copy']}: {said}")
PYTHON
echo "still so"
