"""How many threads the CPU's kernels use: csrc/cpu/threads/limits.h."""

import os
import subprocess
import sys

import pytest

import s2s_kernels as sk
from s2s_kernels import extension

pytestmark = pytest.mark.skipif(not extension.built, reason="the extension, whose threads these are, is not built")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its affinity mask")
def test_no_more_threads_than_cores_of_the_affinity_mask():
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{core}]); from s2s_kernels import _C; print(_C.cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"


def test_no_more_threads_than_cores():
    extension._C.pretend_cores(3)
    try:
        assert extension._C.cores() == 3 == sk.info()["cores"]
        extension._C.pretend_cores(0)
        assert 1 <= extension._C.cores() <= (os.cpu_count() or 1)
    finally:
        extension._C.pretend_cores(64)  # as conftest.py has it


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the threads of a process")
@pytest.mark.parametrize(("cores", "more"), [(1, False), (4, True)])
def test_a_scan_starts_no_more(cores, more):
    """So small a scan that nothing but its steps is shared out."""
    code = f"""
import os, torch, s2s_kernels as sk
torch.set_num_threads(4)
sk.extension._C.pretend_cores({cores})
before = len(os.listdir("/proc/self/task"))
weights = torch.zeros(72, 4), torch.zeros(72, 24), torch.zeros(72), torch.zeros(72)
sk.gru(torch.zeros(16, 20, 4), torch.zeros(16, 24), *weights)
print(len(os.listdir("/proc/self/task")) - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (int(found.stdout) > 0) == more, found.stderr


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return str(folder / "process"), str(folder / "cgroup")


V1 = "12:pids:/a\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a"


@pytest.mark.parametrize(
    ("process", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 0),
        ("0::/", {}, 0),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "10000 100000", "a/cpu.max": "300000 100000"}, 1),
        ("0::/not/here", {"cpu.max": "400000 100000"}, 4),  # a container that sees its own group as the root
        ("0::/../other", {"cpu.max": "200000 100000"}, 2),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "250000", "cpu/a/b/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000"}, 1),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"}, 0),
        (V1 + "\n0::/c", {"cpu/cpu.cfs_quota_us": "600000", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ("rubbish\n:\n0::", {"cpu.max": "no number"}, 0),
        ("0::/", {"cpu.max": "200000"}, 0),
        ("0::/", {"cpu.max": "0 0"}, 0),
    ],
)
def test_quota_of_a_control_group(tmp_path, process, files, cores):
    files = {"process": process} | {f"cgroup/{name}": text for name, text in files.items()}
    assert extension._C.quota(*written(tmp_path, files)) == cores


def test_no_control_groups(tmp_path):
    assert extension._C.quota(str(tmp_path / "none"), str(tmp_path / "nowhere")) == 0
