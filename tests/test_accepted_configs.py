"""Every accepted file can be built, or is refused with one sentence before training."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from config import strict_yaml
from config.distributions import UniformSampler
from config.errors import ConfigError, InfeasibleError
from config.strict_yaml import dump_yaml
from models import create_model, registry
from models.feasibility import check_feasible
from search.space import reader
from trainers.config import TrainConfig

WIDTHS, HEADS, DEPTHS = st.integers(8, 96), st.integers(1, 12), st.integers(0, 5)
FEW, MANY = (
    settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow]) for count in (15, 2000)
)


def one_or_many(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=5)


KEYS: dict[str, st.SearchStrategy[Any]] = {
    "dataset": st.sampled_from(["digits", "cifar10", "cifar10_dvs", "digits_dvs", "imagenet"]),
    "img_size": st.integers(4, 40),
    "in_channels": st.integers(1, 3),
    "num_classes": st.integers(2, 12),
    "step": st.integers(1, 4),
    "read_step": st.integers(1, 4),
    "patch_size": st.sampled_from([1, 2, 4, 8, 16]),
    "embed_dim": one_or_many(WIDTHS | st.sampled_from([16, 32, 48, 64, 96])),
    "num_heads": one_or_many(HEADS),
    "mlp_ratio": one_or_many(st.floats(0.01, 4.0)),
    "depths": one_or_many(DEPTHS),
    "attn_scale": st.sampled_from(["learnable", "head_dim", 0.125]),
    "attn_layer": one_or_many(st.sampled_from(sorted(registry.ATTENTIONS))),
    "embed_layer": st.sampled_from(sorted(registry.STEMS)),
    "pos_layer": st.sampled_from(["rpe", "learned", "none"]),
    "mlp_layer": st.sampled_from(sorted(registry.MLPS)),
    "expert_dim": st.integers(1, 20),
    "num_expert": st.integers(1, 5),
    "head_layer": st.sampled_from(["mean", "spatio_temporal"]),
    "variant": st.sampled_from(["authors", "step"]),
    "residual": st.sampled_from(["sew", "ms"]),
    "pooling_stat": st.none() | st.text("01", min_size=4, max_size=4),
    "node_type": st.sampled_from(sorted(registry.NEURONS)),
    "act_function": st.sampled_from(sorted(registry.SURROGATES)),
    "kd_head": st.booleans(),
    "legacy_batch_leak": st.booleans(),
}
SMALL = ("dataset", "img_size", "embed_dim", "depths")
"""Always generated, since the published sizes take seconds to build."""

TRAIN = st.fixed_dictionaries(
    {
        "model": st.sampled_from(sorted(registry.MODELS)),
        "epochs": st.just(3),
        **{key: KEYS[key] for key in SMALL},
    },
    optional={key: values for key, values in KEYS.items() if key not in SMALL},
)


def is_built_or_refused(keys: dict[str, Any]) -> None:
    try:
        config = TrainConfig.model_validate(keys)
        check_feasible(config)
    except (ValidationError, InfeasibleError) as error:
        assert str(error)  # noqa: PT017  # any other exception fails the test
        return
    with torch.device("meta"), torch.no_grad():
        model = create_model(config).eval()
        channels = config.in_channels
        shown = torch.empty(1, channels, config.img_size, config.img_size)
        events = config.dataset in ("cifar10_dvs", "digits_dvs")
        inputs = shown[:, None].expand(-1, config.step, -1, -1, -1) if events else shown
        assert model(inputs).shape == (1, config.num_classes)


@FEW
@given(TRAIN)
def test_an_accepted_config_is_built_and_runs(keys: dict[str, Any]) -> None:
    is_built_or_refused(keys)


@pytest.mark.slow
@MANY
@given(TRAIN)
def test_many_accepted_configs_are_built_and_run(keys: dict[str, Any]) -> None:
    is_built_or_refused(keys)


NUMBERS = st.floats(-1, 20) | st.integers(-1, 20) | st.sampled_from(["a", None, True, 1e300])
PAIRS = st.lists(NUMBERS, min_size=1, max_size=3)
DISTRIBUTIONS = st.one_of(
    st.fixed_dictionaries({"uniform": PAIRS}),
    st.fixed_dictionaries({"log_uniform": PAIRS}),
    st.fixed_dictionaries({"int": PAIRS}),
    st.fixed_dictionaries({"log_int": PAIRS}),
    st.fixed_dictionaries({"choice": st.lists(NUMBERS | st.sampled_from(["SSA", "SDSA", "LIFNode"]), max_size=3)}),
    NUMBERS,
)
SEARCHED = st.sampled_from(
    ["tau", "alpha", "step", "depths", "embed_dim", "num_heads", "lr", "attn_layer", "node_type"]
)
SPACES = st.fixed_dictionaries(
    {
        "study": st.text("ab./ \n", max_size=4),
        "base": st.just("spikformer/digits"),
        "objectives": st.dictionaries(st.sampled_from(["accuracy", "spikes", "x"]), st.just("maximize"), max_size=2),
        "space": st.dictionaries(SEARCHED, DISTRIBUTIONS, max_size=3),
        "budget": st.fixed_dictionaries({"epochs": st.integers(0, 9)}, optional={"trials": NUMBERS, "hours": NUMBERS}),
    },
    optional={
        "fixed": st.dictionaries(st.sampled_from([*KEYS, "warmup_epochs"]), NUMBERS, max_size=2),
        "constraints": st.dictionaries(st.just("params_m"), st.dictionaries(st.just("max"), NUMBERS), max_size=1),
        "scheduler": st.fixed_dictionaries({"grace_epochs": NUMBERS}),
        "seed": NUMBERS,
        "concurrency": NUMBERS,
    },
)
GOOD = {
    "study": "a",
    "objectives": {"accuracy": "maximize"},
    "budget": {"epochs": 3, "trials": 2},
    "fixed": {},
}


@FEW
@given(SPACES, st.sets(st.sampled_from(sorted(GOOD))))
def test_a_space_is_read_or_refused_and_its_samples_are_built_or_refused(
    raw: dict[str, Any], replaced: set[str]
) -> None:
    text = dump_yaml({**raw, **{key: GOOD[key] for key in replaced}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            space = reader.read(strict_yaml.parse(text, "x.yml", tolerant=True))
        except ConfigError as error:
            assert "x.yml" in str(error)  # noqa: PT017  # any other exception fails the test
            return
        for seed in range(5):
            values = space.suggest(UniformSampler(seed))
            try:
                config = space.train_config(values)
            except InfeasibleError:
                continue
            with torch.device("meta"):
                create_model(config)
