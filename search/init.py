"""Writes a space file to start from: `python -m search.init my.yml --base spikformer/digits --search neuron,timestep`.

On a terminal, the command asks for missing options; elsewhere they take their defaults.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config import cli, strict_yaml
from config.errors import ConfigError, did_you_mean
from config.files import write_atomic
from config.messages import describe
from models import registry
from results.metrics import METRICS
from search.space import reader
from search.space.schema import BudgetSettings, Resources, check_name
from trainers import config as train_file
from trainers.config import RECIPES, TrainConfig

Answer = TypeVar("Answer")

SCHEMA = Path(__file__).parents[1] / "docs" / "schema" / "space.schema.json"

TEMPLATE = Template("""\
# $file: $groups: what is best for $model on $dataset?
# yaml-language-server: $$schema=$schema
study: $study
base: $base  # keys that are not named below keep this recipe's values
objectives: {$objectives}  # the front holds the best trade-offs between them
space:  # uniform, log_uniform, int, log_int or choice; see docs/space-file.md
$space
# constraints: {params_m: {max: 10}}  # refused before any training
${start_with}budget: {trials: $trials, epochs: $epochs}  # epochs: one full training
scheduler: {name: moasha, grace_epochs: $grace, reduction_factor: 3}  # a third passes each rung
resources: {cpu: 1, gpu: $gpu}  # of one trial; 0.25 lets four share a GPU
seed: 0
""")

SPACE = """\
neuron: membrane time constant, thresholds and surrogate gradient
  tau: {uniform: [1.1, 4.0]}
  threshold: {uniform: [0.5, 2.0]}
  attn_threshold: {uniform: [0.25, 1.0]}
  alpha: {log_uniform: [1, 16]}
node: kind of neuron; tau is under those that have it
  node_type: {choice: {LIFNode: {tau: {uniform: [1.1, 4.0]}}, PLIFNode: {tau: {uniform: [1.1, 4.0]}}, \
KLIFNode: {tau: {uniform: [1.1, 4.0]}}, IFNode: }}
timestep: timesteps of the training
  step: {choice: $step}
attention: attention of the blocks
  attn_layer: {choice: $attn_layer}
size: number of blocks and width
  depths: {int: $depths}
  embed_dim: {choice: $embed_dim}
training: learning rate and weight decay
  lr: {log_uniform: $lr}
  weight_decay: {log_uniform: [0.003, 0.3]}
