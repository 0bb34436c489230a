"""Prints docs/train-file.md from the keys' own definitions: `python -m trainers.document > docs/train-file.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from models.config import ModelConfig
from trainers.config import TrainConfig

INTRODUCTION = """\
# The train file

One flat YAML file says everything about one training; its keys are those of the BrainCog/STEP benchmark, whose own
files (one file, or the older pair) load as they are. `python -m trainers.run --config FILE` trains it, a pair
`python -m trainers.run --model-config FILE --train-config FILE`. Keys that stand
nowhere take the data set's facts, then the named model's published values, then the default given here. An unknown or
doubled key is an error; `5e-4` is a number; `true` is none. A key that the chosen neuron lacks gives a warning.

`epochs` is the whole length of the training, `cooldown_epochs` included. The output is read after `read_step` of the
`step` trained steps.
"""


def lines() -> Iterator[str]:
    """Yields the page, line by line."""
    yield INTRODUCTION
    model = ModelConfig.model_fields
    for title, keys in (
        ("Model and neuron", [key for key in TrainConfig.model_fields if key in model]),
        ("Data and training", [key for key in TrainConfig.model_fields if key not in model]),
    ):
        yield f"## {title}\n"
        yield "| key | values | default | meaning |"
        yield "| --- | --- | --- | --- |"
        for key in keys:
            info = TrainConfig.model_fields[key]
            default = "from data set or model" if info.is_required() else f"`{_plain(info.default)}`"
            yield f"| `{key}` | {_values(info)} | {default} | {info.description} |"
        yield ""


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)


def _values(info: Any) -> str:
    """Returns the type and the bounds of a key in words."""
    words = list(dict.fromkeys(_types(info.annotation)))
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in info.metadata
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if hasattr(rule, name)
    ]
    return " or ".join(words) + (f" {', '.join(bounds)}" if bounds else "")


def _types(annotation: Any) -> Iterator[str]:
    names = {int: "whole number", float: "number", bool: "true/false", str: "text", type(None): "none"}
    if annotation in names:
        yield names[annotation]
    elif getattr(annotation, "__origin__", None) is tuple:
        yield "list"
    else:
        for part in get_args(annotation) or (annotation,):
            if isinstance(part, str | int) and not isinstance(part, bool):
                yield f"`{part}`"
            elif part is not annotation and (get_args(part) or part in names):
                yield from _types(part)


if __name__ == "__main__":
    print("\n".join(lines()).rstrip())
