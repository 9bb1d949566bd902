"""The package as a thing that is built, installed and imported. Nothing here needs a network."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

import s2s_kernels as sk

ROOT = Path(__file__).resolve().parents[1]
extension_built = sk.info()["extension"]


def python(*args, cwd=ROOT, **env):
    """Runs Python with ``env`` over this environment; returns (exit status, all it printed)."""
    env = {key: value for key, value in {**os.environ, **env}.items() if value is not None}
    run = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return run.returncode, run.stdout


# Metadata


def test_the_version_is_in_one_place():
    assert metadata.version("s2s_kernels") == sk.__version__ == sk.info()["s2s_kernels"]
    for path in ("setup.py", "pyproject.toml", "s2s_kernels/__init__.py", "python/s2s/__init__.py"):
        assert f'"{sk.__version__}"' not in (ROOT / path).read_text(), path
    assert f"## [{sk.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_metadata():
    about = metadata.metadata("s2s_kernels")
    assert about["License-Expression"] == "Apache-2.0"
    assert about["Requires-Python"] == ">=3.10"
    assert [line for line in metadata.requires("s2s_kernels") if "extra" not in line] == ["torch>=2.9"]
    assert set(about.get_all("Provides-Extra")) == {"s2s", "bench", "onnx", "dev"}
    (command,) = metadata.entry_points(group="console_scripts", name="s2s")
    assert command.value == "s2s.__main__:main"


def test_every_requirement_is_pinned():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line.split(";")[0].strip() for line in lines if line and not line.startswith("#")]
    assert all(pin.count("==") == 1 for pin in pins)
    assert "torch==2.13.0" in pins


def test_no_two_sources_make_the_same_object():
    """The build calls an object as its source, without the ending."""
    objects = [path.with_suffix("") for path in (ROOT / "csrc").rglob("*") if path.suffix in (".cpp", ".cu")]
    assert len(objects) == len(set(objects))


@pytest.mark.parametrize("package", ["s2s_kernels", "s2s"])
def test_typed(package):
    assert resources.files(package).joinpath("py.typed").is_file()


# Import


def test_import_takes_little_more_than_torch():
    code = (
        "from time import process_time as now; start = now(); import torch; middle = now(); "
        "import s2s_kernels; print((now() - start) / (middle - start))"
    )
    ratios = [float(python("-W", "ignore", "-c", code)[1]) for _ in range(3)]
    assert statistics.median(ratios) < 1.5


@pytest.mark.skipif(not extension_built or sys.platform != "linux", reason="reads /proc/self/maps")
def test_one_openmp_library():
    code = "import s2s_kernels; print(open('/proc/self/maps').read())"
    mapped = {line.split()[-1] for line in python("-c", code)[1].splitlines() if "/" in line}
    pools = {path for path in mapped if any(name in Path(path).name for name in ("gomp", "libomp", "iomp"))}
    assert len(pools) == 1, f"the extension brings a second thread pool: {pools}"


def test_info():
    report = sk.info()
    assert report["torch"] == torch.__version__
    assert report["devices"].keys() >= {"cpu"}
    assert report["backends"]["cpu"] in ("cpp", "reference")
    assert (report["cpu_capability"] is not None) == report["extension"]


def test_info_command():
    status, table = python("-W", "error::RuntimeWarning", "-m", "s2s_kernels.info")
    assert status == 0, table
    assert ["s2s_kernels", sk.__version__] in [line.split() for line in table.splitlines()]
    status, text = python("-m", "s2s_kernels.info", "--json")
    # conftest.py pretends other cores.
    assert status == 0 and json.loads(text) | {"cores": 0} == json.loads(json.dumps(sk.info() | {"cores": 0}))


def test_a_build_for_another_torch_is_named(monkeypatch):
    from s2s_kernels import build_info

    assert build_info.build_mismatch() is None
    monkeypatch.setattr(build_info, "built", lambda: {"torch": "2.0.1+cpu"})
    assert f"built against torch 2.0.1+cpu but runs with torch {torch.__version__}" in build_info.build_mismatch()


# setup.py: every failure is one sentence, never a traceback


@pytest.fixture
def checkout(tmp_path):
    """A small copy of the sources, its C++ replaced, in which setup.py may write."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "s2s_kernels").mkdir()
    shutil.copy(ROOT / "s2s_kernels" / "version.py", tmp_path / "s2s_kernels")
    (tmp_path / "s2s_kernels" / "__init__.py").touch()
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "bindings.cpp").write_text("int answer() { return 42; }\n")
    return tmp_path


