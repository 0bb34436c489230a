"""SpikingResformer: an untrained model, and event input of two polarities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import ModelConfig, create_model
from models.cost.meter import Meter
from models.parts.backbone import SpikingModel

Build = Callable[..., SpikingModel]
Config = Callable[..., ModelConfig]


@pytest.mark.parametrize("sample", [torch.rand, torch.randn])
@pytest.mark.parametrize("name", ["spikingresformer_ti", "spikingresformer_cifar", "spikingresformer_dvsg"])
def test_an_untrained_model_is_finite_and_fires_in_every_layer_at_the_last_step(
    name: str, sample: Callable[..., Tensor], small_config: Config
) -> None:
    torch.manual_seed(0)
    model = create_model(small_config(name, img_size=32, step=4, read_step=4)).eval()
    with Meter(model) as meter, torch.no_grad():
        logits = meter.forward_steps(sample(2, 3, 32, 32))
    assert torch.isfinite(logits).all()
    assert float(logits.std()) > 0.0
    before, whole = ({row["name"]: row.get("spikes") for row in meter.by_layer(read_step=t)} for t in (3, 4))
    assert [name for name, spikes in whole.items() if spikes is not None and spikes == before[name]] == []


def test_events_of_two_polarities_get_their_sum_as_a_third_channel(small_model: Build) -> None:
    model = small_model("spikingresformer_dvsg").eval()
    events = torch.randint(0, 3, (2, 3, 2, 16, 16)).float()
    summed = torch.cat((events, events.sum(2, keepdim=True)), 2)
    with torch.no_grad():
        assert torch.equal(model(events), model(summed))
