"""Peak extra memory of one forward and backward pass.

On a GPU PyTorch counts it. On a CPU a second process runs the pass and reads the growth of its own resident set,
which takes in every allocation whoever made it; its malloc gives blocks back at once, so that memory kept from before
does not hide what a pass needs. The kernel counts pages in batches: it is exact to about half a megabyte.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import torch


def peak_cuda(step):
    """Bytes above what was allocated before ``step``."""
    step()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def peak_resident(step):
    """Bytes that the resident set grows by during ``step``; OSError where the system does not tell."""
    step()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak
    before = _resident("VmRSS:")
    result = step()
    peak = _resident("VmHWM:")
    del result
    return max(0, peak - before)


class Process:
    """The second process. ``peak(run, name)`` is in bytes, or None where it cannot be measured."""

    def __init__(self):
        self.process = None

    def _start(self):
        env = dict(os.environ, OMP_WAIT_POLICY="passive")
        env.update(MALLOC_MMAP_THRESHOLD_="8192", MALLOC_TRIM_THRESHOLD_="8192")
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.memory"],
            cwd=Path(__file__).parents[1],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def peak(self, run, name):
        try:
            self.process = self.process or self._start()
            print(json.dumps([run.suite, run.threads, run.key, name]), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            return None

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


def main():
    """Answers requests, one JSON line each, until the input ends."""
    from .steps import training_step
    from .suites import runs

    for line in sys.stdin:
        suite, threads, key, name = json.loads(line)
        run = next(r for r in runs(suite, threads) if r.key == key)
        torch.set_num_threads(run.threads)
        implementation = next(i for i in run.implementations() if i.name == name)
        try:
            with implementation.chosen():
                answer = peak_resident(training_step(run, implementation))
        except OSError:
            answer = None
        print(json.dumps(answer), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
