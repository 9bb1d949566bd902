"""Builds the extension s2s_kernels._C; everything else about the package is in pyproject.toml.

Environment: S2S_FORCE_CPU=1 leaves CUDA out, S2S_FORCE_CUDA=1 fails where CUDA cannot be built (else it is left out),
TORCH_CUDA_ARCH_LIST, CUDA_HOME, CXX and MAX_JOBS mean what they mean to torch.utils.cpp_extension.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

import setuptools

NAME = "s2s_kernels._C"
ROOT = Path(__file__).resolve().parent
MIN_TORCH = (2, 9)
# The commands that compile, or come just before compiling. An sdist needs neither torch nor a compiler.
BUILDING = {"bdist_wheel", "build", "build_ext", "develop", "dist_info", "editable_wheel", "install"}


def say(message):
    print(f"s2s_kernels: {message}", flush=True)


def stop(message):
    raise SystemExit(f"s2s_kernels: {message}")


def import_torch():
    """torch, or one sentence that says how to get it."""
    how = 'run "pip install --upgrade torch setuptools ninja" and then repeat this with --no-build-isolation.'
    try:
        import torch
    except ImportError:
        # pip builds in an environment of its own, with this very interpreter.
        if any(Path(sysconfig.get_path(name), "torch").is_dir() for name in ("purelib", "platlib")):
            stop("torch is installed, but this build cannot see it: repeat the command with --no-build-isolation.")
        stop(f"the build needs the torch that the package will run with, but cannot see one: {how}")
    except Exception as error:
        stop(f"the torch that is installed cannot be imported ({str(error).splitlines()[0]}).")
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < MIN_TORCH:
        stop(f"torch {torch.__version__} is too old, {'.'.join(map(str, MIN_TORCH))} or newer needed: {how}")
    return torch


def accepts(cxx, flags, source):
    """Whether the compiler takes these flags and this source."""
    command = [*shlex.split(cxx), "-x", "c++", "-fsyntax-only", *flags, "-"]
    return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def find_compiler():
    """(compiler, None), or (None, what is missing)."""
    if sys.platform == "win32":
        return None, "there is no Windows build of the extension yet"
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    cxx = next((name for name in names if shutil.which(shlex.split(name)[0])), None)
    if cxx is None:
        return None, f"no C++ compiler was found ({', '.join(names)}); install g++ 11 or newer"
    if not accepts(cxx, ["-std=c++20"], "#include <concepts>\n"):
        return None, f"the C++ compiler {cxx} cannot compile C++20; install g++ 11 or newer"
    if not accepts(cxx, [f"-I{sysconfig.get_path('include')}"], "#include <Python.h>\n"):
        return None, "Python.h was not found; install the headers of this Python (python3-dev on Debian)"
    return cxx, None


def openmp(torch, cxx):
    """Compile and link flags that make the extension share torch's thread pool, not start a second one."""
    lib = Path(torch.__file__).parent / "lib"
    if sys.platform == "darwin":
        compile_flags, link_flags = ["-Xclang", "-fopenmp"], [str(path) for path in lib.glob("libomp.dylib")]
    else:
        compile_flags, link_flags = ["-fopenmp"], ["-fopenmp"]
        bundled = sorted(lib.glob("libgomp*.so*"))
        is_gcc = accepts(cxx, [], "#ifdef __clang__\n#error clang has its own OpenMP library\n#endif\n")
        if bundled and is_gcc:  # the very file torch loads, whatever its name
            link_flags = [str(bundled[0])]
    if link_flags and accepts(cxx, compile_flags, "#include <omp.h>\n"):
        return compile_flags, link_flags
    say("the compiler has no OpenMP, so the CPU kernels will run on one thread.")
    return [], []


def cuda_toolkit(torch):
    """(CUDA_HOME, nvcc's version), or (None, why CUDA is left out)."""
    if os.environ.get("S2S_FORCE_CPU") == "1":
        return None, "S2S_FORCE_CPU is set"
    if not glob("csrc/cuda/*.cu"):
        return None, "this version has no CUDA kernels"
    if torch.version.cuda is None:
        return None, f"torch {torch.__version__} is built without CUDA"
    from torch.utils.cpp_extension import CUDA_HOME

    nvcc = Path(CUDA_HOME or "/nonexistent", "bin", "nvcc")
    if not nvcc.exists():
        return None, "no CUDA toolkit was found (set CUDA_HOME)"
    text = subprocess.run([str(nvcc), "--version"], text=True, capture_output=True).stdout
    version = re.search(r"release (\d+)\.(\d+)", text)
    if version is None:
        return None, f"{nvcc} does not run"
    if version[1] != torch.version.cuda.split(".")[0]:
        return None, f"nvcc is {version[1]}.{version[2]} but torch is built with CUDA {torch.version.cuda}"
    return CUDA_HOME, (int(version[1]), int(version[2]))


def default_archs(nvcc_version):
    # torch fails on an unset list where no GPU is visible, and would otherwise build for this GPU only.
    return "8.0;8.6;8.9;9.0;10.0+PTX" if nvcc_version >= (12, 8) else "8.0;8.6;8.9;9.0+PTX"


def max_jobs():
    """Cores, but no more than one job per 2 GiB of free memory."""
    affinity = getattr(os, "sched_getaffinity", None)
    jobs = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        free = int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) << 10
        jobs = min(jobs, free >> 31)
    except (OSError, TypeError):
        pass
    return max(1, jobs)


def compiler_version(cxx):
    text = subprocess.run([*shlex.split(cxx), "--version"], text=True, capture_output=True).stdout
    return text.splitlines()[0] if text else cxx


