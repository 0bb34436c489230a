"""The graph in float64 is the model: the same spikes at every neuron and step, and the meter's operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models import registry
from models.chip import dense
from models.chip.agreement import Agreement, compare
from models.chip.executor import Executor
from models.chip.graph import Graph
from models.chip.lowering import frames
from models.chip.quantize import Precision, quantize
from models.config import ModelConfig

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SSA": ("spikformer_cifar", {}),
    "SSA, K V first, without leak": ("spikformer_imagenet", {"node_type": "IFNode"}),
    "SSA of counts": ("spikformer_cifar", {"node_type": "ILIFNode"}),
    "SSA of shares": ("spikformer_cifar", {"node_type": "NILIFNode", "attn_scale": "head_dim"}),
    "SDSA": ("sdt_cifar", {}),
    "SDSA of counts": ("sdt_cifar", {"node_type": "ILIFNode"}),
    "QKTA in a pyramid": ("qkformer_cifar", {"node_type": "PLIFNode", "tau": 1.7}),
    "DSSA": ("spikingresformer_ti", {"node_type": "PLIFNode"}),
    "residual network": ("sew_resnet18", {"step": 2, "read_step": 1}),
    "events": ("sdt_dvs", {"events": True}),
    "events with a third channel": ("spikingresformer_dvsg", {"events": True, "in_channels": 2}),
    "rate code": ("spikformer_cifar", {"encoding": "rate"}),
    "phase code": ("spikingformer_cifar", {"encoding": "phase"}),
    "wavelets and ternary spikes": ("swformer_cifar", {}),
    "experts": ("semm_cifar", {}),
    "weights of 4 bits": ("spikformer_cifar", {"quant_bits": 4}),
    "one step": ("spikformer_cifar", {"step": 1, "read_step": 1}),
    "learned positions": ("spikformer_cifar", {"pos_layer": "learned", "attn_scale": "learnable"}),
    "integer stages": ("espikeformer_t", {}),
    "merged convolutions": ("metaspikformer", {}),
    "local groups": ("spikformer_cifar", {"attn_layer": "LSSA"}),
}

Lower = Callable[..., Any]


def check(found: Agreement) -> None:
    assert found.spikes > 100 * found.images
    assert found.synops > 1000 * found.images
    assert {name: layer.spikes_differ for name, layer in found.layers.items() if layer.spikes_differ} == {}
    wrong = {name: layer for name, layer in found.layers.items() if layer.synops != layer.metered}
    assert wrong == {}
    assert {name: layer for name, layer in found.layers.items() if layer.macs != layer.metered_macs} == {}
    assert found.answers_differ == 0
    assert found.logits_differ < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_spikes_and_operations_are_those_of_the_model(case: str, lowered: Lower) -> None:
    name, keys = CASES[case]
    model, graph, images = lowered(name, **keys)
    check(compare(model, graph, images))


@pytest.mark.slow
def test_every_model_that_can_be_expressed_agrees(any_model: str, lowered: Lower) -> None:
    if any_model in ("sglformer_cifar", "sglformer_dvs", "tim_dvs"):
        pytest.skip("mixes time steps")
    model, graph, images = lowered(any_model, events=any_model.endswith(("_dvs", "_dvsg")))
    check(compare(model, graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("attention", sorted(registry.ATTENTIONS.keys() - {"TIM"}))
def test_every_attention_agrees_with_both_residuals(attention: str, lowered: Lower) -> None:
    for residual in ("sew", "ms"):
        model, graph, images = lowered("spikformer_cifar", attn_layer=attention, residual=residual)
        check(compare(model, graph, images))


@pytest.mark.slow
@pytest.mark.parametrize("stem", sorted(registry.STEMS.keys() - {"sequential_embed"}))
def test_every_stem_agrees(stem: str, lowered: Lower) -> None:
    model, graph, images = lowered("spikformer_cifar", embed_layer=stem)
    check(compare(model, graph, images))


def test_other_thresholds_and_counts_are_noticed(lowered: Lower) -> None:
    model, graph, images = lowered("spikformer_cifar", images=1)
    name = "blocks.0.mlp.fc1.neuron"
    nodes = tuple(
        replace(node, arrays={"threshold": node.arrays["threshold"] * 1.5}) if node.name == name else node
        for node in graph
    )
    found = compare(model, Graph(nodes, graph.steps, graph.meta), images)
    assert found.layers[name].spikes_differ > 0
    assert found.layers["blocks.0.attn.q.neuron"].spikes_differ == 0
    following = found.layers["blocks.0.mlp.fc2.conv"]
    assert following.synops < following.metered


def test_pixels_are_multiplied_once_and_events_added_at_every_step(lowered: Lower) -> None:
    first = "stem.chain.convs.0"
    still = compare(*lowered("sdt_cifar")).layers[first]
    assert (still.synops, still.macs) == (0, 2 * 16 * 16 * 2 * 27)  # images x positions x outputs x weights, once
    events = compare(*lowered("sdt_dvs", events=True)).layers[first]
    assert events.macs == 0
    assert events.synops > 0


def test_the_read_out_is_the_mean_of_the_steps_that_are_read(lowered: Lower) -> None:
    model, graph, images = lowered("spikformer_cifar", step=3, read_step=2)
    assert isinstance(model.config, ModelConfig)
    assert graph.output.attrs["steps"] == 2
    check(compare(model, graph, images))


@pytest.mark.parametrize("name", ["spikformer_cifar", "sdt_dvs", "spikingresformer_ti"])
def test_the_machine_that_counts_gives_the_integers_of_the_fast_one(name: str, lowered: Lower) -> None:
    model, graph, images = lowered(name, events=name.endswith("_dvs"))
    read = np.stack([frames(model, image) for image in images])
    integers = quantize(graph, Precision(), (float(read.min()), float(read.max())))
    batch, executor = dense.run(integers, read), Executor(integers)
    for index, image in enumerate(read):
        run = executor.run(image, keep=True)
        assert run.spikes > 100
        assert all(np.array_equal(run.outputs[name], spikes[:, index]) for name, spikes in batch.spikes.items())
        assert np.allclose(run.readout, batch.logits[index], rtol=1e-12)
