"""Writes points of a study as train files: python -m results.export runs/S --pick knee|front|best:accuracy|..."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import step_names
from config.files import write_atomic
from results import train_file, weights
from results.command import add_source, guarded, load_source, parse
from results.metrics import METRICS, ResultsError
from results.picks import parse_floors, parse_pick, pick
from results.study import FrontPoint, StudyResult


@dataclass(frozen=True)
class Layout:
    """How files are written: where, in which of the benchmark's forms, and on how much of the data they train."""

    folder: Path
    two_file: bool = False
    full_data: bool = False

    @property
    def era(self) -> step_names.Era:
        """Returns whose spellings the files have."""
        return "two_file" if self.two_file else "head"


@dataclass(frozen=True)
class Export:
    """One train file to be: the texts of its paths (two in the two-file form), what trains it and its values."""

    texts: dict[Path, str]
    command: str
    config: dict[str, Any]

    @property
    def weights(self) -> Path:
        """Returns where the weights go, if they are asked for: beside the file, with its name."""
        return next(iter(self.texts)).with_suffix(".safetensors")


def export(study: StudyResult, points: Sequence[FrontPoint], layout: Layout) -> list[Export]:
    """Returns the files of the points, not yet written."""
    return [_export(study, point, layout, alone=len(points) == 1) for point in points]


def write(exports: Sequence[Export], force: bool = False, checkpoints: Sequence[Path] = ()) -> None:
    """Writes all files, or raises ResultsError before the first one if any exists and `force` is not given.

    `checkpoints`, one for each export where there are any, are written as weights beside the train files.
    """
    texts = {path: text for item in exports for path, text in item.texts.items()}
    tensors = {item.weights: source for item, source in zip(exports, checkpoints, strict=False)}
    kept = [str(path) for path in [*texts, *tensors] if path.exists() and not force]
    if kept:
        raise ResultsError(f"{', '.join(kept)}: exists already; give --force to replace it, or another --out")
    for path, source in tensors.items():
        weights.write_weights(source, path)
    for path, text in texts.items():
        write_atomic(path, text)


def train_config(study: StudyResult, point: FrontPoint, full_data: bool = False) -> dict[str, Any]:
    """Returns the train file of a point: its trial's, with `read_step` where the output is read early."""
    config = dict(study.trial(point.trial).config)
    config["read_step"] = point.read_step if point.read_step < int(config.get("step", point.read_step)) else None
    if full_data:
        config["val_fraction"] = 0.0
    return {key: value for key, value in config.items() if value is not None}


def _export(study: StudyResult, point: FrontPoint, layout: Layout, alone: bool) -> Export:
    config = train_config(study, point, layout.full_data)
    written = step_names.spell(config, layout.era)
    paths = _paths(config, point, layout, alone)
    options = ("--model-config", "--train-config") if layout.two_file else ("--config",)
    files = " ".join(f"{option} {shlex.quote(str(path))}" for option, path in zip(options, paths, strict=True))
    command = f"python -m trainers.run {files}"
    header = _header(study, point, command)
    parts = train_file.split(written) if layout.two_file else (written,)
    texts = {path: train_file.render(part, header) for path, part in zip(paths, parts, strict=True)}
    return Export(texts, command, config)


def _paths(config: dict[str, Any], point: FrontPoint, layout: Layout, alone: bool) -> list[Path]:
    family, dataset = (_file_name(str(config[key])) for key in ("model", "dataset"))
    early = f"-r{point.read_step}" if "read_step" in config else ""
    stem = dataset if alone else f"{dataset}-{point.key}{early}"
    folder = layout.folder / (family.split("_")[0] or "_")
    second = ["train.yml" if alone else f"{stem}.train.yml"] if layout.two_file else []
    return [folder / name for name in [f"{stem}.yml", *second]]


def _file_name(text: str) -> str:
    """Returns a name that stays within its folder, whatever stood in the study."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:80] or "_"


def _header(study: StudyResult, point: FrontPoint, command: str) -> list[str]:
    trial = study.trial(point.trial)
    step, done = trial.config.get("step"), f"{trial.num_epochs} of {study.epochs} epochs"
    seeds = f"seed {trial.config.get('seed')}, search seed {study.attrs.get('seed')}"
    measured = ", ".join(f"{name} {point.metrics[name]:.6g}" for name in METRICS if name in point.metrics)
    versions = ", ".join(f"{name} {version}" for name, version in (study.attrs.get("versions") or {}).items())
    lines = [
        f"study {study.name}, trial {point.key} ({trial.state}, {done}), {seeds}",
        f"read after {point.read_step} of {step} steps: {measured or 'not measured'}",
        f"versions: {versions}" if versions else "",
        f"train it: {command}",
    ]
    return [line for line in lines if line]


def _unfinished(study: StudyResult, points: Sequence[FrontPoint]) -> list[str]:
    """Returns a warning for each point of a trial that was not trained to the end."""
    verbs = {"stopped": "was stopped", "running": "is still running", "paused": "is on hold"}
    trials = [study.trial(number) for number in dict.fromkeys(point.trial for point in points)]
    return [
        f"trial {trial.number} {verbs[trial.state]} after {trial.num_epochs} of {study.epochs} epochs"
        for trial in trials
        if trial.state in verbs
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m results.export", description=(__doc__ or "").split(":")[0])
    add_source(parser)
    parser.add_argument("--pick", required=True, help="knee, front, best:METRIC, cheapest:METRIC or trial:N")
    parser.add_argument(
        "--at-least", action="append", default=[], metavar="METRIC=NUMBER", help="only points that reach"
    )
    parser.add_argument("--read-step", type=int, metavar="T", help="export this read-out of the picked trials")
    parser.add_argument("--out", type=Path, help="folder of the files (default: configs in the study's folder)")
    parser.add_argument("--two-file", action="store_true", help="the benchmark's older pair: model file and train file")
    parser.add_argument("--checkpoint", action="store_true", help="write the trial's weights beside it, as safetensors")
    parser.add_argument("--full-data", action="store_true", help="train on all training data: val_fraction 0")
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Loads, picks, writes and prints what the command line asks for."""
    parse_pick(arguments.pick)
    floors = parse_floors(arguments.at_least)
    study, home = load_source(arguments)
    points = pick(study, arguments.pick, floors, arguments.read_step)
    layout = Layout(arguments.out or home / "configs", arguments.two_file, arguments.full_data)
    exports = export(study, points, layout)
    checkpoints = [weights.newest_checkpoint(home, point) for point in points] if arguments.checkpoint else []
    write(exports, arguments.force, checkpoints)
    for line in [*_unfinished(study, points), *step_names.notes([item.config for item in exports], layout.era)]:
        print(f"warning: {line}", file=sys.stderr)
    for item in exports:
        written = [*item.texts, *([item.weights] if checkpoints else [])]
        print(*(f"wrote {path}" for path in written), f"train it: {item.command}", sep="\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 the user's input, 4 the disk or MLflow."""
    arguments = parse(_parser(), argv)
    return guarded(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
