"""SGLFormer: order of its parts, leaks between the images of a batch, and the benchmark's version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import InfeasibleError, ModelConfig, check_feasible, create_model
from models.cost.meter import Meter
from models.families.sglformer import StepSSA
from models.parts.backbone import SpikingModel
from models.parts.layers import Conv, Head, SpikeMatmul

Build = Callable[..., SpikingModel]
Pixels = Callable[..., Tensor]
Firing = Callable[[SpikingModel, Tensor], SpikingModel]


def parts_of(model: SpikingModel) -> list[str]:
    """Returns the kinds of the token mixers in the order in which they run."""
    bodies = [block for name, block in model.named_modules() if name.startswith("stages.") and name.count(".") == 2]
    return [type(block.attn).__name__ for block in bodies]


def test_one_depth_repeats_the_sequence_and_a_list_runs_part_after_part(small_model: Build) -> None:
    repeated, listed = (small_model("sglformer_cifar", depths=depths) for depths in (2, [1, 2, 1]))
    assert parts_of(repeated) == 2 * ["LocalConv", "LSSA", "SSA", "SSA"]
    assert parts_of(listed) == ["LocalConv", "LSSA", "LSSA", "SSA"]
    assert parts_of(small_model("sglformer_imagenet", depths=5)) == ["LocalConv", "LSSA", "SSA", "SSA", "SSA"]


def test_parts_of_different_widths_are_refused() -> None:
    config = ModelConfig.model_validate({"model": "sglformer_cifar", "embed_dim": [48, 48, 96]})
    with pytest.raises(InfeasibleError, match=r"must have one width \(got embed_dim=\(48, 48, 96\)\)"):
        check_feasible(config)


@pytest.mark.parametrize(("embed_layer", "leaks"), [("SGLFormer_ima", 1), ("SGLFormer_ima2", 2)])
def test_the_leak_is_off_by_default_and_makes_images_of_a_batch_depend_on_each_other(
    embed_layer: str, leaks: int, small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    keys = {"embed_layer": embed_layer, "attn_scale": 0.5}
    clean = small_model("sglformer_imagenet", **keys).double()
    leaky = small_model("sglformer_imagenet", **keys, legacy_batch_leak=True).double()
    x = pixels(clean.config, batch=4).double()
    firing(clean, x)
    leaky.load_state_dict(clean.state_dict())
    leaky.eval()
    assert sum(type(module).__name__ == "OverBatch" for module in leaky.modules()) == leaks
    with torch.no_grad():
        assert torch.allclose(clean(x)[1:2], clean(x[1:2]), rtol=0.0, atol=1e-9)
        assert torch.equal(leaky(x[:1]), clean(x[:1]))
        assert not torch.allclose(leaky(x)[1:2], leaky(x[1:2]))


def test_the_benchmarks_version_never_pools_whatever_its_file_says() -> None:
    for keys in ({}, {"patch_size": 4}):
        config = ModelConfig.model_validate({"model": "sglformer_cifar", "variant": "step", **keys})
        assert config.patch_size == 1
    assert not config.is_causal


def test_the_benchmarks_attention_continues_from_the_membranes_of_q(small_model: Build, pixels: Pixels) -> None:
    model = small_model("sglformer_cifar", variant="step", img_size=8)
    attention = next(module for module in model.modules() if type(module) is StepSSA)
    seen: dict[str, Tensor] = {}
    attention.q.neuron.register_forward_hook(lambda module, inputs, out: seen.update(x=inputs[0], out=out))
    with torch.no_grad():
        model(pixels(model.config))
    thrice = torch.cat([seen["x"]] * 3)
    fresh = small_model("sglformer_cifar", variant="step", img_size=8, step=9, read_step=9)
    neuron = next(module for module in fresh.modules() if type(module) is StepSSA).q.neuron.neuron
    expected = neuron(thrice)
    assert torch.equal(seen["out"], torch.cat(expected.chunk(3), 2))


def count_by_hand(model: SpikingModel, x: Tensor) -> dict[str, float]:
    """Counts synops and MACs of all layers per image from their recorded inputs."""
    recorded: list[tuple[nn.Module, tuple[Tensor, ...]]] = []
    handles = [
        module.register_forward_pre_hook(lambda module, inputs: recorded.append((module, inputs)))
        for module in model.modules()
        if isinstance(module, (Conv, Head, SpikeMatmul))
    ]
    with torch.no_grad():
        model.forward_steps(x)
    for handle in handles:
        handle.remove()
    synops = macs = 0.0
    for module, inputs in recorded:
        if isinstance(module, SpikeMatmul):
            a, b = inputs
            left, right = float(a.sum()) * b.shape[-1], float(b.sum()) * a.shape[-2]
            synops += {"real": right}.get(module.kinds[0], {"real": left}.get(module.kinds[1], min(left, right)))
        elif isinstance(module, Head):
            macs += len(x) * module.weight.numel()
        else:
            assert isinstance(module, Conv)
            ones = torch.ones_like(module.weight)
            how: dict[str, Any] = {"padding": module.padding, "stride": module.stride, "groups": module.groups}
            out = F.conv2d(inputs[0].flatten(0, 1), ones, **how)
            if module.fed == "input":
                macs += module.weight[0].numel() * out.numel()
            else:
                synops += float(out.sum())
    return {"synops": synops / len(x), "macs": macs / len(x)}


@pytest.mark.parametrize(
    ("name", "keys"), [("sglformer_cifar", {}), ("sglformer_imagenet", {}), ("sglformer_cifar", {"variant": "step"})]
)
def test_the_cost_is_the_brute_force_count(
    name: str, keys: dict[str, Any], small_model: Build, pixels: Pixels, firing: Firing
) -> None:
    model = small_model(name, **keys).double()
    x = pixels(model.config, batch=3).double()
    firing(model, x)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    totals, expected = meter.totals(3), count_by_hand(model, x)
    assert expected["synops"] > 0
    assert {key: totals[key] for key in expected} == pytest.approx(expected)
    rows = [row for row in meter.by_layer(3) if "neurons" in row]
    assert all(0.0 <= row["spike_rate"] <= 1.0 for row in rows)


def test_the_benchmarks_layers_that_it_never_uses_are_there_and_get_no_gradient(
    small_model: Build, pixels: Pixels
) -> None:
    model = small_model("sglformer_cifar", variant="step", img_size=8)
    model(pixels(model.config)).square().sum().backward()
    unused = {key for key, p in model.named_parameters() if p.grad is None}
    assert unused
    assert all(".attn.k." in key or ".attn.v." in key for key in unused)


def test_the_timm_name_gives_the_same_model() -> None:
    import timm

    keys = {"img_size": 16, "embed_dim": 48, "num_heads": 2}
    with torch.device("meta"):
        ours, theirs = create_model({"model": "sglformer_cifar", **keys}), timm.create_model("sglformer_cifar", **keys)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
