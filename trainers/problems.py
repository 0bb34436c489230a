"""Turns what pydantic says of a wrong value into the sentences of our errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from trainers.strict_yaml import Document, Problem, plain_value

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
    "finite_number": "a finite number",
}


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Returns the sentence for a key that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return "unknown key." + (f" Did you mean {near[0]}?" if near else " See the list of keys in docs/train-file.md.")


def problems_of(error: ValidationError, document: Document, known: Iterable[str]) -> list[Problem]:
    """Returns one problem a wrong key; alternatives of one value (a number or a word) are joined into one sentence.

    A key that is wrong only because it takes another's wrong value (read_step that of step) is left out.
    """
    known = list(known)
    by_key: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        by_key.setdefault(str(item["loc"][0]) if item["loc"] else "", []).append(item)
    problems = []
    for key, items in by_key.items():
        if key and key not in document.data and items[0]["type"] != "missing":
            continue
        location = (key,) if key else ()
        if items[0]["type"] == "extra_forbidden":
            problems.append(document.problem(location, unknown_key(key, known)))
        else:
            problems.append(document.problem(location, sentence(items)))
    return problems


def sentence(items: list[Any]) -> str:
    """Returns what is wrong with one value, from all that pydantic found wrong with it."""
    first = items[0]
    if first["type"] == "missing":
        return "missing; it has no default here"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    rules = list(dict.fromkeys(_rule(item) for item in items))
    got = first["input"]
    hint = ""
    if isinstance(got, str) and not _is_word_rule(items):
        hint = "" if isinstance(plain_value(got), str) else "; remove the quotes"
    return f"must be {' or '.join(rules)} (got {_show(got)}{hint})"


def _rule(item: Any) -> str:
    kind = item["type"]
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind]} {next(iter(item['ctx'].values()))}"
    if kind == "literal_error":
        return f"one of {item['ctx']['expected'].replace(chr(39), '')}"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    return _TYPES.get(kind) or str(item["msg"])


def _is_word_rule(items: list[Any]) -> bool:
    return all(item["type"] == "literal_error" for item in items)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)
