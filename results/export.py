"""Export of points of a study as train files: python -m results.export runs/S --pick knee|front|best:accuracy|..."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import cli, step_names
from config.files import write_atomic
from results import chip, train_file, weights
from results.load import add_study_arguments, load_from_arguments
from results.metrics import METRICS, REQUESTED_METRICS, ResultsError
from results.picks import parse_floors, parse_pick, pick
from results.study import Exit, FrontPoint, StudyResult


@dataclass(frozen=True)
class Layout:
    """Folder and form of the files, and whether they train on all training data."""

    folder: Path
    two_file: bool = False
    full_data: bool = False

    @property
    def era(self) -> step_names.Era:
        """Returns the era of the benchmark whose spellings the files use."""
        return "two_file" if self.two_file else "head"


@dataclass(frozen=True)
class Export:
    """A train file to write: text by path (two paths in the two-file form), training command and config."""

    texts: dict[Path, str]
    command: str
    config: dict[str, Any]

    @property
    def weights(self) -> Path:
        """Returns the path of the weights: beside the train file, with its name."""
        return next(iter(self.texts)).with_suffix(".safetensors")


def export(study: StudyResult, points: Sequence[FrontPoint], layout: Layout) -> list[Export]:
    """Returns the files of the points, not yet written."""
    return [_export(study, point, layout, is_single=len(points) == 1) for point in points]


def write(exports: Sequence[Export], force: bool = False, checkpoints: Sequence[Path] = ()) -> None:
    """Writes all files. Raises ResultsError before the first one if any exists, unless `force` is given.

    A train file that exists with the same text is kept. The weights of `checkpoints`, empty or one for each export, are
    written beside the train files.
    """
    texts = {path: text for item in exports for path, text in item.texts.items()}
    tensors = {item.weights: source for item, source in zip(exports, checkpoints, strict=False)}
    changed = [path for path, text in texts.items() if path.exists() and path.read_bytes() != text.encode()]
    existing = [str(path) for path in [*changed, *(path for path in tensors if path.exists())]]
    if existing and not force:
        raise ResultsError(f"{', '.join(existing)}: exists already; give --force to replace it, or another --out")
    for path, source in tensors.items():
        weights.write_weights(source, path)
    for path, text in texts.items():
        write_atomic(path, text)


def train_config(study: StudyResult, point: FrontPoint, full_data: bool = False) -> dict[str, Any]:
    """Returns the config of a point: its trial's, with `read_step` or the exit rule if images are read early."""
    exits = None if point.exit is None else point.exit.keys
    config = train_file.read_out_config(study.trial(point.trial).config, point.read_step, exits)
    if not full_data:
        return config
    return {key: value for key, value in config.items() if key != "train_images"} | {"val_fraction": 0.0}


def _export(study: StudyResult, point: FrontPoint, layout: Layout, is_single: bool) -> Export:
    config = train_config(study, point, layout.full_data)
    written = step_names.spell(config, layout.era)
    paths = _paths(config, point, layout, is_single)
    command = train_file.command(paths)
    header = _header(study, point, command)
    parts = train_file.split(written) if layout.two_file else (written,)
    texts = {path: train_file.render(part, header) for path, part in zip(paths, parts, strict=True)}
    return Export(texts, command, config)


def _paths(config: dict[str, Any], point: FrontPoint, layout: Layout, is_single: bool) -> list[Path]:
    single = layout.folder / train_file.path(config)
    early = f"-r{point.read_step}" if "read_step" in config else f"-e{point.exit.number}" if point.exit else ""
    first = single if is_single else single.with_name(f"{single.stem}-{point.key}{early}.yml")
    second = "train.yml" if is_single else f"{first.stem}.train.yml"
    return [first, first.with_name(second)] if layout.two_file else [first]


def _header(study: StudyResult, point: FrontPoint, command: str) -> list[str]:
    trial = study.trial(point.trial)
    step, done = trial.config.get("step"), f"{trial.num_epochs} of {study.epochs} epochs"
    seeds = f"seed {trial.config.get('seed')}, search seed {study.attrs.get('seed')}"
    own = next((p for p in trial.points() if p.read_out == point.read_out), point)  # not the mean over seeds
    metrics = {**point.metrics, **own.metrics}
    names = (*METRICS, *REQUESTED_METRICS)
    measured = ", ".join(f"{name} {metrics[name]:.6g}" for name in names if name in metrics)
    versions = ", ".join(f"{name} {version}" for name, version in (study.attrs.get("versions") or {}).items())
    lines = [
        f"study {study.name}, trial {point.key} ({trial.state}, {done}), {seeds}",
        f"read after {point.read_step} of {step} steps: {measured or 'not measured'}",
        _exit_text(trial.config, point.exit) if point.exit else "",
        f"mean over seeds: {seeds_text}" if (seeds_text := point.describe_seeds(names)) else "",
        f"versions: {versions}" if versions else "",
        f"train it: {command}",
    ]
    return [line for line in lines if line]


