"""Configs of every registered model at sizes that build and run in a fraction of a second."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models import InfeasibleError, ModelConfig, create_model
from models.neurons import multistep
from models.parts.backbone import SpikingModel
from tests.support.small_models import FAMILIES, MODELS, shrink

WIRINGS = ("spikformer_cifar", "sdt_cifar", "qkformer_cifar", "espikeformer_l")
"""One model per wiring: isotropic or staged, shortcuts that add spikes or membranes."""

Config = Callable[..., ModelConfig]
Build = Callable[..., SpikingModel]


def others_slow(names: Any) -> list[Any]:
    """Returns every model; those not among the names are for the slow tests only."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


@pytest.fixture(params=MODELS)
def any_model(request: pytest.FixtureRequest) -> str:
    """Every registered model."""
    return str(request.param)


@pytest.fixture(params=others_slow(FAMILIES))
def any_family(request: pytest.FixtureRequest) -> str:
    """One model per family; in the slow tests every model."""
    return str(request.param)


@pytest.fixture(params=others_slow(WIRINGS))
def any_wiring(request: pytest.FixtureRequest) -> str:
    """One model per wiring; in the slow tests every model."""
    return str(request.param)


@pytest.fixture
def shrunk() -> Callable[[str], dict[str, Any]]:
    """The keys that make a registered model small."""
    return shrink


@pytest.fixture
def small_config() -> Config:
    """A registered model's config, small, with any keys changed."""
    return lambda model, **keys: ModelConfig.model_validate({**shrink(model), **keys})


@pytest.fixture
def small_model(small_config: Config) -> Build:
    """A registered model, small and seeded, with any keys changed."""

    def build(name: str, **keys: Any) -> SpikingModel:
        torch.manual_seed(0)
        try:
            return create_model(small_config(name, **keys))
        except InfeasibleError as error:
            if not keys:
                raise
            pytest.skip(str(error))

    return build


@pytest.fixture
def pixels() -> Callable[..., Tensor]:
    """Random input for a config: images, or a sequence of frames when `steps` is given."""

    def sample(config: ModelConfig, batch: int = 2, steps: int | None = None, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (config.in_channels, config.img_size, config.img_size)
        return torch.randn(batch, *((steps,) if steps else ()), *shape, generator=generator)

    return sample


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(name="firing")
def _firing() -> Callable[[SpikingModel, Tensor], SpikingModel]:
    """Sets the batch norms to the statistics of an input, so that every layer can fire; returns the model."""

    def firing(model: SpikingModel, x: Tensor) -> SpikingModel:
        model.train()
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None
            torch.nn.init.uniform_(norm.weight, 0.8, 2.0)
            torch.nn.init.uniform_(norm.bias, 0.0, 0.8)
        with torch.no_grad():
            model.forward_steps(x)
        return model.eval()

    return firing


@pytest.fixture
def interpreted_kernels() -> Iterator[None]:
    """Runs neurons by the CUDA kernels in Triton's interpreter on the CPU; skips where Triton is not installed."""
    pytest.importorskip("triton", reason="Triton is not installed")
    names = [f"models.neurons.triton_{part}" for part in ("surrogates", "steps", "kernels")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")  # read where the kernels are defined
        for name in names:
            sys.modules.pop(name, None)
        kernels = importlib.import_module(names[-1])
        patch.setattr(multistep, "_kernel", lambda name: getattr(kernels, name))
        patch.setattr(multistep, "_has_kernels", lambda device: True)
        yield
    for name in names:
        del sys.modules[name]
