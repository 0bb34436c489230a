"""Measures weights on the test set: accuracy, spikes, operations and energy, by layer.

`python -m trainers.measure CHECKPOINT --model NAME` reads checkpoints of this trainer, exports, and released weights.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import cli
from config.cli import CommandError
from config.errors import ConfigError
from config.files import write_atomic
from models.train_file import file_beside
from trainers.config import TrainConfig
from trainers.datasets import DataError
from trainers.measurement import settings
from trainers.measurement.settings import Settings
from trainers.measurement.table import Measured

if TYPE_CHECKING:
    from models.published.weights_file import Weights

RULES = {"energy_mj": "4.6 pJ x macs + 0.9 pJ x synops", "energy_published_mj": "by the published rule"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong input, 4 missing data or disk."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m trainers.measure", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="weights in any wrapping: .pt, .pth, .safetensors")
    parser.add_argument("--model", metavar="NAME", help="the model, if no train file is given or beside the weights")
    parser.add_argument("--config", metavar="FILE", help="the train file, or a recipe's name (spikformer/cifar10)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the train file")
    parser.add_argument("--data-dir", metavar="D", help="the folder that holds the data set's files")
    parser.add_argument("--images", type=int, metavar="N", help="measure on N test images, of each class in proportion")
    parser.add_argument("--csv", type=Path, metavar="F", help="write the table of layers")
    parser.add_argument("--json", type=Path, metavar="F", help="write all results")
    parser.add_argument("--report", type=Path, metavar="F", help="write a report as one HTML file")
    cli.add_imports(parser, "registers models or data sets")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    cli.import_packages(arguments.imports)
    if arguments.images is not None and arguments.images < 1:
        raise ConfigError(f"--images must be >= 1 (got {arguments.images})")
    model = settings.check_model(arguments.model)
    path, file = arguments.checkpoint, _train_file(arguments, model)
    if not path.is_file():
        raise ConfigError(f"{path}: {'is a folder, not a weights file' if path.is_dir() else 'no such file'}")
    overrides = [
        *arguments.set,
        *([] if arguments.data_dir is None else [f"data_dir={json.dumps(arguments.data_dir)}"]),
    ]
    chosen = None if file is None else settings.from_file(file, model, overrides)

    from models import read_weights

    weights = read_weights(path)
    if chosen is None:
        assert model is not None
        chosen = settings.from_weights(model, weights.tensors, overrides)
    try:
        measured = measure(path, weights, chosen, arguments.images)
    except DataError as error:
        text = "spikes and energy depend on the images, so they are measured on the test set only"
        raise CommandError(cli.ENVIRONMENT, f"{error}; {text}") from None
    _print(measured)
    _write(measured, arguments)
    return cli.OK


def _train_file(arguments: argparse.Namespace, model: str | None) -> Path | None:
    from trainers.config import recipe_path

    if arguments.config is not None:
        return recipe_path(arguments.config)
    beside = file_beside(arguments.checkpoint)
    if beside is None and model is None:
        raise ConfigError("give --model NAME, or --config FILE: there is no train file beside the weights")
    return beside


def measure(path: Path, weights: Weights, chosen: Settings, images: int | None = None) -> Measured:
    """Measures weights on the test set, or on some of its images, and logs the read.

    Raises ConfigError if they do not fit the model, and DataError if the data set is missing.
    """
    from models import count_parameters
    from trainers.data import check_present, load_test
    from trainers.data.split import stratified_sample
    from trainers.measurement.table import with_both_energies
    from trainers.measurement.test_reads import log_test_read
    from trainers.train import measure as measure_on
    from trainers.train import prepare

    config = chosen.config.model_copy(update={"energy_rule": "published"})
    model = _build(path, weights, chosen).to(prepare(config))
    check_present(config)
    data = load_test(config)
    whole = len(data)
    if images is not None and images < whole:
        data = data.take(stratified_sample(data.labels.numpy(), images, config.split_seed))
    found = measure_on(model, config, data)
    metrics = {**with_both_energies(found.metrics), "params_m": count_parameters(model) / 1e6}
    log = log_test_read(Path(config.output), path, config.dataset, {**metrics, "images": len(data)})
    facts = {
        "weights": f"{path}{f' ({weights.wrapping})' if weights.wrapping else ''}",
        "config": chosen.source,
        "model": f"{config.model}, {metrics['params_m']:.4g} M parameters, {_neurons(config)}",
        "data": f"{config.dataset}, {len(data):,} of {whole:,} test images (read logged in {log})",
    }
    read_outs, layers = ([with_both_energies(row) for row in rows] for rows in (found.read_outs, found.layers))
    return Measured(facts, metrics, read_outs, layers)


def _build(path: Path, weights: Weights, chosen: Settings) -> Any:
    from models import create_model, load_weights

    model = create_model(chosen.config)
    try:
        load_weights(model, weights.tensors)
    except ConfigError as error:
        remedy = "give the keys of its model with --config FILE or --set KEY=VALUE (node_type, quant_bits, step, ...)"
        raise ConfigError(f"{path}: does not fit {chosen.config.model} ({chosen.source}): {error}; {remedy}") from None
    return model


def _neurons(config: TrainConfig) -> str:
    heads = f"num_heads {config.num_heads}"
    return f"{config.node_type}, step {config.step}, read after {config.read_step}, {heads}"


def _print(measured: Measured) -> None:
    from trainers.measurement import table

    for key, value in measured.facts.items():
        print(f"{key:11} {value}")
    print()
    for key in ("accuracy", "loss", "spike_rate", "spikes", "synops", "macs"):
        print(f"{key:11} {table.shown(measured.metrics[key])}{' %' if key == 'accuracy' else ''}")
    for key, rule in RULES.items():
        print(f"{'energy':11} {measured.metrics[key]:.4g} mJ, {rule}")
    print()
    if len(measured.read_outs) > 1:
        print(*table.aligned(measured.read_outs, table.READ_OUT_COLUMNS), "", sep="\n")
    rows = [*measured.layers, table.total(measured.layers, measured.metrics)]
    print(*table.aligned(rows, table.LAYER_COLUMNS), sep="\n")


def _write(measured: Measured, arguments: argparse.Namespace) -> None:
    from trainers.measurement import page, table

    whole = table.total(measured.layers, measured.metrics)
    texts: list[tuple[Path | None, Callable[[], str]]] = [
        (arguments.csv, lambda: table.csv_text([*measured.layers, whole], table.LAYER_COLUMNS)),
        (arguments.json, lambda: json.dumps(vars(measured), indent=1) + "\n"),
        (arguments.report, lambda: page.page(arguments.checkpoint.name, _summary(measured), measured, whole)),
    ]
    for path, text in texts:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text())
            print(f"wrote {path}")


def _summary(measured: Measured) -> dict[str, str]:
    energies = {f"energy ({rule})": f"{measured.metrics[key]:.4g} mJ" for key, rule in RULES.items()}
    return {**measured.facts, "accuracy": f"{measured.metrics['accuracy']:.2f} %", **energies}


if __name__ == "__main__":
    sys.exit(main())
