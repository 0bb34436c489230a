"""Every count of the meter against a count by brute force that shares no code with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import ModelConfig, create_model
from models.cost.counters import levels
from models.cost.meter import EnergyRule, Meter, count_parameters
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, Conv, Head, SpikeMask, SpikeMatmul, SpikeSum
from trainers.diagnostics.health import Health, TrainingFailure

TINY = {
    "model": "spikformer_cifar",
    "img_size": 8,
    "in_channels": 1,
    "num_classes": 10,
    "patch_size": 2,
    "embed_dim": 8,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "depths": 1,
    "step": 2,
}


class Probe(SpikingModel):
    """A model of one function, so that a layer can be counted on inputs that the test chooses."""

    def __init__(self, step: int, call: Callable[[Tensor], Tensor], channels: int, **layers: nn.Module) -> None:
        super().__init__(ModelConfig.model_validate({**TINY, "step": step, "in_channels": channels}))
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        return self.call(x_TBCHW)


class Integer(nn.Module):
    """A neuron of D levels: its output is k/D."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.levels = values

    def forward(self, x: Tensor) -> Tensor:
        return x / self.levels


def integers(*shape: int, high: int, seed: int = 0) -> Tensor:
    """Returns random whole numbers in 0..high, as floats."""
    return torch.randint(high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def spikes(*shape: int, rate: float, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def rows(model: SpikingModel, inputs: list[Tensor], read_step: int) -> dict[str, dict[str, Any]]:
    """Returns the meter's figures of each layer, per image."""
    with Meter(model) as meter, torch.no_grad():
        for x in inputs:
            meter.forward_steps(x)
    return {row["name"]: row for row in meter.by_layer(read_step)}


def tiny_spikformer(**keys: Any) -> SpikingModel:
    """Returns a Spikformer whose batch norms make it spike at all layers."""
    torch.manual_seed(0)
    model = create_model({**TINY, **keys}).eval()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.constant_(module.weight, 4.0)
            nn.init.uniform_(module.bias, -0.5, 2.5)
    return model


def every_neuron_fires(model: SpikingModel, fires: bool = True) -> SpikingModel:
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.constant_(module.bias, 1000.0 if fires else -1000.0)
    return model


# ---------------------------------------------------------------------------------------------- convolutions

CONVS = [
    {"kernel": 1},
    {"kernel": 3},
    {"kernel": 3, "stride": 2},
    {"kernel": 3, "groups": 2},
    {"kernel": 5, "stride": 2, "groups": 4},
    {"kernel": 1, "stride": 2},
    {"kernel": 3, "dilation": 2},
    {"kernel": 3, "padding": 0},
]


@pytest.mark.parametrize("geometry", CONVS, ids=str)
@pytest.mark.parametrize("high", [1, 5], ids=["spikes", "integers"])
def test_a_convolution_counts_its_output_with_all_weights_one(geometry: dict[str, int], high: int) -> None:
    step, x = 3, integers(4, 3, 4, 7, 5, high=high)  # [B, T, C, H, W]
    conv = Conv(4, 8, geometry["kernel"], bias=True)
    conv.stride, conv.groups = (geometry.get("stride", 1),) * 2, geometry.get("groups", 1)
    conv.dilation = (geometry.get("dilation", 1),) * 2
    conv.padding = (geometry.get("padding", geometry["kernel"] // 2),) * 2
    conv.weight = nn.Parameter(torch.randn(8, 4 // conv.groups, *conv.kernel_size))
    ones = F.conv2d(
        x.flatten(0, 1).double(),
        torch.ones_like(conv.weight).double(),
        None,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    ).view(4, step, -1)
    for read_step in (1, 2, 3):
        row = rows(Probe(step, lambda x: conv(x).flatten(2), conv.in_channels, conv=conv), [x], read_step)["conv"]
        assert row["synops"] == float(ones[:, :read_step].sum()) / 4
        assert row["macs"] == 0


def test_the_first_layer_counts_macs_once_on_a_still_image() -> None:
    conv = Conv(2, 6, 3, fed="input")
    per_image = 6 * 4 * 4 * 2 * 3 * 3  # outputs x weights of each
    for read_step in (1, 4):
        row = rows(
            Probe(4, lambda x: conv(x).flatten(2), conv.in_channels, conv=conv), [torch.randn(3, 2, 4, 4)], read_step
        )["conv"]
        assert (row["macs"], row["synops"]) == (per_image, 0)


def test_the_first_layer_counts_events_by_value() -> None:
    conv, x = Conv(2, 6, 3, fed="input"), integers(3, 4, 2, 4, 4, high=7)
    row = rows(Probe(4, lambda x: conv(x).flatten(2), conv.in_channels, conv=conv), [x], 4)["conv"]
    ones = F.conv2d(x.flatten(0, 1), torch.ones_like(conv.weight), padding=1)
    assert (row["synops"], row["macs"]) == (float(ones.sum()) / 3, 0)


def test_a_convolution_on_a_membrane_counts_macs_at_each_step_that_is_read() -> None:
    conv = Conv(2, 6, 1, fed="real")
    model = Probe(4, lambda x: conv(x).flatten(2), conv.in_channels, conv=conv)
    for read_step in (1, 3, 4):
        row = rows(model, [torch.randn(3, 4, 2, 5, 5), torch.randn(2, 4, 2, 5, 5)], read_step)["conv"]
        assert (row["macs"], row["synops"]) == (read_step * 6 * 25 * 2, 0)


def test_a_head_on_a_mean_counts_macs_once() -> None:
    head = Head(6, 10, fed="real")
    row = rows(Probe(4, lambda x: head(x.flatten(2)), 6, head=head), [torch.randn(3, 4, 6, 1, 1)], 2)["head"]
    assert (row["macs"], row["synops"]) == (60, 0)


def test_a_head_on_spikes_counts_each_spike_for_each_class() -> None:
    head, x = Head(6, 10, fed="spikes"), spikes(3, 4, 6, 1, 1, rate=0.4)
    row = rows(Probe(4, lambda x: head(x.flatten(2)), 6, head=head), [x], 2)["head"]
    assert (row["macs"], row["synops"]) == (0, pytest.approx(float(x[:, :2].sum()) * 10 / 3))


# ---------------------------------------------------------------------------------------------- attention products


def operations_by_loop(a: Tensor, b: Tensor, side: str) -> int:
    """Counts the additions of a @ b for matrices of 0 and 1: every spike of one side meets the other's whole width."""
    count = 0
    for i, k, j in itertools.product(range(a.shape[0]), range(a.shape[1]), range(b.shape[1])):
        count += int((a[i, k] if side == "left" else b[k, j]) != 0)
    return count


def total_by_loop(a: Tensor, b: Tensor, side: str) -> int:
    return sum(operations_by_loop(x, y, side) for x, y in zip(a.flatten(0, 2), b.flatten(0, 2), strict=True))


def product_row(kinds: tuple[Any, Any], pairs: list[tuple[Tensor, Tensor]], read_step: int) -> dict[str, Any]:
    """Counts a @ b over [T, B, heads, M, K] x [T, B, heads, K, N]; the model's input only gives the number of
    images."""
    product, queue = SpikeMatmul(*kinds), list(pairs)
    model = Probe(pairs[0][0].shape[0], lambda x: product(*queue.pop(0)).flatten(2), 1, product=product)
    return rows(model, [torch.zeros(a.shape[1], 1, 1, 1) for a, _ in pairs], read_step)["product"]


@pytest.mark.parametrize(("rate_q", "rate_k"), [(0.1, 0.6), (0.6, 0.1), (0.3, 0.3)])
def test_a_product_of_spikes_counts_the_sparser_operand(rate_q: float, rate_k: float) -> None:
    q, k = spikes(2, 3, 2, 5, 4, rate=rate_q), spikes(2, 3, 2, 4, 5, rate=rate_k, seed=1)
    row = product_row(("spikes", "spikes"), [(q, k)], 2)
    assert row["synops"] * 3 == pytest.approx(min(total_by_loop(q, k, "left"), total_by_loop(q, k, "right")))
    assert row["macs"] == 0


def test_the_sparser_operand_is_chosen_over_all_images_and_steps() -> None:
    sparse, dense = spikes(2, 1, 1, 3, 3, rate=0.2), spikes(2, 1, 1, 3, 3, rate=0.7, seed=1)
    first, second = (sparse, dense), (dense, sparse)  # q is the sparser one in the first image, k in the second
    row = product_row(("spikes", "spikes"), [first, second], 2)
    left = total_by_loop(*first, "left") + total_by_loop(*second, "left")
    right = total_by_loop(*first, "right") + total_by_loop(*second, "right")
    assert row["synops"] * 2 == min(left, right)
    assert row["synops"] * 2 > sum(min(total_by_loop(*pair, s) for s in ("left", "right")) for pair in (first, second))


def test_the_sparser_operand_is_chosen_for_each_read_out() -> None:
    q, k = torch.ones(2, 1, 1, 3, 3), torch.ones(2, 1, 1, 3, 3)
    q[0, ..., 0], k[1, ..., :2] = 0, 0  # q is the sparser one at step 1, k over both steps
    first = product_row(("spikes", "spikes"), [(q, k)], 1)["synops"]
    both = product_row(("spikes", "spikes"), [(q, k)], 2)["synops"]
    assert (first, both) == (6 * 3, (9 + 3) * 3)


@pytest.mark.parametrize(("kinds", "side"), [(("real", "spikes"), "right"), (("spikes", "real"), "left")])
def test_a_product_with_a_sum_counts_the_spike_operand(kinds: tuple[str, str], side: str) -> None:
    a, b = integers(2, 3, 2, 5, 6, high=4), spikes(2, 3, 2, 6, 4, rate=0.4, seed=1)
    a, b = (a, b) if side == "right" else (b.transpose(3, 4), a.transpose(3, 4))
    assert product_row(kinds, [(a, b)], 2)["synops"] * 3 == pytest.approx(total_by_loop(a, b, side))


def test_both_orders_of_the_attention_have_the_published_counts() -> None:
    q, k, v = (spikes(1, 1, 2, 6, 3, rate=rate, seed=i) for i, rate in enumerate((0.2, 0.4, 0.6)))
    N, d = 6, 3
    qk = product_row(("spikes", "spikes"), [(q, k.transpose(3, 4))], 1)["synops"]
    qk_v = product_row(("real", "spikes"), [(q @ k.transpose(3, 4), v)], 1)["synops"]
    assert qk + qk_v == float(torch.minimum(q.sum(), k.sum()) * N + v.sum() * N)
    kv = product_row(("spikes", "spikes"), [(k.transpose(3, 4), v)], 1)["synops"]
    q_kv = product_row(("spikes", "real"), [(q, k.transpose(3, 4) @ v)], 1)["synops"]
    assert kv + q_kv == float(torch.minimum(k.sum(), v.sum()) * d + q.sum() * d)


def masked_row(counts: Any, a: Tensor, b: Tensor, read_step: int) -> dict[str, Any]:
    """Counts a * b over [T, B, C, H, W]."""
    mask = SpikeMask(counts)
    model = Probe(a.shape[0], lambda x: mask(a, b).flatten(2), 1, mask=mask)
    return rows(model, [torch.zeros(a.shape[1], 1, 1, 1)], read_step)["mask"]


def test_a_mask_of_two_spike_maps_counts_those_that_pass_and_a_mask_by_columns_the_spikes_of_the_map() -> None:
    k, v = spikes(2, 3, 4, 3, 3, rate=0.5), spikes(2, 3, 4, 3, 3, rate=0.5, seed=1)
    column = spikes(2, 3, 4, 1, 1, rate=0.5, seed=2)
    for read_step in (1, 2):
        both = int(((k == 1) & (v == 1))[:read_step].sum())
        assert 0 < both < int(k[:read_step].sum())
        assert masked_row("passed", k, v, read_step)["synops"] == pytest.approx(both / 3)
        assert masked_row("left", k, column, read_step)["synops"] == pytest.approx(float(k[:read_step].sum()) / 3)


def test_a_sum_of_spikes_counts_each_of_them_once() -> None:
    x, total = spikes(2, 3, 4, 3, 5, rate=0.5), SpikeSum(-1)
    model = Probe(2, lambda _: total(x).flatten(2), 1, total=total)
    row = rows(model, [torch.zeros(3, 1, 1, 1)], 1)["total"]
    assert (row["synops"], row["macs"]) == (pytest.approx(float(x[:1].sum()) / 3), 0)


# ---------------------------------------------------------------------------------------------- neurons


def test_integer_neurons_count_by_level_and_their_rate_is_a_share_of_the_largest() -> None:
    neuron, conv, x = Integer(4), Conv(2, 3, 3), integers(3, 2, 2, 4, 4, high=4)
    model = Probe(2, lambda x: conv(neuron(x)).flatten(2), 2, neuron=neuron, conv=conv)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    totals = meter.totals(2)
    assert totals["spikes"] == float(x.sum()) / 3
    assert totals["spike_rate"] == pytest.approx(float(x.mean()) / 4)
    ones = F.conv2d(x.flatten(0, 1), torch.ones_like(conv.weight), padding=1)
    assert totals["synops"] == pytest.approx(float(ones.sum()) / 3)


def test_rates_neurons_and_spikes_are_those_of_the_recorded_outputs() -> None:
    model, outputs = tiny_spikformer(step=3), []
    for module in model.modules():
        if levels(module):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(torch.randn(5, 1, 8, 8))
    for read_step in (1, 2, 3):
        totals = meter.totals(read_step)
        spikes_seen = sum(float(x[:read_step].sum()) for x in outputs)
        cells = sum(x[:read_step].numel() for x in outputs)
        assert 0 < spikes_seen < cells
        assert totals["spikes"] == pytest.approx(spikes_seen / 5)
        assert totals["spike_rate"] == pytest.approx(spikes_seen / cells)
    neurons = [row for row in meter.by_layer(3) if "neurons" in row]
    assert [row["neurons"] for row in neurons] == [x[0, 0].numel() for x in outputs]
    assert sum(row["spikes"] for row in neurons) == pytest.approx(meter.totals(3)["spikes"])


# ---------------------------------------------------------------------------------------------- whole networks


def brute_force(model: SpikingModel, batches: list[Tensor], read_step: int) -> dict[str, float]:
    """Counts synops and MACs of a Spikformer per image from the recorded inputs of its layers."""
    recorded: dict[nn.Module, list[tuple[Tensor, ...]]] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, inputs: recorded.setdefault(module, []).append(inputs))
        for module in model.modules()
        if isinstance(module, (Conv, Head, SpikeMatmul))
    ]
    with torch.no_grad():
        for x in batches:
            model.forward_steps(x)
    for handle in handles:
        handle.remove()
    images = sum(len(x) for x in batches)
    synops, macs = 0.0, 0.0
    for module, calls in recorded.items():
        if isinstance(module, Head):
            macs += images * module.weight.numel()
        elif isinstance(module, SpikeMatmul):
            sums = [
                [float(a[:read_step].sum()) * b.shape[-1], float(b[:read_step].sum()) * a.shape[-2]] for a, b in calls
            ]
            left, right = (sum(row[i] for row in sums) for i in (0, 1))
            synops += right if module.kinds[0] == "real" else min(left, right)
        else:
            for (x,) in calls:
                steps_read = x[:read_step].flatten(0, 1)
                ones = F.conv2d(steps_read, torch.ones_like(module.weight), padding=module.padding)
                if module.fed == "input":  # a still image: as many products as there are weights and outputs
                    macs += module.weight[0].numel() * ones.numel()
                else:
                    synops += float(ones.double().sum())
    return {"synops": synops / images, "macs": macs / images}


@pytest.mark.parametrize(
    "keys", [{}, {"depths": 2, "num_heads": 4}, {"patch_size": 4, "in_channels": 3}, {"token_keep": 0.6}], ids=str
)
def test_a_whole_spikformer_has_the_brute_force_counts_at_every_read_out(keys: dict[str, Any]) -> None:
    model = tiny_spikformer(step=3, **keys)
    batches = [torch.randn(n, model.config.in_channels, 8, 8) for n in (4, 3)]
    with Meter(model) as meter, torch.no_grad():
        for x in batches:
            meter.forward_steps(x)
    for read_step in (1, 2, 3):
        totals, expected = meter.totals(read_step), brute_force(model, batches, read_step)
        assert expected["synops"] > 0
        assert {key: totals[key] for key in expected} == pytest.approx(expected)
        assert totals["energy_mj"] == pytest.approx(4.6e-9 * expected["macs"] + 0.9e-9 * expected["synops"])
        operations = [row for row in meter.by_layer(read_step) if "synops" in row]
        assert sum(row["synops"] for row in operations) == pytest.approx(expected["synops"])
        assert sum(row["macs"] for row in operations) == pytest.approx(expected["macs"])


def test_totals_at_t_are_those_of_the_same_weights_run_for_t_steps() -> None:
    model, x = tiny_spikformer(step=4), torch.randn(6, 1, 8, 8)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(x)
    for step in (1, 2, 3, 4):
        shorter = create_model({**TINY, "step": step}).eval()
        shorter.load_state_dict(model.state_dict())
        with Meter(shorter) as alone, torch.no_grad():
            alone.forward_steps(x)
        assert meter.totals(step) == pytest.approx(alone.totals(step), rel=1e-12)


def test_a_spikformer_in_which_every_neuron_fires_has_the_hand_computed_counts() -> None:
    model = every_neuron_fires(tiny_spikformer())
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(torch.randn(3, 1, 8, 8))
    # Neurons. Stem: 1, 2, 4, 8 channels of 8x8, then 8 of 4x4 after the pool. Block: q, k, v, attention and projection
    # 8 x 16 tokens each, hidden layer 16 x 16, output 8 x 16.
    neurons = (1 + 2 + 4 + 8) * 64 + 128 + 5 * 128 + 256 + 128
    assert neurons == 2112
    # A 3x3 kernel with zero padding uses the positions of a line 2, 3, ..., 3, 2 times: 22 for 8, and 10 for 4.
    stem = (1 * 2 + 2 * 4 + 4 * 8) * 22**2 + (8 * 8) * 10**2
    # The stem gives spikes + spikes = 2 everywhere, the attention adds 1: q, k, v see 2, the hidden layer sees 3.
    qkv = 3 * (2 * 128) * 8
    products = 128 * 16 + 128 * 16
    rest = 128 * 8 + (3 * 128) * 16 + 256 * 8
    synops = 2 * (stem + qkv + products + rest)
    macs = 9 * 64 + 8 * 10
    assert (synops, macs) == (92_368, 656)
    assert meter.totals(2) == pytest.approx(
        {
            "spikes": 2 * neurons,
            "spike_rate": 1.0,
            "synops": synops,
            "macs": macs,
            "energy_mj": 4.6e-9 * macs + 0.9e-9 * synops,
        }
    )


def test_counting_changes_no_output_and_leaves_no_hook_behind() -> None:
    model, x = tiny_spikformer(), torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        before = model.forward_steps(x)
        with Meter(model) as meter:
            counted = meter.forward_steps(x)
        assert torch.equal(counted, before)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_without_spikes_has_rate_zero_and_is_found_by_the_health_check() -> None:
    model = every_neuron_fires(tiny_spikformer(), fires=False)
    with Meter(model) as meter, torch.no_grad():
        meter.forward_steps(torch.randn(4, 1, 8, 8))
    totals = meter.totals(2)
    assert (totals["spikes"], totals["spike_rate"], totals["synops"]) == (0, 0, 0)
    health = Health()
    health.check(totals, meter.by_layer(2), 1)
    with pytest.raises(TrainingFailure, match=r"^stem\.chain\.neurons\.0 emits fewer") as failure:
        health.check(totals, meter.by_layer(2), 1000)
    assert failure.value.failure_class == "silent"


def test_frozen_parameters_are_not_counted() -> None:
    model = tiny_spikformer()
    whole = count_parameters(model)
    model.head.requires_grad_(False)
    assert whole - count_parameters(model) == 8 * 10 + 10


@pytest.mark.parametrize("rule", ["default", "published"])
def test_the_energies_of_the_layers_add_up(rule: EnergyRule) -> None:
    model = create_model({"model": "spikformer_cifar", "embed_dim": 16, "num_heads": 2, "depths": 1}).eval()
    with Meter(model, rule) as meter:
        meter.forward_steps(torch.rand(2, 3, 32, 32))
    for t in (1, 4):
        rows = meter.by_layer(t)
        assert sum(row.get("energy_mj", 0.0) for row in rows) == pytest.approx(meter.totals(t)["energy_mj"])
