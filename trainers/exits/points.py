"""Exit points of a model: thresholds calibrated on one half of the images, accuracy and costs measured on the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.cost.meter import Meter
from models.exits.calibration import calibrate
from models.exits.rules import Thresholds, decision_macs, exit_steps, rule_of
from models.feasibility import exit_obstacle
from trainers.config import TrainConfig
from trainers.data.split import stratified
from trainers.diagnostics.health import chance_level
from trainers.exits.settings import ExitSettings


@dataclass(frozen=True)
class ExitPlan:
    """Exit points to measure: those with these thresholds, by number, or those that a calibration finds.

    With a `split_seed`, they are measured on the half of the images that is not for calibration, else on all.
    """

    rule: str
    settings: ExitSettings
    split_seed: int | None
    thresholds: Mapping[int, Thresholds] | None = None


def plan(config: TrainConfig, settings: ExitSettings) -> ExitPlan | None:
    """Returns the exit points of a training, None if its config asks for none, or its images cannot exit early."""
    if config.exit_rule is None or config.step < 2 or exit_obstacle(config) is not None:
        return None
    given = None if config.exit_threshold is None else {1: config.exit_threshold}
    return ExitPlan(config.exit_rule, settings, config.split_seed, given)


def plan_for_test(config: TrainConfig, exits: Iterable[Mapping[str, Any]]) -> ExitPlan | None:
    """Returns the same exit points for the test set, on which nothing is calibrated."""
    found = plan(config, ExitSettings())
    if found is None:
        return None
    thresholds = found.thresholds or {int(point["exit"]): point["exit_threshold"] for point in exits}
    return ExitPlan(found.rule, found.settings, None, thresholds)


def exit_points(means_TBK: Tensor, labels: Tensor, meter: Meter, plan: ExitPlan) -> list[dict[str, Any]]:
    """Returns a row per exit point: its number, rule and thresholds, and its metrics on the measured images.

    `means_TBK` are the read-outs of all images, in the order of the meter's passes.
    """
    certainty_TB, correct_TB = rule_of(plan.rule).certainty(means_TBK), means_TBK.argmax(2) == labels
    calibration, measured = halves(labels, plan.split_seed)
    calibrated: dict[str, Any] = {"calibration_images": len(calibration)} if plan.split_seed is not None else {}
    rows: list[tuple[int, Thresholds, dict[str, Any]]] = []
    if plan.thresholds is not None:
        rows += [(number, thresholds, {}) for number, thresholds in plan.thresholds.items()]
    elif len(calibration) and len(measured):
        for point in calibrate(
            certainty_TB[:, calibration],
            correct_TB[:, calibration],
            plan.settings.points,
            by_step=plan.settings.by_step,
        ):
            outcome = {"calibrated_accuracy": point.accuracy, "calibrated_steps": point.steps}
            rows.append((point.number, point.thresholds, outcome))
    return [
        {
            "read_step": len(means_TBK),
            "exit": number,
            "exit_rule": plan.rule,
            "exit_threshold": list(thresholds) if isinstance(thresholds, list | tuple) else thresholds,
            **_measured(exit_steps(certainty_TB, thresholds), means_TBK, labels, measured, meter, plan.rule),
            **calibrated,
            **outcome,
        }
        for number, thresholds, outcome in rows
    ]


def _measured(
    steps: Tensor, means_TBK: Tensor, labels: Tensor, measured: Tensor, meter: Meter, rule: str
) -> dict[str, float]:
    """Returns the metrics of the measured images, each read at its own step."""
    steps, labels = steps[measured], labels[measured]
    logits = means_TBK[steps - 1, measured]
    last = len(means_TBK)
    decisions = float(steps.clamp(max=last - 1).double().mean())
    return {
        "steps": float(steps.double().mean()),
        "accuracy": 100.0 * float((logits.argmax(1) == labels).double().mean()),
        "chance": chance_level(labels.cpu().bincount().tolist()),
        "loss": float(F.cross_entropy(logits, labels, reduction="none").double().mean()),
        **meter.exit_totals(steps, measured, decision_macs(rule, means_TBK.shape[2], decisions)),
        "images": len(measured),
    }


def halves(labels: Tensor, split_seed: int | None) -> tuple[Tensor, Tensor]:
    """Returns the positions of the images to calibrate on and to measure on, half of each class by the seed."""
    every = torch.arange(len(labels), device=labels.device)
    if split_seed is None:
        return every[:0], every
    chosen = torch.from_numpy(stratified(labels.cpu().numpy(), 0.5, split_seed)).to(labels.device)
    is_calibration = torch.zeros_like(labels, dtype=torch.bool)
    is_calibration[chosen] = True
    return every[is_calibration], every[~is_calibration]