def _exit_text(config: dict[str, Any], found: Exit) -> str:
    """Returns how an exit point was calibrated and measured."""
    calibration, images, accuracy, steps = (f"{found.details[name]:g}" if name in found.details else "?" for name in (
        "calibration_images", "images", "calibrated_accuracy", "calibrated_steps"
    ))  # fmt: skip
    return (
        f"images exit by {found}: calibrated on {calibration} images of the validation part (split_seed"
        f" {config.get('split_seed')}), with accuracy {accuracy} after {steps} steps; measured on the other {images}"
    )


def _unfinished(study: StudyResult, points: Sequence[FrontPoint]) -> list[str]:
    """Returns a warning for each trial that was not trained to full fidelity."""
    verbs = {"stopped": "was stopped", "running": "is still running", "paused": "is on hold"}
    trials = [study.trial(number) for number in dict.fromkeys(point.trial for point in points)]
    return [
        f"trial {trial.number} {verbs[trial.state]} after {trial.num_epochs} of {study.epochs} epochs"
        for trial in trials
        if trial.state in verbs
    ]


def _benchmark_warnings(study: StudyResult, exports: Sequence[Export], layout: Layout) -> list[str]:
    """Returns what the benchmark's code does not support: all of it for its older form, else only lost values."""
    configs = [item.config for item in exports]
    if layout.two_file:
        return step_names.compatibility_warnings(configs, layout.era)
    return step_names.lost_values(configs, study.searched)


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m results.export", description="Writes points of a study as train files.")
    add_study_arguments(parser)
    parser.add_argument("--pick", required=True, help="knee, front, best:METRIC, cheapest:METRIC or trial:N")
    parser.add_argument("--at-least", action="append", default=[], metavar="METRIC=NUMBER", help="minimum of a metric")
    parser.add_argument("--read-step", type=int, metavar="T", help="export this read-out of the picked trials")
    parser.add_argument("--exit", type=int, metavar="N", help="export this exit point of the picked trials")
    parser.add_argument("--out", type=Path, help="output folder (default: configs in the study's folder)")
    parser.add_argument("--two-file", action="store_true", help="write the benchmark's older pair of files")
    parser.add_argument("--checkpoint", action="store_true", help="also write the trial's weights as safetensors")
    parser.add_argument("--chip", type=Path, metavar="DIR", help="also write the trial's network in integers, with a "
                        "report, into this folder")  # fmt: skip
    parser.add_argument("--bits", type=int, metavar="N", help="--chip: width of the weights, 4 to 16 (default 8)")
    parser.add_argument(
        "--full-data", action="store_true", help="train on all training data: val_fraction 0, no train_images"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Loads the study, picks points, writes their files, and prints paths and training commands."""
    parse_pick(arguments.pick)
    floors = parse_floors(arguments.at_least)
    study, home = load_from_arguments(arguments)
    points = pick(study, arguments.pick, floors, arguments.read_step, arguments.exit)
    layout = Layout(arguments.out or home / "configs", arguments.two_file, arguments.full_data)
    exports = export(study, points, layout)
    found = [weights.latest_checkpoint(home, point) for point in points] if needs_weights(arguments) else []
    folders = chip.folders(arguments.chip, [next(iter(item.texts)) for item in exports]) if arguments.chip else []
    if not arguments.force:
        chip.refuse_existing(folders)
    checkpoints = found if arguments.checkpoint else []
    write(exports, arguments.force, checkpoints)
    for line in [*_unfinished(study, points), *_benchmark_warnings(study, exports, layout)]:
        print(f"warning: {line}", file=sys.stderr)
    for item in exports:
        written = [*item.texts, *([item.weights] if checkpoints else [])]
        print(*(f"wrote {path}" for path in written), f"train it: {item.command}", sep="\n", flush=True)
    for item, checkpoint, folder in zip(exports, found, folders, strict=False):
        options = [] if arguments.bits is None else ["--bits", str(arguments.bits)]
        chip.run(checkpoint, next(iter(item.texts)), folder, options)
    return cli.OK


def needs_weights(arguments: argparse.Namespace) -> bool:
    """Returns whether weights are exported too. Raises ResultsError for options that do not fit together."""
    if arguments.bits is not None and arguments.chip is None:
        raise ResultsError("--bits is of --chip DIR")
    if arguments.chip is not None and arguments.two_file:
        raise ResultsError("--chip reads a single train file; leave out --two-file")
    return bool(arguments.checkpoint or arguments.chip)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong input, 4 disk or MLflow."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
