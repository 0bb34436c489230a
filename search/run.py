"""Runs or resumes a search, logs it and prints its Pareto front: `python -m search.run spaces/quickstart.yml`."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import gc
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from config import cli
from config.cli import add_cluster
from config.errors import ConfigError
from config.uris import redact
from search.driver import RunOptions, run_in_folder
from search.execution import batching
from search.space import reader
from search.space.schema import check_name
from search.space.space import Space


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command. Returns 0 (done), 2 (user's input), 3 (no success), 4 (environment) or 5 (locked)."""
    arguments = _parser().parse_args(argv)
    resume_command = "python -m search.run " + shlex.join(map(redact, sys.argv[1:] if argv is None else argv))
    return cli.run(lambda: _main(arguments, resume_command))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.run", description=__doc__)
    parser.add_argument("space", metavar="SPACE.yml", help="the space file")
    parser.add_argument("--name", help="name of the study, instead of the file's")
    parser.add_argument("--trials", type=int, metavar="N", help="trials to start, instead of the file's budget.trials")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of one full training, instead of budget.epochs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a value of the space file")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder that holds the studies")
    add_cluster(parser)
    parser.add_argument("--system-metrics", action="store_true", help="log the load of this machine in MLflow: CPU, "
                        "memory, disk, network, GPUs")  # fmt: skip
    parser.add_argument("--finish", action="store_true", help="start no new trials, but train the paused ones on the "
                        "first fronts of an existing study to the end, whatever its budget")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show what would be searched, without writing anything")
    cli.add_imports(parser, "registers models or data sets")
    return parser


def _main(arguments: argparse.Namespace, resume_command: str) -> int:
    cli.import_packages(arguments.imports)
    space = load_space(arguments)
    if arguments.finish and arguments.dry_run:
        raise ConfigError("--finish: trains trials, and --dry-run writes nothing; give one of them")
    fuse_line = batching.description(space)
    if arguments.dry_run:
        from search.dry_run import report

        for line in report.lines(space, space.settings.concurrency):
            print(line, flush=True)
        if space.settings.fuse != 1:
            print(fuse_line)
        return cli.OK
    options = RunOptions(
        arguments.out,
        arguments.address,
        resume_command,
        tuple(arguments.imports),
        arguments.insecure_cluster,
        arguments.system_metrics,
        arguments.finish,
        resume_command if arguments.finish else f"{resume_command} --finish",
    )
    return run_in_folder(space, options)


def load_space(arguments: argparse.Namespace) -> Space:
    overrides = list(arguments.set)
    if arguments.name is not None:
        try:
            check_name(arguments.name)
        except ValueError as error:
            raise ConfigError(f"--name: {error}") from None
        overrides.append(f"study={json.dumps(arguments.name)}")  # quoted: a name may look like a number
    budget = {"trials": arguments.trials, "epochs": arguments.epochs}
    overrides += [f"budget.{key}={value}" for key, value in budget.items() if value is not None]
    return reader.load(arguments.space, overrides)


if __name__ == "__main__":
    code = main()
    gc.freeze()  # without a last collection, which takes the interpreter 1.5 s at exit (0.07 s with this line)
    sys.exit(code)
