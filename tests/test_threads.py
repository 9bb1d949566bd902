"""csrc/cpu/threads: who helps the caller of an op, how many there may be, and what they may not disturb."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import call, example, outputs_and_gradients, place, set_threads

import s2s_kernels as sk
from s2s_kernels import extension

ROOT = Path(__file__).parents[1]
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
pytestmark = pytest.mark.skipif(not extension.built, reason="the extension, whose threads these are, is not built")


@pytest.mark.parametrize("flags", [["-O2"], pytest.param(["-O1", "-g", "-fsanitize=thread"], marks=pytest.mark.slow)])
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_jobs(tmp_path, flags):
    """Each part once, members in step, failures, forks, many callers: tests/threads/jobs.cpp."""
    threads = ROOT / "csrc" / "cpu" / "threads"
    sources = [threads / "pool.cpp", threads / "sleep.cpp", ROOT / "tests" / "threads" / "jobs.cpp"]
    command = ["g++", "-std=c++20", *flags, f"-I{ROOT / 'csrc'}", *map(str, sources), "-pthread", "-o", "jobs"]
    subprocess.run(command, cwd=tmp_path, check=True)
    # ThreadSanitizer refuses a child of fork that starts threads.
    few = ["./jobs", "100", "without fork"] if "-fsanitize=thread" in flags else ["./jobs", "200"]
    made = subprocess.run(few, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert made.stdout == "passed\n" and made.returncode == 0, made.stderr


def run_python(code, **options):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True, **options)


CALL = """
import torch, s2s_kernels as sk
from helpers import call, example, outputs_and_gradients, place, set_threads
inputs = place(example("gru", B=64, T=9, H=64), dtype=torch.float32)
"""


@linux
@pytest.mark.parametrize("own", [False, True])
def test_a_child_of_fork_with_threads(own):
    """Ours are begun anew there; libgomp's, of which PyTorch's loops are, would hang."""
    run_python(
        f"""{CALL}
import os, signal
set_threads(4, own={own})
expected = call(sk, "gru", inputs)[0]
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        found = [call(sk, "gru", inputs)[0] for _ in range(20)]
        torch.set_num_threads(1)  # for torch.equal, which would hang
        os._exit(0 if all(torch.equal(x, expected) for x in found) else 1)
    assert os.waitpid(child, 0)[1] == 0
"""
    )


@linux
def test_the_process_ends_while_threads_sleep():
    run_python(f"{CALL}\nset_threads(4, own=True)\ncall(sk, 'gru', inputs)\nimport time\ntime.sleep(0.05)")


def test_another_number_of_threads_in_every_call(kernel, threads):
    inputs = place(example("attention_gru", B=20, T=5, H=64), kernel.device, torch.float32)
    threads(1)
    expected = call(sk, "attention_gru", inputs)[0]
    for count in (2, 8, 1, 3, 8, 2, 5):
        threads(count)
        assert torch.equal(call(sk, "attention_gru", inputs)[0], expected), f"{count} threads"


SEQUENCES = [
    {"B": 1, "T": 30, "I": 7, "H": 128},  # so few rows that no weight is packed
    {"B": 1, "T": 90, "I": 9, "H": 128},  # threads that make the gates of their own part of the state
    {"B": 1, "T": 80, "I": 512, "H": 512},  # so much that they do so beside other processes, too
    {"B": 3, "T": 70, "I": 20, "H": 80, "lengths": torch.int64},  # threads that do not
    {"B": 20, "T": 30, "I": 8, "H": 64, "lengths": torch.int64, "reverse": True},
    {"B": 70, "T": 9, "I": 30, "H": 40, "lengths": torch.int64},
]


@pytest.fixture
def crowded():
    """As if a thread had had to wait for a core; as it is, after the test."""
    yield lambda: extension._C.pretend_crowded(True)
    extension._C.pretend_crowded(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", SEQUENCES, ids=str)
@pytest.mark.parametrize("op", ["gru", "lstm"])
def test_the_same_bits_from_any_number_of_threads(kernel, threads, crowded, op, form, dtype):
    inputs = place(example(op, **form), kernel.device, dtype)
    threads(1)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    expected = outputs_and_gradients(sk, op, inputs, cotangents)
    for count, alone in ((2, True), (3, True), (8, True), (3, False), (8, False)):
        threads(count)
        if not alone:
            crowded()
        found = outputs_and_gradients(sk, op, inputs, cotangents)
        for name, x in expected.items():
            assert torch.equal(found[name], x), f"{name} from {count} threads"


def test_large_work_in_finer_parts_beside_others(kernel, threads, crowded):
    """Beside other processes: whoever has a core takes more of them."""
    inputs = place(example("attention_gru", B=64, T=20, S=9, H=128, A=128), kernel.device, torch.float32)
    threads(1)
    expected = call(sk, "attention_gru", inputs)
    threads(2)
    crowded()
    for x, y in zip(call(sk, "attention_gru", inputs), expected, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("op", ["gru", "lstm"])
def test_inference_keeps_gates_of_a_few_steps(kernel, op):
    B, T, H = 16, 200, 64
    inputs = place(example(op, B=B, T=T, I=5, H=H), kernel.device, torch.float32)
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as found:
        call(sk, op, inputs)
    largest = max(e.nbytes() for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
    assert B * T * H * 4 <= largest < 1.1 * B * T * H * 4  # the output's


def test_torch_keeps_its_threads(threads):
    """Ops keep ATen to one thread while they run, and no longer; a wrong call too."""
    threads(3)
    inputs = place(example("gru", B=64, T=9, H=64), dtype=torch.float32)
    call(sk, "gru", inputs)
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="x "):
        call(sk, "gru", inputs | {"x": inputs["x"][0]})
    assert torch.get_num_threads() == 3


def test_denormals_are_zeros_in_every_thread_or_in_none(threads):
    """torch.set_flush_denormal speaks of the calling thread; helpers do as it does."""
    inputs = place(example("gru_step", B=512, H=64), dtype=torch.float32)
    inputs = {name: x * 0 for name, x in inputs.items()}
    inputs["h"] = inputs["h"] + 1e-38  # the next state is half of it, which is denormal
    for count in (1, 4):
        threads(count)
        for flush in (True, False):
            if not torch.set_flush_denormal(flush):
                pytest.skip("this processor has no such mode")
            try:
                found = [(call(sk, "gru_step", inputs)[0] == 0).float().mean().item() for _ in range(5)]
            finally:
                torch.set_flush_denormal(False)
            assert found == [float(flush)] * 5, f"{count} threads"


@linux
def test_no_more_threads_than_cores_of_the_affinity_mask():
    core = min(os.sched_getaffinity(0))
    found = run_python(f"import os; os.sched_setaffinity(0, [{core}]); from s2s_kernels import _C; print(_C.cores())")
    assert found.stdout.strip() == "1"


def test_no_more_threads_than_cores():
    extension._C.pretend_cores(3)
    assert extension._C.cores() == 3 == sk.info()["cores"]
    set_threads(0)
    assert 1 <= extension._C.cores() <= (os.cpu_count() or 1)


@linux
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


@linux
def test_signals_reach_the_program():
    """Helpers block them, so that Python's own thread is interrupted."""
    set_threads(4, own=True)
    try:
        call(sk, "gru", place(example("gru", B=64, T=9, H=64), dtype=torch.float32))
        blocked = {}
        for task in Path("/proc/self/task").iterdir():
            status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
            blocked[task.name] = int(status["SigBlk"], 16) >> (signal.SIGINT - 1) & 1
    finally:
        set_threads(0)
    assert sum(blocked.values()) >= 3 and not blocked[str(os.getpid())]
