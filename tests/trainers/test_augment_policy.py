from __future__ import annotations

import pytest

from trainers.augment_policy import RandAugment, parse_policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("rand-m9-n1-mstd0.4-inc1", RandAugment(9.0, 0.4, 1)),
        ("rand-m9-mstd0.5-inc1", RandAugment(9.0, 0.5, 2)),
        ("rand-m7.5", RandAugment(7.5, 0.0, 2)),
        ("rand", RandAugment()),
    ],
)
def test_a_policy_is_read_as_timm_reads_it(text: str, policy: RandAugment) -> None:
    assert parse_policy(text) == policy


@pytest.mark.parametrize(
    "text",
    ["", "augmix-m3", "rand-", "rand-x3", "rand-m", "rand-m9.5.5", "rand-n1.5", "rand-p0.3", "rand-inc0", "rand m9"],
)
def test_an_invalid_policy_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must start with rand|is not a part of a rand policy"):
        parse_policy(text)
