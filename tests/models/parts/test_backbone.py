"""Properties of every registered model: steps, read-outs, independence of calls, input checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import ConfigError, registry
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

CAUSAL = sorted(set(registry.NEURONS) - registry.ACAUSAL_NEURONS)
EVENT_MODELS = sorted(name for name, preset in registry.MODELS.items() if preset.keys["in_channels"] == 2)


def test_the_output_is_the_mean_of_the_steps_read(any_model: str, small_model: Build, pixels: Pixels) -> None:
    model = small_model(any_model, read_step=2).eval()
    x = pixels(model.config)
    with torch.no_grad():
        steps = model.forward_steps(x)
        assert steps.shape == (3, 2, 3)
        assert torch.allclose(model(x), steps[:2].mean(0))


def test_a_still_image_is_a_sequence_of_its_copies(
    any_model: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(any_model).double()
    x = pixels(model.config).double()
    firing(model, x)
    with torch.no_grad():
        still, shown = model.forward_steps(x), model.forward_steps(x.unsqueeze(1).expand(-1, 3, -1, -1, -1))
    assert torch.allclose(still, shown, rtol=0.0, atol=1e-9)


def test_calls_and_images_do_not_depend_on_each_other(
    any_model: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(any_model).double()
    x = pixels(model.config, batch=3).double()
    firing(model, x)
    with torch.no_grad():
        batch, repeated, single = model(x), model(x), model(x[1:2])
    assert torch.equal(batch, repeated)
    assert torch.allclose(batch[1:2], single, rtol=0.0, atol=1e-9)


def test_every_parameter_gets_a_gradient(any_model: str, small_model: Build, pixels: Pixels) -> None:
    model = small_model(any_model)
    model(pixels(model.config)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("node_type", CAUSAL)
def test_a_step_of_a_causal_model_does_not_depend_on_later_input(
    any_family: str, node_type: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(any_family, node_type=node_type, step=4, read_step=4).double()
    if not model.is_causal:
        pytest.skip("says so itself")
    x = pixels(model.config, steps=4).double()
    firing(model, x)
    changed = torch.cat([x[:, :2], pixels(model.config, steps=2, seed=9).double()], dim=1)
    with torch.no_grad():
        before, after = model.forward_steps(x), model.forward_steps(changed)
    assert torch.equal(before[:2], after[:2])


def test_input_of_a_wrong_rank_or_number_of_frames_is_refused_with_the_rule(
    any_model: str, small_model: Build, pixels: Pixels
) -> None:
    model = small_model(any_model)
    with pytest.raises(ConfigError, match="T = step"):
        model(pixels(model.config, steps=2))
    with pytest.raises(ConfigError, match=r"\[B, C, H, W\]"):
        model(pixels(model.config)[0])
    with pytest.raises(ConfigError, match="as in_channels says"):
        model(pixels(model.config)[:, :1].repeat(1, 5, 1, 1))


@pytest.mark.parametrize("img_size", [8, 20, 34, 48])
@pytest.mark.parametrize("name", EVENT_MODELS)
def test_a_model_accepts_events_of_its_img_size(name: str, img_size: int, small_model: Build, pixels: Pixels) -> None:
    model = small_model(name, img_size=img_size)
    assert model(pixels(model.config, steps=3)).shape == (2, 3)


def test_another_size_of_input_than_the_configs_works_or_is_refused(
    any_model: str, small_model: Build, small_config: Any, pixels: Pixels
) -> None:
    model = small_model(any_model)
    try:
        assert model(pixels(small_config(any_model, img_size=24))).shape == (2, 3)
    except ConfigError as error:
        why = str(error)
    else:
        return
    assert "(got " in why
