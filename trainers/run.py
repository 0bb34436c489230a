"""Trains one config: `python -m trainers.run --config configs/spikformer/digits.yml`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import cli, interrupts, strict_yaml
from config.cli import CommandError
from config.errors import ConfigError
from config.uris import check_tracking, redact
from trainers import config as train_file
from trainers.config import TrainConfig
from trainers.console import SHOWN, ConsoleProgress, exit_line
from trainers.datasets import DataError, first_line
from trainers.measurement.test_reads import TEST_LOG as TEST_LOG
from trainers.measurement.test_reads import log_test_read
from trainers.optimization.initial_weights import initial_weights_problem, missing_file

if TYPE_CHECKING:
    from models.parts.backbone import SpikingModel
    from trainers.mlflow_store import Tracker

MAX_NAME = 80
FREE_KEYS = frozenset({"data_dir", "device", "workers", "threads", "log_interval", "output"})
"""Keys that may change when a run is resumed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 user's input, 3 training failed, 4 environment)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m trainers.run", description=__doc__)
    parser.add_argument("--config", metavar="FILE", help="the train file, or a recipe's name (spikformer/digits)")
    parser.add_argument("--model-config", metavar="FILE", help="the model half of an older pair of files")
    parser.add_argument("--train-config", metavar="FILE", help="the training half of an older pair of files")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the train file")
    parser.add_argument("--resume", action="store_true", help="continue the newest run of this config")
    parser.add_argument("--test", action="store_true", help="after training, read the test set, once")
    parser.add_argument("--gpus", type=int, metavar="N", help="train on N GPUs of this machine, sharing "
                        "each batch; with device=cpu in N processes")  # fmt: skip
    parser.add_argument("--sync-bn", action="store_true", help="with --gpus: batch norm over the whole batch")
    parser.add_argument("--mlflow", metavar="URI", help="also log the training as an MLflow run")
    cli.add_imports(parser, "registers models or data sets")
    parser.add_argument("--eval", metavar="CHECKPOINT", help="do not train; measure this checkpoint on the test set")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    cli.import_packages(arguments.imports)
    config, name = _load(arguments)
    folder = _run_folder(Path(config.output), name, arguments.resume and arguments.eval is None)
    from trainers.data import check_present
    from trainers.diagnostics.health import TrainingFailure
    from trainers.diagnostics.memory import is_out_of_memory

    try:
        check_present(config)
        if not (arguments.resume or arguments.eval):
            _check_initial_weights(config)
        if arguments.eval is not None:
            return _evaluate(config, Path(arguments.eval))
        return _train(config, folder, arguments)
    except DataError as error:
        raise CommandError(cli.ENVIRONMENT, str(error)) from None
    except TrainingFailure as failure:
        raise CommandError(cli.NOTHING_SUCCEEDED, f"training ended: {failure.failure_class}: {failure}") from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        cause = str(error).partition("\n")[0][:200] or type(error).__name__
        text = f"out of memory; lower batch_size, step or the model's size ({cause})"
        raise CommandError(cli.ENVIRONMENT, text) from None


def _load(arguments: argparse.Namespace) -> tuple[TrainConfig, str]:
    """Returns the config and the name of its run, `<family>-<file>`."""
    if arguments.mlflow is not None:
        try:
            check_tracking(arguments.mlflow)
        except ValueError as error:
            raise ConfigError(f"--mlflow: {error}") from None
    pair = (arguments.model_config, arguments.train_config)
    if (arguments.config is None) == (pair == (None, None)) or (pair != (None, None) and None in pair):
        raise ConfigError("give --config FILE, or both --model-config FILE and --train-config FILE")
    if arguments.gpus is not None and arguments.gpus < 1:
        raise ConfigError(f"--gpus must be >= 1 (got {arguments.gpus})")
    if arguments.sync_bn and arguments.gpus is None:
        raise ConfigError("--sync-bn goes with --gpus N")
    path = train_file.recipe_path(arguments.model_config if arguments.config is None else arguments.config)
    config = train_file.load(path, arguments.train_config, arguments.set)
    if arguments.eval is not None and not Path(arguments.eval).is_file():
        reason = "is a folder, not a checkpoint" if Path(arguments.eval).is_dir() else "no such file"
        raise ConfigError(f"--eval {arguments.eval}: {reason}")
    initial = config.initial_checkpoint
    if not (arguments.resume or arguments.eval) and initial and (problem := missing_file(initial)) is not None:
        raise ConfigError(f"{path}: initial_checkpoint: {problem}")
    return config, re.sub(r"[^A-Za-z0-9._-]+", "_", f"{config.family}-{path.stem}")[:MAX_NAME]


def _check_initial_weights(config: TrainConfig) -> None:
    """Raises ConfigError before the data are read and a folder is made."""
    if (problem := initial_weights_problem(config)) is not None:
        raise ConfigError(f"initial_checkpoint: {problem}")


