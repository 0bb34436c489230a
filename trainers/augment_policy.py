"""Texts of augmentation policies, as timm and the published event recipes write them; imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

EVENT_POLICY = "snn-wide"
"""The only policy for events, see `trainers.augment.events`."""


@dataclass(frozen=True)
class RandAugment:
    """A parsed policy: magnitude (of 10), its standard deviation, and operations per image."""

    magnitude: float = 9.0
    deviation: float = 0.0
    count: int = 2


def parse_policy(text: str) -> RandAugment | None:
    """Returns the policy of a text such as `rand-m9-n1-mstd0.4-inc1`, or None for that of events.

    Magnitudes always act as with `inc1`. Raises ValueError for other texts.
    """
    if text == EVENT_POLICY:
        return None
    kind, *parts = text.split("-")
    if kind != "rand":
        raise ValueError(f"must start with rand, or be {EVENT_POLICY} or none (got {text!r})")
    values: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|m)([0-9]+(?:\.[0-9]+)?)|(n)([0-9]+)|(inc)(1)", part)
        if match is None:
            raise ValueError(f"{part!r} is not a part of a rand policy (m9, n1, mstd0.4, inc1)")
        name, value = (group for group in match.groups() if group is not None)
        values[name] = float(value)
    return RandAugment(values.get("m", 9.0), values.get("mstd", 0.0), int(values.get("n", 2)))