def extension(torch, cxx, cuda_home):
    from torch.utils import cpp_extension

    openmp_compile, openmp_link = openmp(torch, cxx)
    # No -march: the sources choose the instruction set at run time. -g0 and -fno-wrapv undo what Python's
    # own build flags would bring in.
    cxx_flags = ["-O3", "-std=c++20", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
    cxx_flags += ["-Wall", "-g0", "-fno-wrapv", *openmp_compile]
    sources = sorted(glob("csrc/*.cpp") + glob("csrc/cpu/**/*.cpp", recursive=True))
    make, flags = cpp_extension.CppExtension, {}
    if cuda_home:
        make = cpp_extension.CUDAExtension
        sources += sorted(glob("csrc/cuda/**/*.cpp", recursive=True) + glob("csrc/cuda/**/*.cu", recursive=True))
        flags["nvcc"] = ["-O3", "-std=c++17", "-lineinfo", "--compiler-options", "-fvisibility=hidden"]
        # Flags of torch's forbid what the kernels read and write 16-bit numbers with.
        flags["nvcc"] += ["-U__CUDA_NO_HALF_CONVERSIONS__", "-U__CUDA_NO_BFLOAT16_CONVERSIONS__"]
    headers = [path for path in glob("csrc/**/*", recursive=True) if path.endswith((".h", ".cuh"))]
    return make(
        NAME,
        sources,
        include_dirs=[str(ROOT / "csrc")],
        extra_compile_args={"cxx": cxx_flags, **flags},
        extra_link_args=openmp_link,
        depends=headers,
    )


def build_command(torch):
    # ninja, where pip installed it, lies beside this Python, which need not be on the PATH.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    os.environ.setdefault("MAX_JOBS", str(max_jobs()))
    from torch.utils.cpp_extension import BuildExtension

    class BuildOrExplain(BuildExtension):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "use_ninja": shutil.which("ninja") is not None})

        def finalize_options(self):
            super().finalize_options()
            # A lasting place, one for each Python and torch: pip would compile everything afresh each time.
            tag = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}-torch{torch.__version__}"
            self.build_temp = str(ROOT / "build" / tag)

        def run(self):
            cxx, problem = find_compiler()
            info = {"torch": torch.__version__, "compiler": None, "cuda": None, "cuda_archs": None}
            if problem and os.environ.get("S2S_FORCE_CUDA") == "1":
                stop(f"S2S_FORCE_CUDA is set, but {problem}.")
            if problem:
                self.extensions = []
                Path(self.get_ext_fullpath(NAME)).unlink(missing_ok=True)  # one of an earlier build
                say(f"installing without the compiled extension, because {problem}.")
            else:
                self.compile(cxx, info)
            info_file = Path(self.get_ext_fullpath(NAME)).with_name("_build_info.json")
            info_file.parent.mkdir(parents=True, exist_ok=True)
            info_file.write_text(json.dumps({**info, "problem": problem}, indent=1) + "\n")

        def compile(self, cxx, info):
            os.environ["CXX"] = cxx  # torch compiles with $CXX, else with "c++", found or not
            cuda_home, cuda = cuda_toolkit(torch)
            if cuda_home:
                archs = os.environ.get("TORCH_CUDA_ARCH_LIST")
                if not archs or (archs == "native" and not torch.cuda.is_available()):
                    archs = os.environ["TORCH_CUDA_ARCH_LIST"] = default_archs(cuda)
                info.update(cuda=".".join(map(str, cuda)), cuda_archs=archs)
                say(f"building for the CPU and for CUDA {info['cuda']}, architectures {archs}.")
            elif os.environ.get("S2S_FORCE_CUDA") == "1":
                stop(f"S2S_FORCE_CUDA is set, but {cuda}.")
            else:
                say(f"building for the CPU only, because {cuda}.")
            info["compiler"] = compiler_version(cxx)
            if self.compiles(cxx, cuda_home):
                return
            if not cuda_home:
                stop(f"the extension did not compile with {info['compiler']}; what it said is above.")
            if os.environ.get("S2S_FORCE_CUDA") == "1":
                stop("S2S_FORCE_CUDA is set, but the CUDA kernels did not compile; what nvcc said is above.")
            # An install is not to be lost for them: Triton's kernels serve CUDA tensors too.
            say("the CUDA kernels did not compile (what was said is above) and are left out; S2S_FORCE_CUDA=1 insists.")
            info.update(cuda=None, cuda_archs=None)
            if not self.compiles(cxx, None):
                stop(f"the extension did not compile with {info['compiler']}; what it said is above.")

        def compiles(self, cxx, cuda_home):
            """Whether the extension is built."""
            before = self.compiler, self.inplace
            try:
                vars(self.extensions[0]).update(vars(extension(torch, cxx, cuda_home)))
                super().run()
            except Exception as error:  # the compiler has said its own; a traceback into torch helps nobody
                if not isinstance(error.__cause__, subprocess.CalledProcessError):
                    print(error, file=sys.stderr)
                self.compiler, self.inplace = before  # which a run that fails leaves changed
                return False
            return True

    return BuildOrExplain


if int(setuptools.__version__.split(".")[0]) < 77:  # a fresh Python 3.11 environment has 65
    stop(f'setuptools {setuptools.__version__} is too old: run "pip install --upgrade setuptools" first.')
if BUILDING.isdisjoint(sys.argv):
    setuptools.setup()
else:
    torch = import_torch()
    # Only a name here: sources and flags are filled in once the compiler and CUDA have been looked for.
    setuptools.setup(ext_modules=[setuptools.Extension(NAME, [])], cmdclass={"build_ext": build_command(torch)})
