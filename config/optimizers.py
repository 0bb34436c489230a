"""Names of optimizers, known without torch."""

from __future__ import annotations

from config.errors import unknown_name

_OPTIMIZERS = """
adabelief adadelta adafactor adafactorbv adafactorbvc adagrad adam adamax adamc adamp adamuon adamw adamwlegacy adan
adanw adopt adoptc adoptw cadafactor cadafactorbv cadafactorbvc cadamc cadamp cadamw cadan cadanw cadopt cadoptc
cadoptw clamb clambw claprop clion clionc cmars cnadamc cnadamw crmsproptf csgdc csgdp csgdw kron kronc kronw lamb
lambc lambcd lambcw lambw laprop lapropc larc lars lion lionc madgrad madgradw mars momentum muon nadam nadamc
nadamlegacy nadamuon nadamw nesterov nesterovw nlarc nlars nmuon novograd novogradc novogradw radabelief radam
radamlegacy radamw rmsprop rmsproptf rmsproptfc rmsproptfw sgd sgdc sgdp sgdw
"""
OPTIMIZERS = frozenset(_OPTIMIZERS.split())
"""timm's optimizers, listed here so that names are checked without torch."""


def known_optimizer(value: str) -> str:
    """Returns the name. Raises ValueError with the nearest known ones."""
    if value.removeprefix("lookahead_") not in OPTIMIZERS:
        raise ValueError(unknown_name("optimizer", value, OPTIMIZERS))
    return value
