"""Counts of exits from one pass over all steps, against images that run one by one and are stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import with_exits
from models.cost.counters import CallCount, CountContext, counter_of, largest_level, spikes_per_value
from models.cost.meter import Meter
from models.exits.rules import decision_macs
from models.parts.layers import Conv

FAMILIES = ("spikformer_cifar", "spikingformer_dvs", "qkformer_cifar", "maxformer_dvs", "spikingresformer_cifar")


class Stopped:
    """Counts of a model with exits that runs the images one by one."""

    def __init__(self, case: Any, events: bool) -> None:
        self.case, self.events = case, events
        self.sums: dict[str, dict[str, float]] = {}
        self.macs = self.neurons = 0.0
        self.steps: list[int] = []
        per_value = max(map(spikes_per_value, case.model.modules()))
        for image in case.images.split(1):
            context = CountContext(per_value, with_squares=False)
            context.images, context.input_is_events = 1, events
            handles = [
                module.register_forward_hook(self._hook(context, name, counter, set()))
                for name, module in case.model.named_modules()
                if (counter := counter_of(module)) is not None
            ]
            self.steps += with_exits(case.model, "confidence", case.thresholds)(image).steps.tolist()
            for handle in handles:
                handle.remove()

    def _hook(self, context: CountContext, name: str, counter: Any, called: set[str]) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            call: CallCount = counter(context, module, inputs, output)
            found = self.sums.setdefault(name, {})
            for quantity, (total, factor) in call.sums.items():
                found[quantity] = found.get(quantity, 0.0) + float(total.sum()) * factor
            is_first = isinstance(module, Conv) and module.fed == "input" and not self.events
            if call.is_real and not (is_first and name in called):
                self.macs += call.dense
            called.add(name)
            context.clear()

        return hook

    def totals(self) -> dict[str, float]:
        """Returns spikes, synops and MACs per image, decisions excluded."""
        operands = [[v for key, v in found.items() if key.startswith("synops")] for found in self.sums.values()]
        images = len(self.steps)
        return {
            "spikes": sum(found.get("spikes", 0.0) for found in self.sums.values()) / images,
            "synops": sum(min(values) for values in operands if values) / images,
            "macs": self.macs / images,
        }


@pytest.mark.parametrize("node_type", ["LIFNode", "PLIFNode"])
@pytest.mark.parametrize("name", FAMILIES)
def test_counts_equal_those_of_images_that_run_alone_and_are_stopped(
    exit_case: Callable[..., Any], name: str, node_type: str
) -> None:
    case = exit_case(name, node_type=node_type)
    stopped = Stopped(case, events="dvs" in name)
    with Meter(case.model, by_image=True) as meter:
        for batch in case.images.split(3):
            meter.forward_steps(batch)
    found = meter.exit_totals(case.steps, torch.arange(len(case.images)))
    assert stopped.steps == case.steps.tolist()
    assert len(set(stopped.steps)) > 1
    assert stopped.totals() == pytest.approx({key: found[key] for key in ("spikes", "synops", "macs")}, rel=1e-12)
    neurons = sum(layer.shape.neurons for layer in meter.layers.values())
    run = float(case.steps.double().mean()) * neurons * largest_level(case.model)
    assert found["spike_rate"] == pytest.approx(found["spikes"] / run)


@pytest.mark.parametrize("rule", ["default", "published"])
def test_without_early_exits_the_counts_are_those_of_the_last_read_out(
    exit_case: Callable[..., Any], rule: Any
) -> None:
    case = exit_case("qkformer_cifar")
    with Meter(case.model, rule, by_image=True) as meter:
        meter.forward_steps(case.images)
    found = meter.exit_totals(torch.full((len(case.images),), 4), torch.arange(len(case.images)))
    plain = meter.totals(4)
    heads = sum(row["macs"] for row in meter.by_layer(4) if row["kind"] == "Head")
    assert found["macs"] - plain["macs"] == pytest.approx(3 * heads)
    assert {**found, "macs": 0, "energy_mj": 0} == pytest.approx({**plain, "macs": 0, "energy_mj": 0})
    assert found["energy_mj"] >= plain["energy_mj"]


def test_the_decisions_count_as_macs(exit_case: Callable[..., Any]) -> None:
    case = exit_case("spikformer_cifar")
    with Meter(case.model, by_image=True) as meter:
        meter.forward_steps(case.images)
    index = torch.arange(len(case.images))
    without, with_them = (meter.exit_totals(case.steps, index, macs) for macs in (0.0, 100.0))
    assert with_them["macs"] == without["macs"] + 100.0
    assert with_them["energy_mj"] == pytest.approx(without["energy_mj"] + 4.6e-9 * 100.0)
    assert decision_macs("confidence", num_classes=10, decisions=1.5) == 4 * 10 * 1.5


def test_only_the_chosen_images_count(exit_case: Callable[..., Any]) -> None:
    case = exit_case("spikformer_cifar")
    index = torch.tensor([1, 4, 6])
    with Meter(case.model, by_image=True) as meter:
        meter.forward_steps(case.images)
    with Meter(case.model) as alone:
        alone.forward_steps(case.images[index])
    found = meter.exit_totals(torch.full((3,), 2), index)
    assert found["spikes"] == alone.totals(2)["spikes"]
