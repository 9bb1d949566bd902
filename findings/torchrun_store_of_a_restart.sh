#!/usr/bin/env bash
# torchrun of PyTorch 2.13.0: after a restart (--max-restarts) the processes get the store of the start before, with all
# its keys and no prefix, though the comment where it is made says that each try has a new one. What a process that is
# gone has published there, such as the address at which gloo listens, is read as if it were of this start.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5
cd "$work"
cat >worker.py <<'PY'
import os
import sys

from torch.distributed.rendezvous import rendezvous

store, rank, size = next(rendezvous("env://"))
start = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if start == 0:
    store.set("key", "of the first start")
    sys.exit(1)
print(f"start {start} finds the key: {store.check(['key'])}", flush=True)
PY
"$work/venv/bin/python" -m torch.distributed.run --standalone --nproc-per-node 1 --max-restarts 1 worker.py 2>log | tee out
grep -qx 'start 1 finds the key: True' out
echo "still so"
