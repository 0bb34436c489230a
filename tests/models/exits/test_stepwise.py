"""Models run with exits against the same models run for all steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import ConfigError, create_model, with_exits
from models.exits.rules import read_outs
from models.parts.layers import Conv

MODELS = ("spikformer_cifar", "maxformer_cifar", "qkformer_dvs", "tim_dvs", "spikingresformer_cifar")


@pytest.mark.parametrize("name", MODELS)
def test_images_exit_with_the_read_out_of_their_step(exit_case: Callable[..., Any], name: str) -> None:
    case = exit_case(name)
    with torch.no_grad():
        means = read_outs(case.model.forward_steps(case.images))
    found = with_exits(case.model, "confidence", case.thresholds)(case.images)
    assert found.steps.tolist() == case.steps.tolist()
    assert len(set(found.steps.tolist())) > 1
    torch.testing.assert_close(found.logits, means[case.steps - 1, torch.arange(len(case.images))])


@pytest.mark.parametrize("node_type", ["IFNode", "PLIFNode", "KLIFNode", "CLIFNode", "GLIFNode"])
def test_every_causal_neuron_carries_its_state(exit_case: Callable[..., Any], node_type: str) -> None:
    case = exit_case("spikformer_cifar", node_type=node_type)
    found = with_exits(case.model, "confidence", case.thresholds)(case.images)
    assert found.steps.tolist() == case.steps.tolist()


def test_no_step_of_an_image_that_has_exited_is_run(exit_case: Callable[..., Any]) -> None:
    case = exit_case("spikformer_cifar")
    batches: list[int] = []
    hook = case.model.head.register_forward_hook(lambda module, inputs, output: batches.append(output.shape[1]))
    with_exits(case.model, "confidence", case.thresholds)(case.images)
    hook.remove()
    assert batches == [int((case.steps >= t).sum()) for t in range(1, int(case.steps.max()) + 1)]


def test_the_first_layer_of_a_still_image_runs_once(
    exit_case: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, calls = exit_case("spikformer_cifar"), []
    forward = Conv.forward

    def counted(conv: Conv, x: Tensor) -> Tensor:
        calls.append(conv.fed)
        return forward(conv, x)

    monkeypatch.setattr(Conv, "forward", counted)
    with_exits(case.model, "confidence", 2.0)(case.images)
    assert calls.count("input") == 1


def test_a_run_leaves_the_model_as_it_was(exit_case: Callable[..., Any]) -> None:
    case = exit_case("tim_dvs")
    with torch.no_grad():
        before = case.model.forward_steps(case.images)
        with_exits(case.model, "confidence", case.thresholds)(case.images)
        after = case.model.forward_steps(case.images)
    assert torch.equal(before, after)


def test_rule_and_threshold_are_by_default_those_of_the_train_file(exit_case: Callable[..., Any]) -> None:
    case = exit_case("spikformer_cifar", exit_rule="margin", exit_threshold=0.25)
    found = with_exits(case.model)
    assert (found.rule, found.thresholds) == ("margin", [0.25] * 3)


def test_a_model_without_rule_asks_for_one(exit_case: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="needs a rule and a threshold"):
        with_exits(exit_case("spikformer_cifar").model)


@pytest.mark.parametrize(
    ("name", "keys", "reason"),
    [
        ("spikformer_cifar", {"node_type": "PSN"}, "PSN depends on later steps"),
        ("spikformer_cifar", {"node_type": "ILIFNode"}, "ILIFNode depends on later steps"),
        ("sglformer_cifar", {"head_layer": "spatio_temporal"}, "the head reads all steps at once"),
        ("qkformer_cifar", {"legacy_batch_leak": True}, "the rest of its batch"),
    ],
)
def test_models_in_which_no_image_can_exit_are_refused(
    small_config: Callable[..., Any], name: str, keys: dict[str, object], reason: str
) -> None:
    model = create_model(small_config(name, **keys)).eval()
    with pytest.raises(ConfigError, match=reason):
        with_exits(model, "confidence", 0.9)


def test_a_wrong_number_of_thresholds_is_refused(small_config: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"one number, or step - 1 of them \(got 3, step=3\)"):
        with_exits(create_model(small_config("spikformer_cifar")).eval(), "confidence", (0.9, 0.8, 0.7))


def test_exits_are_refused_in_training(small_config: Callable[..., Any]) -> None:
    model: nn.Module = create_model(small_config("spikformer_cifar"))
    with pytest.raises(ConfigError, match="call eval"):
        with_exits(model, "confidence", 0.9)(torch.zeros(1, 3, 16, 16))
