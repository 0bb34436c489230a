"""Queues a config to run next, by its values of the searched keys: `python -m search.add runs/quickstart my.yml`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from config import cli, strict_yaml
from config.errors import ConfigError
from config.messages import unknown_key
from results.folder import SPACE_FILE, check_study
from search.space import reader
from search.space.space import Space
from search.storage.requests import ControlRequest, send_and_wait
from trainers import config as train_file
from trainers.config import TrainConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    parser = cli.Parser(prog="python -m search.add", description=__doc__)
    cli.add_folder(parser)
    parser.add_argument("file", metavar="FILE", help="values of all searched keys, a train file, or a recipe's name")
    cli.add_imports(parser, "the study was started with")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _main(arguments: argparse.Namespace) -> int:
    cli.import_packages(arguments.imports)
    check_study(arguments.folder)
    space = reader.load(str(arguments.folder / SPACE_FILE))
    print(send_and_wait(arguments.folder, ControlRequest("add", values=read_values(space, arguments.file))))
    return cli.OK


def read_values(space: Space, name: str) -> dict[str, Any]:
    """Returns the values of the searched keys in a file. Raises ConfigError if they are not a point of the space."""
    path = train_file.recipe_path(name)
    document = strict_yaml.read(path, tolerant=True)
    found = document.data
    if "model" in found:  # a train file: keys that it lacks have a default
        found = train_file.load(path).dump()
    else:
        unknown = [key for key in found if key not in TrainConfig.model_fields]
        problems = [document.problem((key,), unknown_key(key, TrainConfig.model_fields)) for key in unknown]
        others = [key for key in found if key not in unknown and key not in space.searched_keys()]
        problems += [document.problem((key,), "is not searched in this study; leave it out") for key in others]
        document.refuse(problems)
    try:
        values = space.values_of(found)
        space.feasible_config(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return values


if __name__ == "__main__":
    sys.exit(main())