def _train(config: TrainConfig, folder: Path, arguments: argparse.Namespace) -> int:
    if arguments.resume:
        _check_unchanged(config, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.yml").write_text(strict_yaml.dump_yaml(config.dump()))
    epochs = "1 epoch" if config.epochs == 1 else f"{config.epochs} epochs"
    print(f"training {config.model} on {config.dataset} for {epochs} in {folder}", flush=True)
    checkpoints = folder / "checkpoints"
    tracker = None if arguments.mlflow is None else _tracker(arguments.mlflow, config, folder)
    with ConsoleProgress(config, folder, tracker) as progress:
        try:
            model = _run_training(config, checkpoints, progress, arguments)
        except interrupts.Interrupted:
            print(f"\ninterrupted after epoch {progress.last}; the same command with --resume continues", flush=True)
            raise
    print(f"metrics     {folder / 'metrics.csv'}")
    print(f"checkpoints {checkpoints}")
    if progress.exits:
        print("exits, measured on half of the validation part:", *map(exit_line, progress.exits), sep="\n  ")
    if arguments.test:
        _read_test(model, config, checkpoints, folder, progress.exits)
    return cli.OK


def _run_training(
    config: TrainConfig, folder: Path, progress: ConsoleProgress, arguments: argparse.Namespace
) -> SpikingModel:
    if arguments.gpus is None:
        from trainers.train import train

        return train(config, progress.on_epoch, folder, progress.on_batch, keep_best=True)
    from trainers.distributed.data_parallel import train_distributed

    return train_distributed(
        config, arguments.gpus, folder, progress.on_epoch, sync_bn=arguments.sync_bn, imports=arguments.imports
    )


def _tracker(uri: str, config: TrainConfig, folder: Path) -> Tracker:
    from trainers.mlflow_store import Tracker

    try:
        return Tracker(uri, config, folder)
    except Exception as error:  # an unreachable store raises errors of many types
        text = f"--mlflow {redact(uri)}: cannot be used ({redact(first_line(error))})"
        raise CommandError(cli.ENVIRONMENT, text) from None


def _run_folder(output: Path, name: str, resume: bool) -> Path:
    """Returns the folder of a new run, or of the newest one of that name to be resumed."""
    paths = [path for path in output.glob(f"{name}*") if re.fullmatch(rf"{re.escape(name)}(-\d+)?", path.name)]
    numbers = [int(path.name[len(name) + 1 :] or 1) for path in paths]
    if resume and not numbers:
        raise ConfigError(f"--resume: there is no run {output / name} to resume")
    number = max(numbers, default=0) + (not resume)
    return output / (name if number == 1 else f"{name}-{number}")


def _check_unchanged(config: TrainConfig, folder: Path) -> None:
    """Raises ConfigError if the run in the folder was started with other values."""
    written = strict_yaml.read(folder / "train.yml").data
    fields = TrainConfig.model_fields  # a run of an earlier version lacks newer keys, and had their defaults
    changed = [
        key
        for key, value in config.dump().items()
        if key not in FREE_KEYS and written.get(key, fields[key].default) != value
    ]
    if changed:
        text = f"{folder} was started with another {', '.join(changed)}; leave --resume out to start from scratch"
        raise ConfigError(f"--resume: {text}")


def _evaluate(config: TrainConfig, path: Path) -> int:
    from models import create_model, load_weights, read_weights
    from trainers import checkpoint
    from trainers.train import prepare

    device = prepare(config)
    try:
        weights = read_weights(path, device)
    except ConfigError as error:
        raise ConfigError(f"--eval {error}") from None
    model = create_model(config).to(device)
    try:
        load_weights(model, weights.tensors)
    except ConfigError as error:
        raise ConfigError(f"--eval {path}: holds another model than the config: {error}") from None
    _read_test(model, config, path, Path(config.output), checkpoint.load_exits(path))
    return cli.OK


def _read_test(
    model: SpikingModel, config: TrainConfig, source: Path, folder: Path, exits: Sequence[Mapping[str, Any]]
) -> None:
    """Measures on the test set, prints the metrics, and logs that the test set was read.

    With an exit rule, the thresholds are the config's own, or those of the training's exit points.
    """
    from trainers.train import measure_test

    found = measure_test(model, config, exits)
    metrics = found.metrics
    print("test set:   " + "  ".join(f"{name} {metrics[name]:.5g}" for name in SHOWN))
    print(*(f"  {exit_line(point)}" for point in found.exits), sep="\n", end="\n" if found.exits else "")
    more = {"exits": found.exits} if found.exits else {}
    log_test_read(folder, source, config.dataset, {**metrics, **more})


if __name__ == "__main__":
    sys.exit(main())
