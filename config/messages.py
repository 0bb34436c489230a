"""Error sentences for invalid values, from pydantic's validation errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from config.document import Document, Problem
from config.errors import did_you_mean
from config.strict_yaml import plain_value

if TYPE_CHECKING:
    from pydantic import ValidationError

TRAIN_PAGE = "docs/train-file.md"
SPACE_PAGE = "docs/space-file.md"
MAX_VALUE_CHARS = 80
"""Longer values are shown cut."""

MAX_LISTED_KEYS = 12
"""Longer lists of keys are replaced by the name of the page that has them."""

EXAMPLES = {
    "study": "study: my_study",
    "base": "base: spikformer/digits",
    "objectives": "objectives: {accuracy: maximize, spike_rate: minimize}",
    "space": "space: {tau: {uniform: [1.1, 4.0]}}",
    "budget": "budget: {trials: 30, epochs: 20}",
    "dataset": "dataset: digits",
    "model": "model: spikformer_cifar",
    "epochs": "epochs: 20",
    "sampler": "sampler: {name: tpe}",
    "scheduler": "scheduler: {name: moasha}",
    "resources": "resources: {cpu: 1, gpu: 0.25}",
    "constraints": "constraints: {params_m: {max: 10}}",
    "fixed": "fixed: {workers: 4}",
}
"""Example lines for keys without a default, and for keys whose value is a mapping."""

_BOUNDS = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}
_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}
_MAPPINGS = ("dict_type", "model_type", "model_attributes_type")
_UNQUOTED = frozenset({"int_type", "int_from_float", "float_type", "bool_type", "finite_number"})


def unknown_key(key: str, known: Iterable[str], page: str = TRAIN_PAGE) -> str:
    """Returns the sentence for an unknown key, with the nearest known one."""
    names = list(known)
    listed = f" Known: {', '.join(names)}" if len(names) <= MAX_LISTED_KEYS else f" All are listed in {page}"
    return f"unknown key.{did_you_mean(key, names) or listed}"


def problems_of(error: ValidationError, document: Document, known: Iterable[str]) -> list[Problem]:
    """Returns one problem for each wrong key; the alternatives of a value (a number or a word) share one sentence.

    Keys that only inherit another key's wrong value (read_step that of step) are left out, and so are missing keys
    that a known model and data set would fill.
    """
    known = list(known)
    by_key: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        by_key.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
    filled = by_key.keys() & {"dataset", "model"}
    problems = []
    for key, items in by_key.items():
        kind = items[0]["type"]
        if key and key not in document.data and (kind != "missing" or (filled and key not in EXAMPLES)):
            continue
        if not key:
            problems += [
                cross_field_problem(text, document) for item in items for text in describe([item]).splitlines()
            ]
        elif kind == "extra_forbidden":
            problems.append(document.problem((key,), unknown_key(key, known)))
        else:
            problems.append(document.problem((key,), describe(items)))
    return problems


def cross_field_problem(text: str, document: Document) -> Problem:
    """Returns the problem of an invalid combination, located at its first key that the document has."""
    words = re.findall(r"[a-z_]+", text)
    key = next((word for word in words if word in document.data), None)
    return document.problem(() if key is None else (key,), text)


def describe(items: list[Any]) -> str:
    """Returns the sentence for one invalid value, from all errors that pydantic found in it."""
    first = items[0]
    if first["type"] == "missing":
        example = EXAMPLES.get(str(first["loc"][-1]))
        return "missing; " + (f"write for instance `{example}`" if example else "it has no default here")
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    got = first["input"]
    hint = ""
    if isinstance(got, str) and _UNQUOTED & {item["type"] for item in items}:
        hint = "" if isinstance(plain_value(got), str) else "; remove the quotes"
    elif isinstance(got, int | float) and not isinstance(got, bool) and first["type"] == "string_type":
        hint = "; put it in quotes"
    elif got is None and first["type"] in _MAPPINGS:
        hint = "; indent its keys"
    elif first["type"] in _MAPPINGS:
        example = next((EXAMPLES[part] for part in reversed(first["loc"]) if part in EXAMPLES), None)
        hint = f"; write for instance `{example}`" if example else ""
    return f"must be {' or '.join(dict.fromkeys(_rules(items)))} (got {abbreviated(got)}{hint})"


def _rules(items: list[Any]) -> Iterator[str]:
    for item in items:
        kind, rule = item["type"], item.get("ctx", {})
        if kind in _BOUNDS:
            yield f"{_BOUNDS[kind]} {next(iter(rule.values()))}"
        elif kind == "literal_error":
            words = rule["expected"].replace("'", "")
            yield words if " or " not in words else f"one of {words}"
        elif kind == "value_error":
            yield str(rule["error"])
        elif kind == "too_short":
            yield "a list of one value or more" if isinstance(item["input"], list | tuple) else "non-empty"
        elif kind == "too_long":
            yield f"a list of at most {rule['max_length']} values"
        elif kind == "string_pattern_mismatch":
            yield f"text of the form {rule['pattern']}"
        else:
            yield _TYPES.get(kind) or str(item["msg"])


def abbreviated(value: Any) -> str:
    """Returns a value as YAML writes it, cut after 80 characters."""
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else _plain(value)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}..."


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_plain(inner)}' for key, inner in value.items())}}}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, str) and not isinstance(plain_value(value), str) else str(value)


MAX_REASON_CHARS = 300


def root_cause(error: BaseException) -> str:
    """Returns the first line of the error at the start of the chain of causes, at most 300 characters."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:MAX_REASON_CHARS]
