"""Made-up questions: each family has its trait, and what a search observes agrees with what it is judged by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import synthetic
from benchmarks.simulations import SimulationTask, load, run_task
from benchmarks.synthetic import FAMILIES
from benchmarks.synthetic_table import CHANCE, SyntheticCurves
from config.errors import ConfigError

INSTANCES = range(synthetic.NUM_INSTANCES)


def tables(family: str) -> list[SyntheticCurves]:
    return [synthetic.load(name) for name in synthetic.names(family)]


def rank_correlations(family: str, metric: str, epoch: int) -> list[float]:
    """Returns, for each instance, that of a metric after an epoch with its true value, over the same sample."""
    found = []
    for table in tables(family):
        sample = np.random.default_rng(0).choice(len(table.configs), 150, replace=False).tolist()
        curves = {config: table.curve(config, 0) for config in sample}
        done = [config for config, curve in curves.items() if curve.failure is None]
        observed = [curves[config].epochs[epoch - 1].metrics[metric] for config in done]
        found.append(float(spearmanr(observed, table.ends[metric][done]).statistic))
    return found


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "size_1_000_000"])
def test_configs_are_numbered_as_the_grid_of_the_space(family: str) -> None:
    table = tables(family)[0]
    for number in np.linspace(0, len(table.configs) - 1, 25).astype(int).tolist():
        assert table.index(table.configs[number]) == number
    assert len(table.configs) == table.space.size()
    first = [values for values, _ in zip(table.space.grid(), range(30), strict=False)]
    assert first == [table.configs[number] for number in range(30)]


def test_a_table_of_a_million_configs_knows_its_front() -> None:
    _, evaluator = load("synthetic/size_1_000_000/0", "")
    assert len(evaluator.points) == 10**6
    accuracy, cost = np.concatenate(evaluator.points).T
    front = sorted(evaluator.front, key=lambda config: accuracy[config])
    assert accuracy[front[0]] == accuracy.min()
    assert np.all(np.diff(cost[front]) < 0.0)
    assert 0.0 < evaluator.share(front[::2]) < evaluator.share(front) == pytest.approx(1.0)


def test_a_table_depends_on_its_name_alone() -> None:
    first, second = (synthetic.load("synthetic/mixed/3") for _ in range(2))
    assert np.array_equal(first.true_values(), second.true_values(), equal_nan=True)
    assert first.curve(70, 2) == second.curve(70, 2)
    assert first.curve(70, 2) != first.curve(70, 3)
    assert not np.array_equal(first.ends["accuracy"], synthetic.load("synthetic/mixed/4").ends["accuracy"])


@pytest.mark.parametrize(("family", "metric"), [("noisy", "accuracy"), ("cost_late", "cost")])
def test_the_observed_ends_scatter_around_the_true_ones(family: str, metric: str) -> None:
    table = tables(family)[1]
    configs = list(range(0, len(table.configs), 50))
    observed = [
        [table.curve(config, seed).epochs[-1].metrics[metric] for seed in range(len(table.seeds))] for config in configs
    ]
    error = observed - table.ends[metric][configs][:, None]
    assert abs(error.mean()) < 4.0 * error.std() / error.size**0.5
    if metric == "accuracy":
        assert error.std() == pytest.approx(table.noise, rel=0.15)


def test_families_share_the_effects_of_the_keys() -> None:
    for instance in INSTANCES:
        base, flat, late = (tables(family)[instance] for family in ("base", "flat", "cost_late"))
        assert spearmanr(base.ends["accuracy"], flat.ends["accuracy"]).statistic == pytest.approx(1.0)
        assert np.array_equal(base.ends["cost"], late.ends["cost"])


def test_first_epochs_mislead_in_their_family_only() -> None:
    assert max(rank_correlations("misleading", "accuracy", 1)) < 0.0
    assert min(rank_correlations("misleading", "accuracy", 27)) > 0.9
    assert min(rank_correlations("base", "accuracy", 1)) > 0.3


def test_a_cost_is_known_from_the_first_epoch_or_drifts() -> None:
    assert rank_correlations("base", "cost", 1) == pytest.approx([1.0] * len(INSTANCES))
    assert np.mean(rank_correlations("cost_late", "cost", 1)) < 0.8
    assert min(rank_correlations("cost_late", "cost", 27)) > 0.95


def test_most_accuracies_are_near_the_best_or_far_from_it() -> None:
    def lost(family: str) -> list[float]:
        return [float(np.ptp(np.quantile(table.ends["accuracy"], [0.5, 1.0]))) for table in tables(family)]

    assert max(lost("flat")) < 2.0 < min(lost("base")) < max(lost("base")) < 25.0 < min(lost("steep"))


def test_seeds_differ_most_in_the_noisy_family() -> None:
    for noisy, base in zip(rank_correlations("noisy", "accuracy", 27), tables("base"), strict=True):
        assert noisy < 0.9
        assert base.noise < 1.0


def test_costs_span_orders_of_magnitude_in_few_configs() -> None:
    for table in tables("heavy_tails"):
        smallest, median, largest = np.log10(np.quantile(table.ends["cost"], [0.0, 0.5, 1.0]))
        assert largest - median > 3.0 * (median - smallest)
        assert largest == pytest.approx(6.0)


def test_a_corner_of_the_configs_fails_and_has_no_value() -> None:
    for table in tables("failing"):
        fails = np.flatnonzero(np.isfinite(table.failed_after))
        assert 0.2 < len(fails) / len(table.configs) < 0.35
        assert np.isnan(table.true_values()[fails]).all()
        failure = table.curve(int(fails[0]), 0).failure
        assert failure == ("diverged", table.failed_after[fails[0]])


def test_useless_keys_change_nothing_but_the_residual() -> None:
    table = tables("useless")[2]
    accuracy = table.ends["accuracy"].reshape(table.configs.shape)
    means = accuracy.mean(axis=tuple(range(3)))
    assert np.ptp(means.mean(axis=-1)) < 0.1 * np.ptp(accuracy.mean(axis=tuple(range(1, 7))))


def test_options_open_keys() -> None:
    table = tables("conditional")[0]
    opened = {frozenset(config.keys() - {"x0", "x1", "x2", "opening"}) for config in table.configs}
    assert opened == {frozenset({"a0"}), frozenset({"b0", "b1"}), frozenset()}
    assert len({table.ends["accuracy"][number] for number in range(18)}) == 18


def test_all_accuracies_and_costs_are_in_range() -> None:
    for family in FAMILIES:
        table = synthetic.load(synthetic.names(family)[0])
        assert table.ends["accuracy"].min() >= CHANCE
        assert table.ends["accuracy"].max() < 100.0
        assert all(table.ends[name].min() >= 1.0 for name in table.drift)
        assert table.corner.keys() == table.space.objectives.keys()


def test_a_mixed_instance_takes_traits_of_other_families() -> None:
    found = [synthetic.mixed(instance) for instance in range(30)]
    assert {traits.num_objectives for traits in found} == {2, 3}
    for name in synthetic.VALUES:
        assert {getattr(traits, name) for traits in found} <= {getattr(traits, name) for traits in FAMILIES.values()}


@pytest.mark.parametrize("method", ["ours", "moasha_random"])
def test_a_search_plays_a_made_up_table(method: str) -> None:
    result = run_task(SimulationTask("synthetic/conditional/1", "", method, 2, 0, 4))
    assert result.epochs == 27
    assert 0.0 < result.curve[-1][1] <= 1.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("synthetic/nosy/0", "Did you mean noisy"),
        ("synthetic/noisy/first", "with a whole number from 0 .got 'first'"),
        ("synthetic/noisy", "must be synthetic/FAMILY/INSTANCE"),
    ],
)
def test_a_name_without_a_table_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        synthetic.load(name)


def test_a_config_outside_the_table_is_refused() -> None:
    table = tables("conditional")[0]
    for config in ({**table.configs[0], "x0": 99}, {"x0": 1}, {**table.configs[0], "opening": "b"}):
        with pytest.raises(ConfigError, match="synthetic_conditional_0 holds no curve of"):
            table.index(config)