def build(checkout, *command, **env):
    status, output = python("setup.py", *(command or ("build_ext", "--inplace")), cwd=checkout, **env)
    assert "Traceback" not in output
    ours = [line for line in output.splitlines() if line.startswith("s2s_kernels: ")]
    return status, ours, output


def test_measured_tiles_are_packaged(checkout):
    """Beside the code that reads them, of an sdist too; where nothing was measured there is no such file."""
    (checkout / "s2s_kernels" / "triton").mkdir()
    (checkout / "s2s_kernels" / "triton" / "__init__.py").touch()
    (checkout / "s2s_kernels" / "triton" / "tiles.json").write_text("[]\n")
    assert build(checkout, "--quiet", "build_py", "--build-lib", "made")[0] == 0
    assert (checkout / "made" / "s2s_kernels" / "triton" / "tiles.json").is_file()
    assert build(checkout, "--quiet", "sdist", "--formats", "zip")[0] == 0
    (archive,) = (checkout / "dist").glob("*.zip")
    assert any(name.endswith("/s2s_kernels/triton/tiles.json") for name in ZipFile(archive).namelist())


def test_an_sdist_has_the_docs_and_what_make_dist_needs(checkout):
    for name in ("MANIFEST.in", "Makefile", "requirements.txt", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, checkout)
    for name in ("docs", ".ci"):
        shutil.copytree(ROOT / name, checkout / name)
    status, _, output = build(checkout, "--quiet", "sdist", "--formats", "zip")
    assert status == 0, output
    (archive,) = (checkout / "dist").glob("*.zip")
    names = {name.partition("/")[2] for name in ZipFile(archive).namelist()}
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    wanted |= {"Makefile", "requirements.txt", "LICENSE", ".ci/prove_wheel.py", "csrc/bindings.cpp"}
    assert not wanted - names


def build_info(checkout):
    return json.loads((checkout / "s2s_kernels" / "_build_info.json").read_text())


@pytest.mark.parametrize(
    "fake, sentence",
    [
        ("raise ModuleNotFoundError('torch')", "cannot see it: repeat the command with --no-build-isolation."),
        (
            "raise OSError('libtorch_cpu.so: no such file')",
            "cannot be imported (libtorch_cpu.so",
        ),
        ("__version__ = '2.8.1'", "torch 2.8.1 is too old, 2.9 or newer needed"),
    ],
    ids=["isolated", "broken torch", "old torch"],
)
def test_build_without_a_usable_torch(checkout, fake, sentence):
    shadow = checkout / "shadow"
    shadow.mkdir()
    (shadow / "torch.py").write_text(fake + "\n")
    status, ours, output = build(checkout, PYTHONPATH=str(shadow))
    assert status == 1 and len(ours) == 1 and sentence in ours[0], output
    status, _, output = build(checkout, "--quiet", "sdist", PYTHONPATH=str(shadow))
    assert status == 0, output


def test_build_where_no_torch_is_installed(checkout):
    shadow = checkout / "shadow"
    shadow.mkdir()
    (shadow / "torch.py").write_text("raise ModuleNotFoundError('torch')\n")
    (shadow / "sitecustomize.py").write_text(
        "import sysconfig\nget = sysconfig.get_path\n"
        "sysconfig.get_path = lambda name: '/nowhere' if name in ('purelib', 'platlib') else get(name)\n"
    )
    status, ours, output = build(checkout, PYTHONPATH=str(shadow))
    assert status == 1 and len(ours) == 1 and 'cannot see one: run "pip install' in ours[0], output


