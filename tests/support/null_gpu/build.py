"""Builds the null GPU: a CUDA runtime, driver, cuBLAS, cuDNN, NCCL and NVML whose kernels do nothing.

Preloaded before PyTorch's CUDA build, it runs PyTorch's own dispatch, autocast, autograd, allocator, CUDA graphs and
Triton's compiler without a GPU, and counts launches, waits of the host, copies and memory. It computes no result.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).parent
RUNTIME = ("memory.c", "runtime.c", "libraries.c")
LIBRARIES = {"libnullgpu.so": RUNTIME, "libcuda.so.1": ("driver.c",), "libnvidia-ml.so.1": ("nvml.c",)}
FLAGS = ("-O1", "-fPIC", "-shared", "-w")
COMPUTES = re.compile(
    r"cublas.*|nccl(All|Bcast|Broadcast|Reduce|Send|Recv).*|cudnnBackendExecute"
    r"|cudnn(?!Get|Set|Create|Destroy|Find)\w*(Forward|Backward)\w*"
)
"""Functions that would launch kernels; each call counts."""
ELSEWHERE = re.compile(r"cudnn\w*|nccl(Get|Red|Dev|Mem|Comm).*|nvrtc\w*|cuFile\w*|cublasLtGetVersion|\w*\W.*")
"""Functions of the real libraries that need no GPU: descriptors, versions and texts of errors."""
NOT_SUPPORTED = 801


def obstacle() -> str | None:
    """Returns the reason why the null GPU cannot run here, or None."""
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} has no CUDA build"
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        return "the null GPU needs Linux on x86_64"
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        return "there is no C compiler (gcc and nm)"
    if not all(any((folder / name).exists() for folder in _headers()) for name in ("cuda.h", "cuda_runtime_api.h")):
        return "the CUDA headers of PyTorch's and Triton's wheels are missing"
    return None


@functools.cache
def build() -> Path:
    """Compiles the libraries, unless they exist for these sources and this PyTorch. Returns their folder."""
    import torch

    text = "".join(path.read_text() for path in sorted(SOURCES.glob("*.[ch]"))) + Path(__file__).read_text()
    key = hashlib.sha256((text + torch.__version__ + torch.__file__).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"null-gpu-{os.getuid()}-{key}")
    if not folder.is_dir():
        scratch = Path(tempfile.mkdtemp(prefix="null-gpu-"))
        _compile(scratch)
        try:
            scratch.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
    return folder


def environment(**settings: object) -> dict[str, str]:
    """Returns the environment of a process on the null GPU.

    Settings: `devices` (1), `gib` of each device (80), `capability` (90), `dies_after` so many launches, in one process
    only with the path `dies_once`.
    """
    folder = str(build())
    own = {f"NULL_GPU_{name.upper()}": str(value) for name, value in settings.items()}
    paths = {
        "LD_PRELOAD": f"{folder}/libnullgpu.so",
        "LD_LIBRARY_PATH": folder,
        "TRITON_LIBCUDA_PATH": folder,
        "TRITON_CACHE_DIR": f"{folder}/triton",
    }
    inherited: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if not name.startswith(("NULL_GPU_", "CUDA_VISIBLE"))
    }
    return {**inherited, **paths, "NULL_GPU": "1", "OMP_NUM_THREADS": "1", **own}


def _compile(folder: Path) -> None:
    objects = folder / "objects"
    objects.mkdir()
    includes = [f"-I{path}" for path in (SOURCES, *_headers())]
    for library, sources in LIBRARIES.items():
        paths = [str(SOURCES / source) for source in sources]
        if library == "libnvidia-ml.so.1":
            stubs = ""
        else:
            _gcc("-c", *includes, *paths, cwd=objects)
            built = [str(objects / Path(source).with_suffix(".o")) for source in sources]
            is_driver = library == "libcuda.so.1"
            stubs = _stubs(_missing(is_driver) - _symbols("--defined-only", built))
        generated = objects / f"{library}.c"
        generated.write_text(stubs)
        _gcc(*includes, *paths, str(generated), f"-Wl,-soname,{library}", "-o", str(folder / library), cwd=objects)


def _gcc(*arguments: str, cwd: Path) -> None:
    subprocess.run(["gcc", *FLAGS, *arguments, "-ldl", "-lpthread"], cwd=cwd, check=True)


def _missing(is_driver: bool) -> set[str]:
    """Returns the functions of CUDA that PyTorch's libraries, or Triton's launcher, take from elsewhere."""
    import torch

    names = _symbols("--undefined-only", sorted(Path(torch.__file__).parent.glob("lib/lib*.so")))
    if not is_driver:
        return {name for name in names if re.match(r"(cuda|cublas|cudnn|nccl)[A-Z]", name)}
    for headers in _headers():
        launcher = headers.parent / "driver.c"
        names |= set(re.findall(r"\bcu[A-Z]\w+", launcher.read_text())) if launcher.is_file() else set()
    return {name for name in names if re.match(r"cu[A-Z]", name) and not name.startswith("cuFile")}


def _symbols(which: str, files: list[str] | list[Path]) -> set[str]:
    dynamic = [] if str(files[0]).endswith(".o") else ["-D"]
    out = subprocess.run(["nm", *dynamic, which, *map(str, files)], capture_output=True, text=True, check=False).stdout
    return {line.split()[-1].partition("@")[0] for line in out.splitlines() if len(line.split()) > 1}


def _stubs(names: set[str]) -> str:
    lines = ["int null_gpu_library(const char *name);"]
    for name in sorted(names):
        if COMPUTES.fullmatch(name) and not name.startswith("cublasLtGet"):
            lines.append(f'int {name}(void) {{ return null_gpu_library("{name}"); }}')
        elif not ELSEWHERE.fullmatch(name):
            lines.append(f"int {name}(void) {{ return {NOT_SUPPORTED}; }}")
    return "\n".join(lines) + "\n"


def _headers() -> list[Path]:
    """Returns the folders of CUDA's headers, which come with the wheels of PyTorch and Triton."""
    folders = []
    for package, inner in (("nvidia", "*/include"), ("triton", "backends/nvidia/include")):
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or []) if spec else []:
            folders += sorted(path for path in Path(location).glob(inner) if path.is_dir())
    return folders
