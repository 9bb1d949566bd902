#!/usr/bin/env bash
# Marian 1.12 (pymarian 1.12.31): what does not go line by line.
# - score leaves out pairs that are longer than --max-length (1000 by default), without a word: fewer numbers than lines,
#   and nothing says which; --max-length-crop gives one for each. decode writes an empty line for such a text.
# - Translator.translate of a list gives two texts for one that has a line break in it, and one for an empty list.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymarian==1.12.31
cd "$work"
printf 'a b\nb a b a b\na\n' >src
printf 'b a\nb a b a b\na\n' >trg
printf '"</s>": 0\n"<unk>": 1\n"a": 2\n"b": 3\n' >v.yml
marian() {
    "$work/venv/bin/pymarian" "$1" -v v.yml v.yml --cpu-threads 1 -w 100 --quiet "${@:2}"
}
marian train --type s2s -m m.npz -t src trg --dim-emb 4 --dim-rnn 4 --after-batches 2 --seed 1
marian score -m m.npz -t src trg --max-length 3 >scores
marian score -m m.npz -t src trg --max-length 3 --max-length-crop >cropped
marian decode -m m.npz -i src --max-length 3 --quiet-translation >texts
echo "$(wc -l <scores) scores of 3 pairs, $(wc -l <cropped) when cropped; $(wc -l <texts) texts, the second: '$(sed -n 2p texts)'"
[ "$(wc -l <scores)" = 2 ] && [ "$(wc -l <cropped)" = 3 ] && [ -z "$(sed -n 2p texts)" ]
"$work/venv/bin/python" - <<'PYTHON'
import pymarian

translator = pymarian.Translator(models="m.npz", vocabs=["v.yml", "v.yml"], cpu_threads=1, workspace=100, quiet=True)
counts = len(translator.translate(["a\nb"])), len(translator.translate([]))
print(f"{counts[0]} texts for one of two lines, {counts[1]} for none")
assert counts == (2, 1)
PYTHON
echo "still so"
