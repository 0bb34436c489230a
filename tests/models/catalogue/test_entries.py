"""Entries of the catalogue: complete for all registered names, with formula, paper and existing keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import pytest

from models import ModelConfig, registry
from models.catalogue.entries import PARTS, Entry, entries, kinds
from trainers.config import TrainConfig

REGISTERED: dict[str, Iterable[str]] = {
    "model": registry.MODELS,
    "attention": registry.ATTENTIONS,
    "mlp": registry.MLPS,
    "stem": registry.STEMS,
    "neuron": registry.NEURONS,
    "surrogate": registry.SURROGATES,
    "exit_rule": registry.EXIT_RULES,
    **{
        kind: get_args(ModelConfig.model_fields[key].annotation)
        for kind, key in (("position", "pos_layer"), ("residual", "residual"), ("head", "head_layer"))
    },
    "encoding": get_args(ModelConfig.model_fields["encoding"].annotation),
}
WITHOUT_PAPER = {"identity", "none", "cross_entropy", "spike_penalty"}
FAST = [kind for kind in kinds() if kind != "model"]


@pytest.fixture(scope="module", params=FAST)
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of parts; models are compared with the page in the test of the catalogue."""
    return str(request.param)


@pytest.fixture(scope="module")
def found(kind: str) -> list[Entry]:
    """All entries of a kind."""
    return list(entries(kind))


def test_every_registered_name_has_an_entry(kind: str, found: list[Entry]) -> None:
    assert kind == "loss" or [entry.name for entry in found] == list(REGISTERED[kind])


def test_every_entry_has_a_formula_and_a_paper(found: list[Entry]) -> None:
    assert [entry.name for entry in found if not entry.formula] == []
    assert {entry.name for entry in found if not entry.paper} <= WITHOUT_PAPER


def test_every_key_of_an_entry_is_a_key_of_train_files(found: list[Entry]) -> None:
    assert {key for entry in found for key in entry.keys} <= TrainConfig.model_fields.keys()


def test_every_part_is_usable_in_a_family_at_least_where_it_is_the_default(kind: str, found: list[Entry]) -> None:
    for entry in found:
        assert kind == "loss" or entry.usable_in, entry.name
        assert set(entry.default_in) <= set(entry.usable_in), entry.name


def test_every_kind_is_a_choice_of_the_config_and_no_registry_is_left_out() -> None:
    assert set(kinds()) == REGISTERED.keys() | {"loss"}
    assert {part.key for part in PARTS.values()} <= ModelConfig.model_fields.keys()
    dicts = {name for name, value in vars(registry).items() if name.isupper() and _holds_paths(value)}
    assert dicts == {"STEMS", "ATTENTIONS", "MLPS", "NEURONS", "SURROGATES", "EXIT_RULES"}


def _holds_paths(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(path, str) and ":" in path for path in value.values())
