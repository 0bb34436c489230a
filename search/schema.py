"""Writes the JSON Schemas of space and train files, for editors: `python -m search.schema`.

The schemas are of draft 7, which yaml-language-server reads, and are derived from the definitions that the checks use.
They cover keys, types and ranges, but no combinations of values.
"""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config import cli, step_names
from config.files import write_atomic
from models import registry
from results.metrics import METRICS
from search.space.schema import SpaceSettings
from trainers.config import TrainConfig
from trainers.datasets import DATASETS

DRAFT = "http://json-schema.org/draft-07/schema#"
NAMES: dict[str, Mapping[str, Any]] = {
    "model": registry.MODELS,
    "dataset": DATASETS,
    "node_type": registry.NEURONS,
    "attn_layer": registry.ATTENTIONS,
    "mlp_layer": registry.MLPS,
    "embed_layer": registry.STEMS,
    "act_function": registry.SURROGATES,
    "exit_rule": registry.EXIT_RULES,
}
"""Keys that take a registered name. Other names are allowed, since packages of users register more."""


def _numbers(item: str, longest: int, description: str) -> dict[str, Any]:
    items = {"type": item}
    return {"type": "array", "items": items, "minItems": 2, "maxItems": longest, "description": description}


_OPENED = {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/Space"}]}
_OPTIONS = [
    {"type": "array", "minItems": 1},
    {"type": "object", "minProperties": 1, "additionalProperties": _OPENED},
]
DISTRIBUTIONS = {
    "uniform": _numbers("number", 2, "real numbers from low to high"),
    "log_uniform": _numbers("number", 2, "real numbers uniform in their logarithm, from low > 0 to high"),
    "int": _numbers("integer", 3, "whole numbers: [low, high] or [low, high, step]"),
    "log_int": _numbers("integer", 2, "whole numbers uniform in their logarithm"),
    "choice": {"description": "one of a list; or of a mapping, whose values may open further keys", "oneOf": _OPTIONS},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _write(arguments.out))


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(prog="python -m search.schema", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/schema"), help="folder of the schemas (docs/schema)")
    return parser


def _write(folder: Path) -> int:
    for name, schema in (("space", space_schema()), ("train", train_schema())):
        path = folder / f"{name}.schema.json"
        write_atomic(path, json.dumps(schema, indent=1) + "\n")
        print(path)
    return cli.OK


def train_schema() -> dict[str, Any]:
    """Returns the schema of a train file, which allows keys that the benchmark's code never reads."""
    unread = {key: {"description": step_names.effect(key)} for key in sorted(step_names.NO_EFFECT)}
    return {
        "$schema": DRAFT,
        "title": "Train file",
        "description": "Everything about one training; see docs/train-file.md",
        "type": "object",
        "properties": {**train_keys(), **unread},
        "additionalProperties": False,
    }


def train_keys() -> dict[str, Any]:
    """Returns the schema of each key of a train file."""
    keys: dict[str, Any] = _draft_7(TrainConfig.model_json_schema())["properties"]
    for found in keys.values():
        if {"type": "null"} in found.get("anyOf", ()):
            found["anyOf"].append({"const": "none"})
    for key, names in NAMES.items():
        keys[key]["examples"] = list(names)  # editors propose these and accept others
    return keys


def space_schema() -> dict[str, Any]:
    """Returns the schema of a space file."""
    schema = _draft_7(SpaceSettings.model_json_schema())
    keys = train_keys()
    searched = {
        key: {"allOf": [{"$ref": "#/definitions/Distribution"}], "description": found.get("description", "")}
        for key, found in keys.items()
    }
    one = {"minProperties": 1, "maxProperties": 1}
    definitions = {
        **schema["definitions"],
        "Space": {"type": "object", "properties": searched, "additionalProperties": False},
        "Distribution": {"type": "object", "properties": DISTRIBUTIONS, "additionalProperties": False, **one},
    }
    properties = dict(schema["properties"])
    properties["fixed"] = {**properties["fixed"], "properties": keys, "additionalProperties": False}
    properties["space"] = {"allOf": [{"$ref": "#/definitions/Space"}], "minProperties": 1}
    for part in ("objectives", "constraints"):
        rule = properties[part]["additionalProperties"]
        metrics = {name: {**rule, "description": str(METRICS[name].label)} for name in METRICS}
        properties[part] = {**properties[part], "properties": metrics, "additionalProperties": False}
    for key, text in DESCRIPTIONS.items():
        properties[key] = {**properties[key], "description": text}
    schema = {**schema, "title": "Space file", "description": "What to search; see docs/space-file.md"}
    return {"$schema": DRAFT, **schema, "properties": properties, "definitions": definitions}


DESCRIPTIONS = {
    "study": "name of the study, of its folder and of its MLflow experiment",
    "base": "a shipped recipe (spikformer/digits), or the path of a train file; keys not named below keep its values",
    "fixed": "train-file keys that override the base",
    "objectives": "metrics to maximize or minimize",
    "space": "train-file keys with a distribution",
    "constraints": "bounds on metrics: on params_m and macs before training, on others for the front",
    "start_with": "recipes, train files and earlier studies (their front), whose values of the searched keys run first",
    "concurrency": "trials, or batches of them, at a time; as many as fit by default",
    "fuse": "trials of one shape that train as one batched model; auto: if measurements show a gain",
    "exits": "exit points of each full training: images end once their read-out is sure; none by default",
    "seed": "seed of the sampler; the trials' own seed is the train file's",
    "seeds": "trainings of each config, with the train file's seed and the next ones",
    "storage": "a database for the study (postgresql://user@host/name), a store for checkpoints (s3://bucket/folder), "
    "or a mapping of both; by default its folder",
    "tracking_uri": "an MLflow store or server; by default SQLite beside the studies",
}


def _draft_7(node: Any) -> Any:
    """Returns a schema in the form of draft 7, without the titles and defaults that pydantic adds."""
    if isinstance(node, list):
        return [_draft_7(item) for item in node]
    if not isinstance(node, dict):
        return node
    renamed = {"$defs": "definitions"}
    schema = {renamed.get(key, key): _draft_7(value) for key, value in node.items() if key not in ("title", "default")}
    if isinstance(schema.get("$ref"), str):
        return {"allOf": [{"$ref": schema.pop("$ref").replace("#/$defs/", "#/definitions/")}], **schema}
    return schema


if __name__ == "__main__":
    sys.exit(main())
