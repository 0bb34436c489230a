"""Closed forms of the surrogate functions' derivatives."""

from __future__ import annotations

import pytest
from spikingjelly.activation_based import surrogate

from models import registry
from models.neurons.surrogates import CLOSED_FORM_NAMES, closed_form


def test_every_surrogate_of_the_registry_has_a_closed_form() -> None:
    assert sorted(CLOSED_FORM_NAMES) == sorted(registry.SURROGATES)
    for name, path in registry.SURROGATES.items():
        form = closed_form(registry.load(path)())
        assert form is not None
        assert form.name == name


@pytest.mark.parametrize(
    "function",
    [
        surrogate.Sigmoid(spiking=False),
        surrogate.SquarewaveFourierSeries(n=3),
        surrogate.DeterministicPass(),
        type("Own", (surrogate.Sigmoid,), {})(),
    ],
)
def test_other_functions_have_none(function: surrogate.SurrogateFunctionBase) -> None:
    assert closed_form(function) is None
