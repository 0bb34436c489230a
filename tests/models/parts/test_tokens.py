from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models import InfeasibleError, ModelConfig, check_feasible, create_model, registry
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel
from models.parts.blocks import Block
from models.parts.tokens import TokenSelection, num_selected, scores

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]

TOKEN_WISE = {
    "spikformer_cifar": {},
    "spikformer_dvs": {"node_type": "PLIFNode"},
    "spikingformer_cifar": {"attn_layer": "random"},
    "sdt_cifar": {},
    "qkformer_cifar": {"img_size": 32},
    "maxformer_cifar": {"img_size": 32, "attn_layer": ["identity", "QKCA", "SSA"], "node_type": "PSN"},
}
"""A model of each family whose blocks run on a part of the tokens."""


def brute_force_scores(x_TBCHW: Tensor) -> list[list[float]]:
    """Returns the scores of each image and token, token by token."""
    _, B, _, H, W = x_TBCHW.shape
    near = lambda i, size: [min(max(i + d, 0), size - 1) for d in (-1, 0, 1)]
    found = [[0.0] * (H * W) for _ in range(B)]
    for b in range(B):
        for h in range(H):
            for w in range(W):
                here = x_TBCHW[:, b, :, h, w]
                around = sum(x_TBCHW[:, b, :, i, j] for i in near(h, H) for j in near(w, W))
                found[b][h * W + w] = float((9 * here - around).abs().sum() + 9 * (here[1:] - here[:-1]).abs().sum())
    return found


@pytest.mark.parametrize(("keep", "tokens", "selected"), [(0.7, 10, 7), (0.5, 5, 3), (0.01, 64, 1), (1.0, 9, 9)])
def test_the_share_is_rounded_up(keep: float, tokens: int, selected: int) -> None:
    assert num_selected(keep, tokens) == selected


@pytest.mark.parametrize("steps", [1, 3])
def test_a_score_is_the_difference_in_space_and_in_time(steps: int) -> None:
    x = torch.randint(0, 3, (steps, 2, 4, 3, 5), generator=torch.Generator().manual_seed(0)).float()
    assert scores(x).squeeze(1).tolist() == brute_force_scores(x)


def test_of_equal_tokens_the_first_are_updated() -> None:
    x = torch.zeros(2, 3, 4, 2, 4)
    updated = TokenSelection(0.5)(x, lambda tokens: tokens + 1.0)
    assert torch.equal(updated[:, :, :, 0], torch.ones(2, 3, 4, 4))
    assert torch.equal(updated[:, :, :, 1], torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("name", TOKEN_WISE)
def test_a_block_equals_one_that_is_given_the_selected_tokens_of_each_image(
    name: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, token_keep=0.4, **TOKEN_WISE[name]).double()
    firing(model, pixels(model.config, batch=3).double())
    block = next(module for module in model.modules() if isinstance(module, Block))
    width = block.mlp.fc1.conv.in_channels  # type: ignore[union-attr]
    x = torch.randint(0, 3, (3, 3, width, 4, 4), generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        found = block(x)
        expected = x.clone()
        for b, of_image in enumerate(brute_force_scores(x)):
            chosen = sorted(range(16), key=lambda n: (-of_image[n], n))[:7]
            for module in model.modules():
                getattr(module, "reset", lambda: None)()
            part = block.update(x[:, b : b + 1].flatten(3)[..., sorted(chosen)].unsqueeze(3))
            expected[:, b].flatten(2)[..., sorted(chosen)] = part[:, 0, :, 0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert not torch.equal(found, x)


@pytest.mark.parametrize("name", TOKEN_WISE)
def test_fewer_tokens_cost_less_with_the_same_weights_and_train_all_of_them(
    name: str, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    keys = TOKEN_WISE[name]
    whole, part = small_model(name, **keys), small_model(name, token_keep=0.5, **keys)
    x = pixels(whole.config)
    part.load_state_dict(firing(whole, x).state_dict())
    rows = []
    for model in (whole, part):
        with Meter(model) as meter:
            meter.forward_steps(x)
        rows.append({row["name"]: row for row in meter.by_layer(model.config.step)})
    blocks = [name for name, row in rows[0].items() if ".mlp." in name and "neurons" in row]
    assert [rows[1][name]["neurons"] for name in blocks] == [rows[0][name]["neurons"] / 2 for name in blocks]
    cost = [sum(row.get("synops", 0.0) for row in found.values()) for found in rows]
    assert 0 < cost[1] < cost[0]
    part.train()(x).square().sum().backward()
    assert [key for key, p in part.named_parameters() if p.grad is None] == []


def test_without_the_key_there_is_no_selection(small_model: Build) -> None:
    model = small_model("spikformer_cifar", token_keep=1.0)
    assert not any(isinstance(module, TokenSelection) for module in model.modules())
    assert model.is_causal


def test_read_outs_before_the_last_step_are_refused(small_model: Build) -> None:
    assert not small_model("spikformer_cifar", token_keep=0.5).is_causal
    config = ModelConfig.model_validate({"model": "spikformer_cifar", "token_keep": 0.5, "step": 4, "read_step": 2})
    with pytest.raises(InfeasibleError, match="read_step must equal step, the tokens are chosen by all steps"):
        check_feasible(config)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"model": "metaspikformer"}, "needs blocks of 1x1 layers, as those of .*sdt"),
        ({"model": "sew_resnet18"}, "needs blocks of 1x1 layers"),
        ({"model": "tim_dvs"}, r"TIM of tim_dvs reads the neighbours .*attn_layer=TIM"),
        ({"model": "maxformer_cifar"}, "DWC3 of maxformer_cifar"),
        ({"model": "sdt_dvs"}, "SDSA of sdt_dvs"),
        ({"model": "qkformer_cifar", "legacy_batch_leak": True}, "set it to false"),
    ],
)
def test_models_that_need_all_tokens_are_refused_with_the_reason(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(InfeasibleError, match=reason):
        create_model({**keys, "token_keep": 0.5})


def test_every_family_is_refused_or_has_blocks_of_1x1_layers(any_model: str, small_model: Build) -> None:
    model = small_model(any_model, token_keep=0.5)  # skips what is refused
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    sizes = {module.kernel_size for block in blocks for module in block.modules() if hasattr(module, "kernel_size")}
    assert sizes == {(1, 1)}
    assert all(block.selection is not None for block in blocks)
    assert model.config.family in registry.TOKEN_WISE_FAMILIES
