#!/usr/bin/env bash
# pymarian 1.12.31: an option that it does not know, or a model that is not there, raises nothing in Python: the process
# ends, with Marian's own exit status or an abort, and what stands in try ... except or finally does not run.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymarian==1.12.31
cd "$work"
printf '"</s>": 0\n"<unk>": 1\n' >v.yml
for options in 'models="missing.npz"' 'models="missing.npz", beem_size=3'; do
    cat >try.py <<PYTHON
import pymarian

try:
    pymarian.Translator($options, vocabs=["v.yml", "v.yml"], quiet=True)
except BaseException:
    print("caught")
finally:
    print("alive")
PYTHON
    status=0
    "$work/venv/bin/python" try.py >out 2>err || status=$?
    echo "Translator($options): exit status $status, '$(cat out)'"
    [ "$status" != 0 ] && ! grep -q -e caught -e alive out
done
echo "still so"
