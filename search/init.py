"""Writes a space file to start from: `python -m search.init my.yml --base spikformer/digits --search neuron,timestep`.

Whatever the command line leaves open is asked on a terminal, and takes its default elsewhere.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import cli, strict_yaml
from config.errors import ConfigError
from config.files import write_atomic
from models import registry
from results.metrics import METRICS
from search.space import reader
from search.space.schema import check_name
from trainers import config as train_file
from trainers.config import RECIPES, TrainConfig

SCHEMA = Path(__file__).parents[1] / "docs" / "schema" / "space.schema.json"


@dataclass(frozen=True)
class Group:
    """Keys that belong to one question, with the distributions that a space starts from."""

    question: str
    lines: Callable[[TrainConfig], dict[str, str]]


def _around(value: float, factor: float) -> str:
    return f"[{value / factor:.2g}, {value * factor:.2g}]".replace("e-0", "e-")


def _sizes(config: TrainConfig) -> dict[str, str]:
    width, depth, heads = config.embed_dim, config.depths, config.num_heads
    if not (isinstance(width, int) and isinstance(depth, int) and isinstance(heads, int)):
        return {}  # given by stage: what to change is the user's to say
    return {
        "depths": f"{{int: [{max(depth // 2, 1)}, {depth + 2}]}}",
        "embed_dim": f"{{choice: [{width // 2}, {width}]}}" if width % (2 * heads) == 0 else f"{{choice: [{width}]}}",
    }


GROUPS: dict[str, Group] = {
    "neuron": Group(
        "membrane time constant, thresholds and surrogate gradient",
        lambda config: {
            "tau": "{uniform: [1.1, 4.0]}",
            "threshold": "{uniform: [0.5, 2.0]}",
            "attn_threshold": "{uniform: [0.25, 1.0]}",
            "alpha": "{log_uniform: [1, 16]}",
        },
    ),
    "node": Group(
        "kind of neuron; tau stands under those that have one",
        lambda config: {
            "node_type": "{choice: {LIFNode: {tau: {uniform: [1.1, 4.0]}}, PLIFNode: {tau: {uniform: [1.1, 4.0]}}, "
            "KLIFNode: {tau: {uniform: [1.1, 4.0]}}, IFNode: }}"
        },
    ),
    "timestep": Group("timesteps of the training", lambda config: {"step": f"{{choice: {_steps(config.step)}}}"}),
    "attention": Group(
        "attention of the blocks",
        lambda config: {"attn_layer": "{choice: [SSA, SDSA, QKTA, TIM]}"} if _is_single(config) else {},
    ),
    "size": Group("number of blocks and width", _sizes),
    "training": Group(
        "learning rate and weight decay",
        lambda config: {
            "lr": f"{{log_uniform: {_around(config.lr, 4)}}}",
            "weight_decay": "{log_uniform: [0.003, 0.3]}",
        },
    ),
}


def _steps(step: int) -> list[int]:
    return sorted({1, 2, 4, step} - {t for t in (1, 2, 4) if t > step})


def _is_single(config: TrainConfig) -> bool:
    return isinstance(config.attn_layer, str) and config.attn_layer in ("SSA", "SDSA", "QKTA", "TIM")


@dataclass(frozen=True)
class Answers:
    """What a space file is written from."""

    base: str
    groups: tuple[str, ...]
    objectives: tuple[str, ...]
    trials: int
    epochs: int
    gpu: float


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code (0 done, 2 the user's input)."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _main(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.init", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="the space file to write, such as spaces/my.yml")
    parser.add_argument("--base", metavar="RECIPE", help="a shipped recipe or a train file (spikformer/digits)")
    groups = "; ".join(f"{name}: {group.question}" for name, group in GROUPS.items())
    parser.add_argument("--search", metavar="GROUPS", help=f"what to search, with commas ({groups})")
    parser.add_argument("--objectives", metavar="METRICS", help="with commas (accuracy,spike_rate)")
    parser.add_argument("--trials", metavar="N", help="trials to start (30)")
    parser.add_argument("--epochs", metavar="N", help="epochs of a full training (those of the base)")
    parser.add_argument("--gpu", metavar="SHARE", help="share of a GPU that a trial takes, 0 for the CPU (0)")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    return parser


def _main(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    if path.exists() and not arguments.force:
        raise ConfigError(f"{path}: exists; give another name, or --force to replace it")
    try:
        check_name(path.stem)
    except ValueError as error:
        raise ConfigError(f"{path}: the name {error}") from None
    answers = _answers(arguments)
    text = write(path, answers)
    reader.read(strict_yaml.parse(text, str(path)))
    write_atomic(path, text)
    print(f"{path} is written; next:\n  python -m search.run {shlex.quote(str(path))} --dry-run")
    return cli.OK


def _answers(arguments: argparse.Namespace) -> Answers:
    ask = _ask if sys.stdin.isatty() else (lambda question, default: default)
    base = arguments.base or ask(f"recipe to start from ({_families()})", "spikformer/digits")
    if not train_file.recipe_path(base).exists():
        raise ConfigError(f"--base {base}: no such recipe or file. There are: {', '.join(_recipes())}")
    config = train_file.load(train_file.recipe_path(base))
    for name, group in GROUPS.items() if arguments.search is None and sys.stdin.isatty() else ():
        print(f"  {name}: {group.question}")
    groups = _names("--search", arguments.search or ask("what to search", "neuron,timestep,training"), GROUPS)
    metrics = arguments.objectives or ask(f"objectives ({', '.join(METRICS)})", "accuracy,spike_rate")
    trials = _number("--trials", arguments.trials or ask("trials", "30"), least=1)
    epochs = _number("--epochs", arguments.epochs or ask("epochs of a full training", str(config.epochs)), least=1)
    gpu = _number("--gpu", arguments.gpu or ask("share of a GPU a trial takes", "0"), least=0, whole=False)
    return Answers(base, groups, _names("--objectives", metrics, METRICS), int(trials), int(epochs), gpu)


def _ask(question: str, default: str) -> str:
    try:
        return input(f"{question} [{default}]: ").strip() or default
    except EOFError:
        return default


def _number(flag: str, text: str, least: int, whole: bool = True) -> float:
    number = strict_yaml.plain_value(text)
    if not isinstance(number, int if whole else int | float) or isinstance(number, bool) or not number >= least:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"{flag}: must be {kind} >= {least} (got {text!r})")
    return float(number)


def _names(flag: str, text: str, known: Any) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in known:
            raise ConfigError(f"{flag}: {name} is none of {', '.join(known)}")
    return names


def _recipes() -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in RECIPES.glob("*/*.yml"))


def _families() -> str:
    return ", ".join(sorted(path.name + "/..." for path in RECIPES.iterdir() if path.is_dir()))


def _as_text(name: str) -> str:
    """Returns a name as YAML that reads as text, in quotes where it would be a number or true."""
    return name if isinstance(strict_yaml.plain_value(name), str) else json.dumps(name)


def write(path: Path, answers: Answers) -> str:
    """Returns the text of a space file. Raises ConfigError where nothing of what was asked for can be searched."""
    config = train_file.load(train_file.recipe_path(answers.base))
    lines = list(_searched(answers, config))
    if not any(line.endswith("}") for line in lines):
        raise ConfigError(f"--search {','.join(answers.groups)}: {config.model} has none of these keys as one value")
    goals = ", ".join(f"{name}: {METRICS[name].direction}" for name in answers.objectives)
    schema = os.path.relpath(SCHEMA, path.parent.absolute())
    grace = max(answers.epochs // 9, 1)
    return "\n".join(
        [
            f"# {path}: {', '.join(answers.groups)}: what is best for {config.model} on {config.dataset}?",
            f"# yaml-language-server: $schema={schema}",
            f"study: {_as_text(path.stem)}",
            f"base: {answers.base}  # keys that are not named below keep this recipe's values",
            f"objectives: {{{goals}}}  # the front is the best in all of them at once",
            "space:  # uniform, log_uniform, int, log_int or choice; see docs/space-file.md",
            *lines,
            "# constraints: {params_m: {max: 10}}  # refused before any training",
            *([f"start_with: [{answers.base}]  # runs first"] if _holds(lines, answers, path) else []),
            f"budget: {{trials: {answers.trials}, epochs: {answers.epochs}}}  # epochs: one full training",
            f"scheduler: {{name: moasha, grace_epochs: {grace}, reduction_factor: 3}}  # a third goes on at each rung",
            f"resources: {{cpu: 1, gpu: {answers.gpu:g}}}  # of one trial; 0.25 lets four share a GPU",
            "seed: 0",
            "",
        ]
    )


def _searched(answers: Answers, config: TrainConfig) -> Iterator[str]:
    lacking = registry.lacking(config.model, config.node_type)
    found: set[str] = {"tau"} if "node" in answers.groups else set()
    for name in answers.groups:
        keys = {key: text for key, text in GROUPS[name].lines(config).items() if key not in lacking | found}
        if keys:
            yield f"  # {GROUPS[name].question}"
        for key, text in keys.items():
            found.add(key)
            yield f"  {key}: {text}"


def _holds(lines: list[str], answers: Answers, path: Path) -> bool:
    """Returns whether the recipe itself is a point of the space."""
    text = f"study: x\nbase: {answers.base}\nobjectives: {{accuracy: maximize}}\nspace:\n" + "\n".join(lines)
    text += f"\nstart_with: [{answers.base}]\nbudget: {{trials: 1, epochs: {answers.epochs}}}\n"
    space = reader.read(strict_yaml.parse(text, str(path)))
    return all(problem is None for _, _, problem in space.initial_configs())


if __name__ == "__main__":
    sys.exit(main())
