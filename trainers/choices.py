"""The text under which a train file names its random augmentation. No torch here: it is checked without it."""

from __future__ import annotations

import re
from dataclasses import dataclass

EVENT_POLICY = "snn-wide"
"""The one policy for events, see `trainers.augment.events`."""


@dataclass(frozen=True)
class RandAugment:
    """A parsed policy: magnitude (of 10), its standard deviation, and operations an image."""

    magnitude: float = 9.0
    deviation: float = 0.0
    count: int = 2


def parse_policy(text: str) -> RandAugment | None:
    """Returns the policy that a text such as `rand-m9-n1-mstd0.4-inc1` names (None for that of events).

    `inc1` is the only way it is read.
    """
    if text == EVENT_POLICY:
        return None
    kind, *parts = text.split("-")
    if kind != "rand":
        raise ValueError(f"must start with rand, or be {EVENT_POLICY} (got {text!r})")
    values: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|m)([0-9]+(?:\.[0-9]+)?)|(n)([0-9]+)|(inc)(1)", part)
        if match is None:
            raise ValueError(f"{part!r} is not a part of a rand policy (m9, n1, mstd0.4, inc1)")
        name, value = (group for group in match.groups() if group is not None)
        values[name] = float(value)
    return RandAugment(values.get("m", 9.0), values.get("mstd", 0.0), int(values.get("n", 2)))


_NAMES = """
adabelief adadelta adafactor adafactorbv adafactorbvc adagrad adam adamax adamc adamp adamuon adamw adamwlegacy adan
adanw adopt adoptc adoptw cadafactor cadafactorbv cadafactorbvc cadamc cadamp cadamw cadan cadanw cadopt cadoptc
cadoptw clamb clambw claprop clion clionc cmars cnadamc cnadamw crmsproptf csgdc csgdp csgdw kron kronc kronw lamb
lambc lambcd lambcw lambw laprop lapropc larc lars lion lionc madgrad madgradw mars momentum muon nadam nadamc
nadamlegacy nadamuon nadamw nesterov nesterovw nlarc nlars nmuon novograd novogradc novogradw radabelief radam
radamlegacy radamw rmsprop rmsproptf rmsproptfc rmsproptfw sgd sgdc sgdp sgdw
"""


OPTIMIZERS = frozenset(_NAMES.split())