@pytest.mark.exhaustive
def test_build_without_a_compiler_goes_on(checkout):
    empty = checkout / "empty"
    empty.mkdir()
    status, ours, output = build(checkout, PATH=str(empty), CXX=None)
    assert status == 0, output
    assert len(ours) == 1 and "without the compiled extension, because no C++ compiler was found" in ours[0]
    assert "no C++ compiler" in build_info(checkout)["problem"]


needs_compiler = pytest.mark.skipif(not extension_built, reason="this environment could not compile either")


@needs_compiler
def test_build_for_the_cpu(checkout):
    status, ours, output = build(checkout, S2S_FORCE_CPU="1")
    assert status == 0, output
    assert ours == ["s2s_kernels: building for the CPU only, because S2S_FORCE_CPU is set."]
    assert list((checkout / "s2s_kernels").glob("_C*"))
    info = build_info(checkout)
    assert info["torch"] == torch.__version__ and info["compiler"] and info["problem"] is None


@pytest.mark.exhaustive
@needs_compiler
def test_build_that_does_not_compile(checkout):
    (checkout / "csrc" / "bindings.cpp").write_text("int answer( { return 42; }\n")
    status, ours, output = build(checkout)
    assert status == 1 and "did not compile" in ours[-1], output
    assert "bindings.cpp:1" in output


@needs_compiler
@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_build_that_must_have_cuda(checkout):
    (checkout / "csrc" / "cuda").mkdir()
    (checkout / "csrc" / "cuda" / "empty.cu").touch()
    status, ours, output = build(checkout, S2S_FORCE_CUDA="1", S2S_FORCE_CPU=None)
    assert status == 1 and len(ours) == 1, output
    assert ours[0] == f"s2s_kernels: S2S_FORCE_CUDA is set, but torch {torch.__version__} is built without CUDA."


@pytest.fixture
def broken_nvcc(checkout):
    """The environment of a machine whose nvcc tells its version and compiles nothing, with a torch that has CUDA."""
    home, shadow = checkout / "toolkit", checkout / "shadow"
    (home / "bin").mkdir(parents=True)
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo release 12.8, V12.8.93 && exit\necho no headers >&2\nexit 1\n'
    )
    nvcc.chmod(0o755)
    shadow.mkdir()
    (shadow / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if sys.argv[:1] == ['setup.py'] or 'setup.py' in sys.orig_argv:\n"
        "    import torch, torch.utils.cpp_extension as made\n"
        "    torch.version.cuda, made.CUDA_HOME = '12.8', os.environ['CUDA_HOME']\n"
    )
    (checkout / "csrc" / "cuda").mkdir()
    (checkout / "csrc" / "cuda" / "kernel.cu").write_text("int kernel() { return 1; }\n")
    return {"CUDA_HOME": str(home), "PYTHONPATH": str(shadow), "S2S_FORCE_CPU": None, "TORCH_CUDA_ARCH_LIST": "9.0"}


@needs_compiler
def test_build_goes_on_without_cuda_that_does_not_compile(checkout, broken_nvcc):
    status, ours, output = build(checkout, **broken_nvcc)
    assert status == 0, output
    assert "no headers" in output and len(ours) == 2
    assert ours[0] == "s2s_kernels: building for the CPU and for CUDA 12.8, architectures 9.0."
    assert ours[1].startswith("s2s_kernels: the CUDA kernels did not compile") and "S2S_FORCE_CUDA=1" in ours[1]
    assert list((checkout / "s2s_kernels").glob("_C*"))
    info = build_info(checkout)
    assert info["problem"] is None and info["cuda"] is None and info["compiler"]


@needs_compiler
def test_build_that_must_have_cuda_fails_where_it_does_not_compile(checkout, broken_nvcc):
    status, ours, output = build(checkout, S2S_FORCE_CUDA="1", **broken_nvcc)
    assert status == 1 and not list((checkout / "s2s_kernels").glob("_C*")), output
    assert ours[-1].startswith("s2s_kernels: S2S_FORCE_CUDA is set, but the CUDA kernels did not compile")
