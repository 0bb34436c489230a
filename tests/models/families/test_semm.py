"""Spikformer with SEMM: the benchmark's version and its faults."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import InfeasibleError, ModelConfig, check_feasible
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


def config(model: str, **keys: object) -> ModelConfig:
    return ModelConfig.model_validate({"model": model, **keys})


def test_the_benchmarks_names_mean_its_versions() -> None:
    assert config("spikf_semm_cifar") == config("semm_cifar", variant="step")
    assert config("spikf_semm_cifar", variant="authors") == config("semm_cifar")
    assert config("spikf_semm_imagenet", mlp_ratio=4).mlp_ratio == pytest.approx(16 / 3)


@pytest.mark.parametrize("node_type", ["PLIFNode", "CLIFNode"])
def test_only_the_benchmarks_experts_are_lif_whatever_the_neuron(node_type: str, small_model: Build) -> None:
    kinds = {}
    for variant in ("authors", "step"):
        model = small_model("semm_cifar", node_type=node_type, variant=variant, step=4, read_step=4)
        neuron = model.get_submodule("blocks.0.attn.experts.0.neuron")
        kinds[variant] = type(neuron).__name__
        assert type(model.get_submodule("blocks.0.attn.attn_neurons.0")).__name__ == node_type.removesuffix("Node")
    assert kinds == {"authors": node_type.removesuffix("Node"), "step": "LIF"}


def test_other_steps_than_the_benchmarks_are_refused() -> None:
    with pytest.raises(InfeasibleError, match=r"step must be 4.*\(got step=2\)"):
        check_feasible(config("semm_cifar", variant="step", step=2))
    check_feasible(config("semm_cifar", step=2))


def test_the_hidden_layer_for_imagenet_is_a_multiple_of_16(small_model: Build) -> None:
    model = small_model("semm_imagenet", embed_dim=40)
    assert model.get_submodule("blocks.0.mlp.fc1.conv").out_channels == 16 * (40 // 3)


def test_the_leak_gives_all_images_of_a_batch_the_mean_output(
    small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    clean, leaky = (small_model("semm_imagenet", legacy_batch_leak=leak).double() for leak in (False, True))
    x = pixels(clean.config, batch=3).double()
    firing(clean, x)
    leaky.load_state_dict(clean.state_dict())
    leaky.eval()
    with torch.no_grad():
        assert torch.allclose(leaky(x), clean(x).mean(0).expand(3, -1))
        assert torch.allclose(leaky(x[:1]), clean(x[:1]))
        assert not torch.allclose(clean(x)[0], clean(x)[1])