"""
"""The groups of `--search`, each with its description and its keys."""

GROUPS = {name: part.splitlines() for name, part in re.findall(r"^(\w+): (.*(?:\n  .*)+)", SPACE, re.MULTILINE)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.init", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the space file to write, such as spaces/my.yml")
    parser.add_argument("--base", metavar="RECIPE", help="a shipped recipe or a train file (spikformer/digits)")
    groups = "; ".join(f"{name}: {GROUPS[name][0]}" for name in GROUPS)
    parser.add_argument("--search", metavar="GROUPS", help=f"groups of searched keys, separated by commas ({groups})")
    parser.add_argument("--objectives", metavar="METRICS", help="metrics, separated by commas (accuracy,spike_rate)")
    parser.add_argument("--trials", metavar="N", help="trials to start (30)")
    parser.add_argument("--epochs", metavar="N", help="epochs of a full training (those of the base)")
    parser.add_argument("--gpu", metavar="SHARE", help="share of a GPU that a trial takes, 0 for the CPU (0)")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    if path.exists() and not arguments.force:
        raise ConfigError(f"{path}: exists; give another name, or --force to replace it")
    try:
        check_name(path.stem)
    except ValueError as error:
        raise ConfigError(f"{path}: the name {error}") from None
    write_atomic(path, _text(path, arguments))
    print(f"{path}: written; next:\n  python -m search.run {shlex.quote(str(path))} --dry-run")
    return cli.OK


def _text(path: Path, arguments: argparse.Namespace) -> str:
    """Returns the text of the space file. Raises ConfigError, also if no requested key can be searched."""
    base = _base(arguments.base)
    config = train_file.load(train_file.recipe_path(base))
    groups = _groups(arguments.search, config)
    values = {
        **_answers(arguments, config),
        "file": path,
        "groups": ", ".join(groups),
        "model": config.model,
        "dataset": config.dataset,
        "schema": os.path.relpath(SCHEMA, path.parent.absolute()),
        "study": path.stem if isinstance(strict_yaml.plain_value(path.stem), str) else json.dumps(path.stem),
        "base": base,
        "space": "\n".join(_searched(groups, config)),
    }
    text = TEMPLATE.substitute(values, start_with=f"start_with: [{base}]  # runs first\n")
    space = reader.read(strict_yaml.parse(text, str(path)))
    is_point = all(problem is None for _, _, problem in space.initial_configs)
    return text if is_point else TEMPLATE.substitute(values, start_with="")


def _base(name: str | None) -> str:
    recipes = sorted(f"{path.parent.name}/{path.stem}" for path in RECIPES.glob("*/*.yml"))
    families = ", ".join(dict.fromkeys(f"{recipe.partition('/')[0]}/..." for recipe in recipes))

    def check(text: str) -> str:
        if not train_file.recipe_path(text).exists():
            listed = did_you_mean(text, recipes) or f" There are: {', '.join(recipes)}"
            raise ConfigError(f"--base {text}: no such recipe or file.{listed}")
        train_file.load(train_file.recipe_path(text))
        return text

    return _answer(name, f"recipe to start from ({families})", "spikformer/digits", check)


def _groups(names: str | None, config: TrainConfig) -> list[str]:
    def check(text: str) -> list[str]:
        groups = _names("--search", text, GROUPS)
        if not any(_searched(groups, config)):
            raise ConfigError(f"--search {','.join(groups)}: {config.model} has none of these keys as one value")
        return groups

    if names is None and sys.stdin.isatty():
        print(*(f"  {name}: {GROUPS[name][0]}" for name in GROUPS), sep="\n")
    return _answer(names, "what to search", "neuron,timestep,training", check)


def _answers(arguments: argparse.Namespace, config: TrainConfig) -> dict[str, Any]:
    metrics = _answer(
        arguments.objectives,
        f"objectives ({', '.join(METRICS)})",
        "accuracy,spike_rate",
        lambda text: _names("--objectives", text, METRICS),
    )
    trials = _answer(arguments.trials, "trials", "30", lambda text: _budget("trials", text))
    default = str(config.epochs)
    epochs = _answer(arguments.epochs, "epochs of a full training", default, lambda text: _budget("epochs", text))
    gpu = _answer(arguments.gpu, "share of a GPU a trial takes", "0", lambda text: _checked("gpu", text, Resources))
    directions = ", ".join(f"{name}: {METRICS[name].direction}" for name in metrics)
    grace = max(epochs // 9, 1)
    return {"objectives": directions, "trials": trials, "epochs": epochs, "grace": grace, "gpu": f"{gpu:g}"}


def _budget(key: str, text: str) -> int:
    return int(_checked(key, text, BudgetSettings, epochs=1, trials=1))


def _checked(key: str, text: str, section: type[BaseModel], **others: int) -> Any:
    """Returns the value of a key in a section of the space file. Raises ConfigError with the option of its name."""
    try:
        return getattr(section.model_validate({**others, key: strict_yaml.plain_value(text)}), key)
    except ValidationError as error:
        raise ConfigError(f"--{key}: {describe(error.errors(include_url=False))}") from None


def _answer(given: str | None, question: str, default: str, check: Callable[[str], Answer]) -> Answer:
    """Returns the checked option; if it is missing, the checked answer on a terminal, and the default elsewhere.

    A wrong answer is explained, and the question is asked again.
    """
    if given is not None or not sys.stdin.isatty():
        return check(default if given is None else given)
    while True:
        try:
            return check(input(f"{question} [{default}]: ").strip() or default)
        except ConfigError as error:
            print(str(error).split(": ", 1)[-1])
        except EOFError:
            return check(default)


def _names(flag: str, text: str, known: Iterable[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{flag}: {name} is not one of {', '.join(known)}.{did_you_mean(name, known)}".rstrip(".")
            )
    if not names:
        raise ConfigError(f"{flag}: must name at least one of {', '.join(known)} (got {text!r})")
    return names


def _searched(groups: Iterable[str], config: TrainConfig) -> Iterator[str]:
    """Yields the lines of `space`, without the keys that the model and the neuron lack or that have no single value."""
    values = _ranges(config)
    left_out = registry.lacking(config.model, config.node_type) | ({"tau"} if "node" in groups else set())
    for name in dict.fromkeys(groups):
        description, *lines = GROUPS[name]
        keys = {line.split(":")[0].strip(): line for line in lines}
        found = {key: line for key, line in keys.items() if key not in left_out and ("$" not in line or key in values)}
        if found:
            yield f"  # {description}"
        yield from (Template(line).substitute(values) for line in found.values())


def _ranges(config: TrainConfig) -> dict[str, Any]:
    """Returns the ranges and options around the base's values, for keys that have a single value there."""
    ranges: dict[str, Any] = {
        "step": sorted({*(t for t in (1, 2, 4) if t <= config.step), config.step}),
        "lr": f"[{config.lr / 4:.2g}, {config.lr * 4:.2g}]".replace("e-0", "e-"),
    }
    if config.attn_layer in ("SSA", "SDSA", "QKTA", "TIM"):
        ranges["attn_layer"] = "[SSA, SDSA, QKTA, TIM]"
    width, depth, heads = config.embed_dim, config.depths, config.num_heads
    if isinstance(width, int) and isinstance(depth, int) and isinstance(heads, int):
        ranges["depths"] = [max(depth // 2, 1), depth + 2]
        ranges["embed_dim"] = [width // 2, width] if width % (2 * heads) == 0 else [width]
    return ranges


if __name__ == "__main__":
    sys.exit(main())
