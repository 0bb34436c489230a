"""Turns what is wrong with a value into the sentences of our errors."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from config.strict_yaml import Document, Problem, plain_value

TRAIN_PAGE = "docs/train-file.md"
SPACE_PAGE = "docs/space-file.md"
LONGEST = 80
"""Characters of a value that are shown."""

FEW = 12
"""So many known keys are listed; of more, the page that has them is named."""

OTHER_WORDS = {
    "t": "step", "timesteps": "step", "timestep": "step", "time_step": "step", "num_steps": "step", "t_max": "step",
    "neuron": "node_type", "attention": "attn_layer", "stem": "embed_layer", "surrogate": "act_function",
    "dim": "embed_dim", "width": "embed_dim", "heads": "num_heads", "layers": "depths", "depth": "depths",
    "num_layers": "depths", "learning_rate": "lr", "wd": "weight_decay", "v_threshold": "threshold", "vth": "threshold",
    "v_th": "threshold", "optimizer": "opt", "scheduler": "sched", "label_smoothing": "smoothing", "gpu": "device",
    "num_epochs": "epochs", "arch": "model", "max_trials": "trials", "num_trials": "trials", "n_trials": "trials",
    "num_samples": "trials", "metrics": "objectives", "search_space": "space", "name": "study",
}  # fmt: skip
"""What other tools call our keys."""

EXAMPLES = {
    "study": "study: my_study",
    "base": "base: spikformer/digits",
    "objectives": "objectives: {accuracy: maximize, spike_rate: minimize}",
    "space": "space: {tau: {uniform: [1.1, 4.0]}}",
    "budget": "budget: {trials: 30, epochs: 20}",
    "dataset": "dataset: digits",
    "model": "model: spikformer_cifar",
    "epochs": "epochs: 20",
}
"""What a key without a default may look like."""

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
_UNQUOTED = frozenset({"int_type", "int_from_float", "float_type", "bool_type", "finite_number"})


def unknown_key(key: str, known: Iterable[str], page: str = TRAIN_PAGE) -> str:
    """Returns the sentence for a key that does not exist, with the nearest one that does."""
    names = list(known)
    near = nearest(key, names)
    if near is not None:
        return f"unknown key. Did you mean {near}?"
    return f"unknown key. Known: {', '.join(names)}" if len(names) <= FEW else f"unknown key. All are listed in {page}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is meant most likely, or None."""
    by_lower = {name.lower(): name for name in known}
    other = OTHER_WORDS.get(word.lower())
    if other in by_lower:
        return other
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else None


def problems_of(error: ValidationError, document: Document, known: Iterable[str]) -> list[Problem]:
    """Returns one problem a wrong key; alternatives of one value (a number or a word) are joined into one sentence.

    A key that is wrong only because it takes another's wrong value (read_step that of step) is left out, and so are
    the missing keys that a known model and data set would fill.
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
    """Returns the problem of values that do not go together, at the first of them that the document states."""
    words = re.findall(r"[a-z_]+", text)
    key = next((word for word in words if word in document.data), None)
    return document.problem(() if key is None else (key,), text)


def describe(items: list[Any]) -> str:
    """Returns what is wrong with one value, from all that pydantic found wrong with it."""
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
    elif got is None and first["type"] in ("dict_type", "model_type", "model_attributes_type"):
        hint = "; indent what belongs to it"
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
            yield "a list of one value or more" if isinstance(item["input"], list | tuple) else "not empty"
        elif kind == "too_long":
            yield f"a list of at most {rule['max_length']} values"
        elif kind == "string_pattern_mismatch":
            yield f"text of the form {rule['pattern']}"
        else:
            yield _TYPES.get(kind) or str(item["msg"])


def abbreviated(value: Any) -> str:
    """Returns a value as a file would have it, cut where it is long."""
    if value is None:
        return "nothing"
    text = repr(value) if isinstance(value, str) else _plain(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_plain(inner)}' for key, inner in value.items())}}}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, str) and not isinstance(plain_value(value), str) else str(value)


LONGEST_REASON = 300


def root_cause(error: BaseException) -> str:
    """Returns what an error comes down to, in one line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:LONGEST_REASON]
