#!/usr/bin/env bash
# Marian 1.12 (pymarian 1.12.31): score prints nothing any more from the first pair on that is longer than --max-length
# (1000 tokens by default), and exits with 0: the numbers of all later lines are lost, although it has made them (its log
# counts them). With --max-length-crop there is a number for each line.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymarian==1.12.31
cd "$work"
printf 'a b\nb a b a b\na\nb\n' >src
printf 'b a\nb a b a b\na\nb\n' >trg
printf '"</s>": 0\n"<unk>": 1\n"a": 2\n"b": 3\n' >v.yml
marian() {
    "$work/venv/bin/pymarian" "$1" -m m.npz -v v.yml v.yml -t src trg --cpu-threads 1 -w 100 "${@:2}"
}
marian train --type s2s --dim-emb 4 --dim-rnn 4 --after-batches 2 --seed 1 --quiet
marian score --max-length 3 >scores 2>log
marian score --max-length 3 --max-length-crop --quiet >cropped
grep -o 'Total sentences [0-9]*' log
echo "$(wc -l <scores) number for 4 pairs, the second of which is too long; cropped $(wc -l <cropped)"
[ "$(wc -l <scores)" = 1 ] && [ "$(wc -l <cropped)" = 4 ] && grep -q 'Total sentences 3' log
echo "still so"
