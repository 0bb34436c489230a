from __future__ import annotations

import math

import pytest
import torch

from models import registry
from models.exits.rules import exit_steps, per_step, read_outs, rule_of


def test_a_read_out_is_the_mean_of_the_steps_so_far() -> None:
    logits = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(read_outs(logits), torch.stack([logits[: t + 1].mean(0) for t in range(3)]))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("confidence", 0.7),
        ("margin", 0.5),
        ("entropy", 1 + (0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1)) / math.log(3)),
    ],
)
def test_certainties_of_known_probabilities(rule: str, expected: float) -> None:
    means = torch.tensor([0.2, 0.7, 0.1]).log().view(1, 1, 3)
    assert float(rule_of(rule).certainty(means)) == pytest.approx(expected, abs=1e-6)


def test_msprt_multiplies_the_probabilities_of_the_steps() -> None:
    outputs = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(2))
    products = outputs.softmax(2).cumprod(0)
    expected = (products / products.sum(2, keepdim=True)).amax(2)
    torch.testing.assert_close(rule_of("msprt").certainty(read_outs(outputs)), expected)


def test_agreement_counts_the_steps_in_a_row_with_one_class() -> None:
    classes = torch.tensor([[0, 1], [0, 2], [1, 2], [1, 2]])
    means = torch.nn.functional.one_hot(classes, 3).float()
    assert rule_of("agreement").certainty(means).tolist() == [[1, 1], [2, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize("rule", registry.EXIT_RULES)
def test_a_read_out_is_never_surer_for_a_flatter_output(rule: str) -> None:
    means = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(1))
    certainty = rule_of(rule).certainty
    assert bool((certainty(means) >= certainty(means * 0.5) - 1e-6).all())


def test_an_image_exits_at_the_first_step_that_is_sure_and_at_the_last_otherwise() -> None:
    certainty = torch.tensor([[0.9, 0.1, 0.5], [0.0, 0.6, 0.5], [1.0, 1.0, 0.0]])
    assert exit_steps(certainty, 0.6).tolist() == [1, 2, 3]
    assert exit_steps(certainty, [0.95, 0.5]).tolist() == [3, 2, 2]


def test_one_threshold_stands_for_all_steps_but_the_last() -> None:
    assert per_step(0.5, 4) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"step - 1 of them \(got 2, step=4\)"):
        per_step([0.5, 0.5], 4)
