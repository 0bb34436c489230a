"""Generator of docs/train-file.md from the keys' definitions: `python -m trainers.document > docs/train-file.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from models.config import ModelConfig
from trainers.config import TrainConfig

INTRODUCTION = """\
# The train file

One flat YAML file describes one training. Its keys are those of the BrainCog/STEP benchmark, whose files (one file, or
the older pair) load unchanged. `python -m trainers.run --config FILE` trains a file,
`python -m trainers.run --model-config FILE --train-config FILE` a pair. A missing key takes the data set's value, then
the published value of the named model, then the default given here. Unknown and duplicate keys are errors; `5e-4` is a
number, `true` is not. `none`, `null` and an empty value mean the same where the table lists none without quotes. A
key that the chosen neuron lacks gives a warning.

`epochs` is the length of the whole training, `cooldown_epochs` included. The output is read after `read_step` of the
`step` trained timesteps.
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
    """Returns the types and bounds of a key as text."""
    words = " or ".join(dict.fromkeys(_types(info.annotation)))
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in info.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    return f"{words} {', '.join(bounds)}".rstrip()


def _types(annotation: Any) -> Iterator[str]:
    """Yields the alternatives of an annotation as text."""
    names = {int: "integer", float: "number", bool: "true/false", str: "text", type(None): "none"}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from (f"`{part}`" for part in parts)
    elif annotation in names or origin is tuple:
        yield names.get(annotation, "list")
    else:
        for part in parts[:1] if origin is Annotated else parts:
            yield from _types(part)


if __name__ == "__main__":
    print("\n".join(lines()).rstrip())
