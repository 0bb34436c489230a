from __future__ import annotations

from typing import Any

import pytest

from config.step_names import NEUTRAL, SPELLINGS, UNREAD_KEYS, Era, compatibility_warnings, lost_values, spell
from trainers.config import TrainConfig

PLAIN = {
    "model": "spikformer_cifar",
    "dataset": "cifar10",
    "step": 4,
    "node_type": "LIFNode",
    "act_function": "sigmoid",
    "alpha": 4.0,
    "attn_layer": "SSA",
    "embed_layer": "SPS",
    "tau": 2.0,
}


@pytest.mark.parametrize(
    ("era", "key", "ours", "theirs"),
    [
        ("head", "dataset", "cifar10", "torch/cifar10"),
        ("head", "dataset", "cifar10_dvs", "dvsc10"),
        ("head", "dataset", "imagenet", "imagenet"),
        ("head", "act_function", "sigmoid", "SigmoidGrad"),
        ("head", "act_function", "erf", "erf"),
        ("head", "node_type", "PSN", "PSNTorch"),
        ("head", "node_type", "GLIFNode", "GLIFTorch"),
        ("head", "node_type", "CLIFNode", "ComplementaryLIFNeuron"),
        ("head", "model", "sdt_imagenet", "std_imagenet"),
        ("head", "model", "sdt_cifar", "sdt_cifar"),
        ("head", "model", "tim_dvs", "tim"),
        ("two_file", "model", "sdt_cifar", "std_cifar"),
        ("two_file", "model", "spikformer_imagenet", "spikformer_imgnet"),
        ("two_file", "dataset", "cifar100", "torch/cifar100"),
        ("head", "device", "cuda", 0),
        ("head", "device", "cuda:3", 3),
        ("head", "device", "cpu", "cpu"),
    ],
)
def test_values_are_spelt_as_the_benchmark_of_that_era_does(era: Era, key: str, ours: str, theirs: object) -> None:
    assert spell({key: ours}, era) == {key: theirs}


@pytest.mark.parametrize("era", ["head", "two_file"])
def test_no_two_values_share_a_spelling(era: Era) -> None:
    for table in SPELLINGS[era].values():
        assert len(set(table.values())) == len(table)


def test_only_the_stem_of_sdt_models_is_renamed() -> None:
    assert spell({"model": "sdt_cifar", "embed_layer": "MS_SPS"}, "head")["embed_layer"] == "SPS"
    assert spell({"model": "spikformer_cifar", "embed_layer": "MS_SPS"}, "head")["embed_layer"] == "MS_SPS"


@pytest.mark.parametrize(("model", "theirs"), [("spikformer_cifar", "random_ssa"), ("sdt_cifar", "random")])
def test_random_attention_has_the_benchmarks_name_if_it_is_equal(model: str, theirs: str) -> None:
    keys = {**PLAIN, "model": model, "attn_layer": "random", "tau": 2.0}
    assert spell(keys, "head")["attn_layer"] == theirs
    assert any(line.startswith("attn_layer") for line in compatibility_warnings([keys], "head")) == (theirs == "random")


def test_no_name_is_left_out() -> None:
    assert spell({"aa": None, "mixup": 0.0, "amp": False}, "head") == {"mixup": 0.0, "amp": False}


def test_a_config_that_the_benchmark_supports_gives_no_note() -> None:
    assert compatibility_warnings([PLAIN], "head") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step": 6}, "step: 6: the benchmark's models for images work with 4 only"),
        ({"alpha": 2.0}, "act_function, alpha: the benchmark reads them"),
        ({"act_function": "atan"}, "act_function, alpha"),
        ({"val_fraction": 0.1, "threads": 1}, "the benchmark does not read threads, val_fraction"),
        ({"read_step": 2}, "the benchmark does not read read_step"),
        ({"train_images": 5000}, "the benchmark does not read train_images"),
        ({"model": "maxformer_cifar"}, "model: the benchmark has no maxformer_cifar"),
        ({"dataset": "digits"}, "dataset: the benchmark has no digits"),
        ({"node_type": "IFNode"}, "node_type: the benchmark has no IFNode"),
        ({"attn_layer": "QKTA"}, "attn_layer: the benchmark's spikformer has no QKTA"),
        ({"attn_drop": 0.1}, "attn_drop, mlp_drop: the benchmark never applies them"),
        ({"attn_scale": "learnable"}, "attn_scale: learnable: the benchmark takes a number"),
        ({"cooldown_epochs": 10}, "epochs: the benchmark trains cooldown_epochs more"),
        ({"device": "cpu"}, "device: cpu: the benchmark takes the number of a GPU"),
        ({"model": "sdt_cifar", "attn_layer": "SDSA", "tau": 1.5}, "tau: in the benchmark's SDT"),
        ({"model": "spikformer_imagenet", "dataset": "imagenet"}, "model: import spikformer_imagenet"),
    ],
)
def test_a_value_that_the_benchmark_ignores_is_one_line(change: dict[str, Any], words: str) -> None:
    lines = compatibility_warnings([{**PLAIN, **change}], "head")
    assert len(lines) == 1
    assert lines[0].startswith(words)


def test_models_for_events_take_any_number_of_steps() -> None:
    assert not any(
        "step" in line for line in compatibility_warnings([{**PLAIN, "model": "tim_dvs", "step": 10}], "head")
    )


def test_the_two_file_form_reads_fewer_keys() -> None:
    assert "the benchmark does not read attn_layer, embed_layer" in compatibility_warnings([PLAIN], "two_file")


def test_several_configs_share_their_notes() -> None:
    configs = [{**PLAIN, "step": 6, "threads": 1}, {**PLAIN, "step": 6, "read_step": 2}]
    assert [line.split(":")[0] for line in compatibility_warnings(configs, "head")] == [
        "the benchmark does not read read_step, threads",
        "step",
    ]


@pytest.mark.parametrize(
    ("change", "searched", "expected"),
    [
        ({"val_fraction": 0.1, "threads": 2, "attn_threshold": 0.5, "spike_penalty": 0.0}, ["tau"], []),
        ({"attn_threshold": 0.5}, ["attn_threshold"], ["the benchmark does not read attn_threshold"]),
        ({"train_images": 5000}, [], ["the benchmark does not read train_images"]),
        ({"spike_penalty": 0.1, "read_step": 2}, [], ["the benchmark does not read read_step, spike_penalty"]),
        ({"step": 6}, [], ["step: 6: the benchmark's models for images work with 4 only"]),
        ({"step": 6, "read_step": 2, "dataset": "digits"}, ["step"], []),
        ({"step": 6, "model": "maxformer_cifar"}, ["step"], []),
        ({"step": 6, "attn_layer": "QKTA"}, ["step"], []),
        ({"model": "spikformer_imagenet", "dataset": "imagenet"}, [], []),
    ],
)
def test_a_lost_value_is_one_the_benchmark_would_ignore_in_a_file_that_it_can_run(
    change: dict[str, Any], searched: list[str], expected: list[str]
) -> None:
    assert lost_values([{**PLAIN, **change}], searched) == expected


def test_a_value_that_is_not_read_is_lost_unless_it_is_the_default() -> None:
    defaults = {key: TrainConfig.model_fields[key].default for key in NEUTRAL}
    assert {**defaults, "variant": "step"} == NEUTRAL  # the benchmark's own version, whatever ours is by default
    assert NEUTRAL.keys() <= set(UNREAD_KEYS)
