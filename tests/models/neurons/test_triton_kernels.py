"""Compilation of the kernels for a GPU, which needs none: what is compiled anew, and what fits into the registers."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.neurons import multistep
from models.neurons.multistep import Neuron
from models.neurons.surrogates import CLOSED_FORM_NAMES

NEURONS = ("lif", "if", "plif", "klif", "eif", "ilif", "clif", "glif")
Compiled = dict[str, list[Any]]
"""Compiled kernels of each name."""


class NoGpu:
    """Triton's driver of a GPU of one architecture that is not there."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


@pytest.fixture(name="compiled")
def _compiled(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """Compiles kernels instead of launching them; returns those compiled, for the architecture in `request.param`."""
    driver = pytest.importorskip("triton", reason="Triton is not installed").runtime.driver
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    names = [f"models.neurons.triton_{part}" for part in ("surrogates", "steps", "kernels")]
    for name in names:
        sys.modules.pop(name, None)
    module = importlib.import_module(names[-1])
    compiled: Compiled = {}

    def kernel(name: str) -> Any:
        return _Compiler(getattr(module, name), compiled.setdefault(name, []))

    monkeypatch.setattr(multistep, "_kernel", kernel)
    monkeypatch.setattr(driver, "_active", NoGpu(getattr(request, "param", 90)))
    return compiled


class _Compiler:
    """A kernel that is only compiled."""

    def __init__(self, kernel: Any, compiled: list[Any]) -> None:
        self.kernel, self.compiled = kernel, compiled

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def compile_for(*arguments: Any, **choices: Any) -> None:
            found = self.kernel.warmup(*arguments, grid=grid, **choices)
            if all(found is not other for other in self.compiled):
                self.compiled.append(found)

        return compile_for


def train(neuron: Neuron, T: int = 4, width: int = 64, dtype: torch.dtype = torch.bfloat16) -> None:
    """Calls forward and backward; the values are those of uninitialised memory."""
    x = torch.zeros(T, 16, width, dtype=dtype, requires_grad=True)
    learned = {"plif": 1, "klif": 1, "glif": 7 + T}.get(neuron.name)
    numbers = None if learned is None else torch.zeros(learned, requires_grad=True)
    spikes, _ = multistep.multistep(x, (None, None), numbers, neuron, keep_states=False)
    spikes.sum().backward()


def test_other_constants_and_widths_compile_nothing(compiled: Compiled) -> None:
    for tau, threshold, a in ((2.0, 1.0, 4.0), (1.0, 1.0, 1.0), (1.7, 0.25, 2.5), (16.0, 16.0, 16.0)):
        train(Neuron("lif", "sigmoid", (tau, threshold, a, 0.0)))
    train(Neuron("lif", "sigmoid", (2.0, 1.0, 4.0, 0.0)), width=256)
    assert {name: len(kernels) for name, kernels in compiled.items()} == {"forward_kernel": 1, "backward_kernel": 1}


def test_products_and_sums_are_rounded_apart(compiled: Compiled) -> None:
    train(Neuron("plif", "sigmoid", (1.0, 1.0, 4.0, 0.0)), dtype=torch.float32)
    (forward,) = compiled["forward_kernel"]
    assert "mul.f32" in forward.asm["ptx"] or "mul.rn.f32" in forward.asm["ptx"]
    assert "fma" not in forward.asm["ptx"]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [75, 80, 90, 100], indirect=True)
@pytest.mark.parametrize("T", [4, 10, 64])
@pytest.mark.parametrize("name", NEURONS)
def test_all_neurons_compile_for_each_generation_of_cards_and_spill_nothing(
    name: str, T: int, compiled: Compiled, tmp_path: Path
) -> None:
    train(Neuron(name, "sigmoid", (2.0, 1.0, 4.0, 0.0)), T)
    if name in ("lif", "if"):
        train(Neuron(name, "atan", torch.ones(4, 8), each=8), T)
    for kernel in (one for kernels in compiled.values() for one in kernels):
        assert local_memory(kernel, tmp_path) <= 16


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lif", "glif"])
@pytest.mark.parametrize("surrogate", [*CLOSED_FORM_NAMES, "none"])
def test_all_surrogates_compile(surrogate: str, name: str, compiled: Compiled) -> None:
    train(Neuron(name, surrogate, (2.0, 1.0, 4.0, 1.0)))
    assert len(compiled) == 2


def local_memory(kernel: Any, folder: Path) -> int:
    """Returns the bytes of a thread's stack, where registers that do not suffice are spilled to."""
    from triton import knobs

    path = folder / "kernel.cubin"
    path.write_bytes(kernel.asm["cubin"])
    command = [knobs.nvidia.cuobjdump.path, "-res-usage", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return max(int(size) for size in re.findall(r"STACK:(\d+)", printed))
