"""What holds for every registered model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from config import step_names
from models import ConfigError, create_model, registry
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Draw = Callable[..., Tensor]

MODELS = sorted(registry.MODELS)
ALIASES = sorted(alias for alias, name in step_names.ALIASES.items() if name in registry.MODELS)
CAUSAL = sorted(set(registry.NEURONS) - registry.ACAUSAL_NEURONS)
FIRST = {name.split("_")[0]: name for name in reversed(MODELS)}.values()
ZOO = [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
"""Every model, those beyond one a family only in the slow tests."""


@pytest.mark.parametrize("name", MODELS)
def test_the_output_is_the_mean_of_the_steps_read(name: str, small_model: Build, pixels: Draw) -> None:
    model = small_model(name, read_step=2).eval()
    x = pixels(model.config)
    with torch.no_grad():
        steps = model.forward_steps(x)
        assert steps.shape == (3, 2, 3)
        assert torch.allclose(model(x), steps[:2].mean(0))


@pytest.mark.parametrize("name", MODELS)
def test_a_still_image_is_a_sequence_of_its_copies(
    name: str, small_model: Build, pixels: Draw, firing: Callable[..., SpikingModel]
) -> None:
    model = small_model(name).double()
    x = pixels(model.config).double()
    firing(model, x)
    with torch.no_grad():
        still, shown = model.forward_steps(x), model.forward_steps(x.unsqueeze(1).expand(-1, 3, -1, -1, -1))
    assert torch.allclose(still, shown, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_calls_and_images_do_not_depend_on_each_other(
    name: str, small_model: Build, pixels: Draw, firing: Callable[..., SpikingModel]
) -> None:
    model = small_model(name).double()
    x = pixels(model.config, batch=3).double()
    firing(model, x)
    with torch.no_grad():
        together, again, alone = model(x), model(x), model(x[1:2])
    assert torch.equal(together, again)
    assert torch.allclose(together[1:2], alone, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient(name: str, small_model: Build, pixels: Draw) -> None:
    model = small_model(name)
    model(pixels(model.config)).square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("node_type", CAUSAL)
@pytest.mark.parametrize("name", ZOO)
def test_a_step_does_not_depend_on_later_input_where_the_model_is_causal(
    name: str, node_type: str, small_model: Build, pixels: Draw, firing: Callable[..., SpikingModel]
) -> None:
    model = small_model(name, node_type=node_type, step=4, read_step=4).double()
    if not model.is_causal:
        pytest.skip("says so itself")
    x = pixels(model.config, steps=4).double()
    firing(model, x)
    changed = torch.cat([x[:, :2], pixels(model.config, steps=2, seed=9).double()], dim=1)
    with torch.no_grad():
        before, after = model.forward_steps(x), model.forward_steps(changed)
    assert torch.equal(before[:2], after[:2])


@pytest.mark.parametrize("name", [*MODELS, *ALIASES])
def test_timm_gives_the_same_model(name: str, small_config: Any) -> None:
    known = step_names.ALIASES.get(name, name)
    keys = small_config(known).model_dump(exclude={"model"})
    torch.manual_seed(3)
    ours = create_model({"model": known, **keys})
    torch.manual_seed(3)
    theirs = timm.create_model(name, **keys)
    assert theirs.config == ours.config
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_keyword_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="embed_dims"):
        timm.create_model(name, embed_dims=64)


@pytest.mark.parametrize("name", MODELS)
def test_input_of_a_wrong_rank_or_number_of_frames_is_refused_with_the_rule(
    name: str, small_model: Build, pixels: Draw
) -> None:
    model = small_model(name)
    with pytest.raises(ConfigError, match="T = step"):
        model(pixels(model.config, steps=2))
    with pytest.raises(ConfigError, match=r"\[B, C, H, W\]"):
        model(pixels(model.config)[0])
    with pytest.raises(ConfigError, match="as in_channels says"):
        model(pixels(model.config)[:, :1].repeat(1, 5, 1, 1))


@pytest.mark.parametrize("img_size", [8, 20, 34, 48])
@pytest.mark.parametrize("name", [name for name in MODELS if registry.MODELS[name].keys["in_channels"] == 2])
def test_events_of_any_size_are_taken_by_a_model_made_for_it(
    name: str, img_size: int, small_model: Build, pixels: Draw
) -> None:
    model = small_model(name, img_size=img_size)
    assert model(pixels(model.config, steps=3)).shape == (2, 3)


@pytest.mark.parametrize("name", MODELS)
def test_another_size_of_input_than_the_configs_works_or_is_refused(
    name: str, small_model: Build, small_config: Any, pixels: Draw
) -> None:
    model = small_model(name)
    try:
        assert model(pixels(small_config(name, img_size=24))).shape == (2, 3)
    except ConfigError as error:
        why = str(error)
    else:
        return
    assert "(got " in why
