"""TIM's attention at the released threshold and at the intended one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from models import ModelConfig
from models.neurons.nodes import neuron_factory
from models.parts.attention_tim import TIM
from models.parts.blocks import Wiring
from models.parts.stages import stages

Config = Callable[..., ModelConfig]


def test_tim_is_silent_from_the_second_step_at_the_released_threshold(small_config: Config) -> None:
    for threshold, fires in ((1.0, False), (0.3, True)):
        config = small_config("spikformer_cifar", attn_layer="TIM", tim_threshold=threshold)
        (stage,) = stages(config)
        torch.manual_seed(0)
        attention = TIM(config, neuron_factory(config), stage, Wiring()).double().eval()
        queries = (torch.rand(3, 2, 2, 16, 8, dtype=torch.float64) < 0.5).double()
        with torch.no_grad():
            out = attention.query(queries)
        assert torch.equal(out[0], queries[0])
        assert bool(out[1:].any()) is fires
