"""Costs of the catalogue, against counts by hand."""

from __future__ import annotations

from models.catalogue.cost import HOST, SIZE, at_size, cost, cost_of_ssa

C, N, T = SIZE["embed_dim"], (SIZE["img_size"] // SIZE["patch_size"]) ** 2, SIZE["step"]


def test_ssa_has_four_projections_and_two_products_at_every_step() -> None:
    assert cost_of_ssa().operations == T * (4 * N * C**2 + 2 * N**2 * C)


def test_ssa_has_four_projections_with_norms_and_the_published_biases() -> None:
    layers_without_norms = 4 * C**2 + 4 * C
    assert 0 <= cost_of_ssa().parameters - layers_without_norms <= 2 * 4 * C


def test_the_layers_of_a_model_add_up() -> None:
    config = at_size(HOST, depths=1)
    parts = ("stem.", "blocks.", "head")
    assert cost(config).operations == sum(cost(config, (part,)).operations for part in parts)
    assert cost(config).parameters == sum(cost(config, (part,)).parameters for part in parts)


def test_the_first_layer_runs_once_on_an_image_and_every_step_on_its_code() -> None:
    direct, rate = (
        cost(at_size(HOST, depths=1, encoding=code), ("stem.chain.convs.0",)) for code in ("direct", "rate")
    )
    assert rate.operations == T * direct.operations


def test_a_key_that_a_model_lacks_keeps_its_preset() -> None:
    assert at_size("sew_resnet18").embed_dim == (64, 128, 256, 512)
