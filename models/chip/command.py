"""Export of a model: its graph in integers as files, with a report. `python -m models.chip` is the command."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config import cli, step_names, strict_yaml
from config.datasets import DATASETS, EVENTS, pixel_range
from config.errors import ConfigError
from config.files import write_atomic
from models.train_file import file_beside, read_model

if TYPE_CHECKING:
    from models.chip.graph import Graph
    from models.chip.report import Measured
    from models.parts.backbone import SpikingModel

WITHOUT_NIR = "net.nir is not written: it needs the package nir (pip install 'spiking-search[chip]')"


@dataclass(frozen=True)
class Loaded:
    """A model with its weights, and what its train file says about its input."""

    model: SpikingModel
    is_events: bool
    input_range: tuple[float, float] | None
    """Of normalised pixels."""


def add_options(parser: cli.Parser) -> None:
    """Adds the arguments that the commands of an export share."""
    parser.add_argument("checkpoint", type=Path, help="weights in any wrapping: .pt, .pth, .safetensors")
    parser.add_argument("--config", type=Path, metavar="F", help="train file (default: the one beside the weights)")
    parser.add_argument("--bits", type=int, default=8, metavar="N", help="width of the weights, 4 to 16 (default 8)")
    parser.add_argument("--membrane-bits", type=int, metavar="N", help="width of the membranes (default: 24, or bits + "
                        "16 if that is more)")  # fmt: skip
    parser.add_argument("--input-bits", type=int, default=8, metavar="N", help="width of the pixels (default 8)")
    parser.add_argument("--out", type=Path, default=Path("chip"), metavar="DIR", help="output folder (default: chip)")
    cli.add_imports(parser, "registers models or data sets")


def config_path(checkpoint: Path, given: Path | None) -> Path:
    """Returns the train file of a checkpoint. Raises ConfigError if there is none."""
    path = given or file_beside(checkpoint)
    if path is None:
        raise ConfigError(f"{checkpoint}: give --config FILE: there is no train file beside the weights")
    return path


def load(checkpoint: Path, config: Path) -> Loaded:
    """Returns the model of a train file with the weights of a checkpoint. Raises ConfigError."""
    from models import create_model, load_weights, read_weights

    document = strict_yaml.read(config, tolerant=True)
    keys = read_model(document)
    tensors = read_weights(checkpoint).tensors
    model = create_model(keys).eval()
    try:
        load_weights(model, tensors)
    except ConfigError as error:
        raise ConfigError(f"{checkpoint}: does not fit {config}: {error}") from None
    if keys.exit_rule is not None:
        warnings.warn(f"{config}: exit_rule has no effect in a graph, which runs all steps", stacklevel=2)
    name = str(document.data.get("dataset"))
    name = step_names.DATASET_ALIASES.get(name, name)
    is_events = name in EVENTS
    plain = is_events or keys.encoding != "direct"
    return Loaded(model, is_events, None if plain else input_range(document.data, name))


def input_range(data: Mapping[str, Any], dataset: str) -> tuple[float, float]:
    """Returns the range of pixels 0..1 that are normalised by the mean and std of a train file, or of its data set."""
    defaults = DATASETS.get(dataset, {})
    mean, std = (
        _floats(data.get(key, defaults.get(key, default))) for key, default in (("mean", (0.0,)), ("std", (1.0,)))
    )
    return pixel_range(mean, std)


def _floats(values: Any) -> list[float]:
    return [float(value) for value in (values if isinstance(values, list | tuple) else [values])]


def lower_loaded(loaded: Loaded) -> Graph:
    """Returns the model's graph in float64. Raises ConfigError for what a graph cannot express."""
    import torch

    from models.chip.lowering import lower

    config = loaded.model.config
    size = (config.in_channels, config.img_size, config.img_size)
    return lower(loaded.model, torch.zeros(config.step, *size) if loaded.is_events else torch.zeros(size))


def write(graph: Graph, folder: Path, measured: Measured) -> list[Path]:
    """Writes an integer graph's files and its report into a folder, and returns their paths."""
    from models.chip import files, report

    paths = files.write(graph, folder)
    if find_spec("nir") is not None:
        from models.chip import nir_file

        paths.append(folder / "net.nir")
        custom = nir_file.write(graph, paths[-1])
        text = f"{len(custom)} nodes have no type in NIR and are custom"
        measured.facts["net.nir"] = (
            f"{text}: read it with type_check=False" if custom else "all nodes have types in NIR"
        )
    found = report.rows(graph, measured)
    for name, text in (("report.csv", report.csv_text(found)), ("report.md", report.page(graph, found, measured))):
        write_atomic(folder / name, text)
        paths.append(folder / name)
    return paths


def announce(paths: Sequence[Path]) -> None:
    """Prints what was written, and why net.nir was not."""
    print(*(f"wrote {path}" for path in paths), sep="\n")
    if find_spec("nir") is None:
        print(WITHOUT_NIR)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 done, 2 wrong input, 4 disk."""
    parser = cli.Parser(prog="python -m models.chip", description="Exports a model to integers, without measuring it; "
                        "python -m trainers.measurement.chip measures it too.")  # fmt: skip
    add_options(parser)
    arguments = parser.parse_args(argv)

    def run() -> int:
        cli.import_packages(arguments.imports)
        config = config_path(arguments.checkpoint, arguments.config)
        from models.chip.quantize import Precision, quantize
        from models.chip.report import Measured

        precision = Precision.of_weights(arguments.bits, arguments.membrane_bits, arguments.input_bits)
        loaded = load(arguments.checkpoint, config)
        integer = quantize(lower_loaded(loaded), precision, loaded.input_range)
        announce(write(integer, arguments.out, Measured()))
        return cli.OK

    return cli.run(run)
