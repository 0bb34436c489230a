"""A resolved space: suggestions, initial configs, an example, rungs and size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from config.distributions import UniformSampler
from config.errors import ConfigError, InfeasibleError
from search.space.space import Space

ReadSpace = Callable[..., Space]

NODE_TYPES = "{LIFNode: {tau: {uniform: [1.5, 3.0]}}, PLIFNode: {tau: {uniform: [1.1, 1.4]}}, IFNode: }"
CONDITIONAL = f"space={{node_type: {{choice: {NODE_TYPES}}}}}"


def test_read_step_defaults_to_a_searched_step(read_space: ReadSpace) -> None:
    space = read_space("space={step: {choice: [1, 2, 4]}}")
    assert [space.train_config({"step": t}).read_step for t in (1, 2, 4)] == [1, 2, 4]


def test_a_conditional_key_is_sampled_under_the_option_that_opens_it(read_space: ReadSpace) -> None:
    space, sampler = read_space(CONDITIONAL), UniformSampler(0)
    for _ in range(50):
        values = space.suggest(sampler)
        if values["node_type"] == "IFNode":
            assert "tau" not in values
        else:
            low, high = {"LIFNode": (1.5, 3.0), "PLIFNode": (1.1, 1.4)}[values["node_type"]]
            assert low <= values["tau"] <= high
        assert space.train_config(values).node_type == values["node_type"]


def test_a_key_that_several_options_open_has_a_parameter_name_for_each(read_space: ReadSpace) -> None:
    space = read_space(CONDITIONAL)
    assert space.to_optuna({"node_type": "LIFNode", "tau": 2.0}) == {
        "node_type": "LIFNode",
        "node_type=LIFNode.tau": 2.0,
    }
    assert space.searched_keys() == ["node_type", "tau"]


def test_combinations_that_cannot_be_built_are_infeasible(read_space: ReadSpace) -> None:
    space = read_space("space={num_heads: {choice: [2, 3]}}", "fixed={distort: false, embed_dim: 64}")
    assert space.train_config({"num_heads": 2}).num_heads == 2
    with pytest.raises(InfeasibleError, match=r"num_heads must divide embed_dim \(got embed_dim=64, num_heads=3\)"):
        space.train_config({"num_heads": 3})


def test_rungs_are_powers_of_the_reduction_factor_below_the_full_training(read_space: ReadSpace) -> None:
    assert read_space().rung_epochs() == [1, 3]
    assert read_space("scheduler.grace_epochs=2", "scheduler.reduction_factor=2").rung_epochs() == [2, 4, 8]
    assert read_space("scheduler.name=none").rung_epochs() == []


def test_the_size_of_a_discrete_space_is_counted(read_space: ReadSpace) -> None:
    assert read_space("space.tau={choice: [2.0, 3.0, 4.0]}").size() == 6
    assert read_space().size() == float("inf")


def test_the_grid_has_every_config_once_and_only_active_keys(read_space: ReadSpace) -> None:
    space = read_space(
        "space={attn_layer: {choice: {SSA: {attn_scale: {choice: [0.1, 0.2]}}, SDSA: }}, step: {int: [1, 2]}}"
    )
    configs = list(space.grid())
    assert len(configs) == space.size() == 6
    assert configs[0] == {"attn_layer": "SSA", "attn_scale": 0.1, "step": 1}
    assert configs[-1] == {"attn_layer": "SDSA", "step": 2}
    with pytest.raises(ConfigError, match="tau: a table needs choice or int"):
        list(read_space().grid())


def test_the_example_is_the_first_initial_config_that_is_feasible(read_space: ReadSpace) -> None:
    assert read_space("start_with=[spikformer/digits]").example.tau == 2.0
    space = read_space("space.tau={uniform: [2.5, 3.0]}", "start_with=[spikformer/digits]")
    assert 2.5 <= space.example.tau <= 3.0
    assert space.example is space.example


def test_a_space_in_which_every_config_is_refused_has_no_example(read_space: ReadSpace) -> None:
    space = read_space("space={num_heads: {choice: [3, 5]}}")
    assert not space.is_feasible({"num_heads": 3})
    with pytest.raises(
        ConfigError, match=r"all of 300 sampled configs were refused: num_heads must divide embed_dim \(300x\)"
    ):
        _ = space.example


def test_initial_configs_are_read_once(read_space: ReadSpace, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text("dataset: digits\nmodel: spikformer_cifar\nepochs: 3\ntau: 1.5\nstep: 2\n")
    space = read_space(f"start_with=[{recipe}]")
    recipe.unlink()
    assert [(name, values) for name, values, _ in space.initial_configs] == [(str(recipe), {"tau": 1.5, "step": 2})]
