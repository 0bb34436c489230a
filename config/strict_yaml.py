"""Strict YAML: `5e-4` is a number, only true and false are booleans, a duplicate key is an error with both lines.

Aliases, tags, deep nesting and large files are refused, so that a file holds plain data only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from config.document import Document, Location, Problem
from config.errors import ConfigError, nearest

MAX_BYTES = 50_000  # half a second of parsing
MAX_DEPTH = 32

_INT = re.compile(r"[-+]?[0-9]{1,4000}\Z")  # Python refuses to read longer ones
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {".nan": float("nan"), ".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf")}
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


def read(path: str | Path, *, tolerant: bool = False) -> Document:
    """Returns the mapping in a YAML file, as `parse` does. Raises ConfigError that names file and line."""
    return parse(_text(Path(path)), str(path), tolerant=tolerant)


def parse(text: str, source: str, *, tolerant: bool = False) -> Document:
    """Returns the mapping in a YAML text; `source` is the name used in messages.

    Raises ConfigError. With `tolerant`, duplicate keys become problems of the document; the caller must `refuse` them.
    """
    lines: dict[Location, int] = {}
    problems: list[Problem] = []
    data = _build(_compose(text, source), (), lines, problems)
    document = Document(source, data, lines, problems=tuple(problems))
    if not tolerant:
        document.refuse()
    return document


def _text(path: Path) -> str:
    """Returns the text of a file. Raises ConfigError if it cannot be read, is too large or is not UTF-8."""
    try:
        if not path.exists():
            raise ConfigError(f"{path}: no such file.{_nearest_file(path)}")
        if not path.is_file():
            raise ConfigError(f"{path}: is a folder, not a file" if path.is_dir() else f"{path}: is not a regular file")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes (got {path.stat().st_size}); is it the right file?")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text (byte {error.start}). Save it as UTF-8") from None


class _Loader(yaml.SafeLoader):
    """Composes plain data only: one document of limited depth, without aliases and tags."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # missing in PyYAML's stubs
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _error(event, "anchors and aliases are not allowed; write the value out")
        if tag := getattr(event, "tag", None):
            raise _error(event, f"tags are not allowed (got {tag}). Remove it; quoted text stays text")
        if self.depth > MAX_DEPTH:
            raise _error(event, f"nested deeper than {MAX_DEPTH}")
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _NotAllowedError(yaml.MarkedYAMLError):
    """Valid YAML that is refused."""


def _error(event: Any, text: str) -> _NotAllowedError:
    return _NotAllowedError(problem=text, problem_mark=event.start_mark)


def _compose(text: str, source: str) -> yaml.MappingNode:
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{source}:{mark.line + 1 if mark else 1}: {_plain(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        character = f"a character that YAML does not allow (code {error.character})"
        reason = character if error.character else "a NUL byte. Save the file as UTF-8 text"
        raise ConfigError(f"{source}:{line}: contains {reason}") from None
    if node is None:
        raise ConfigError(f"{source}:1: is empty")
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "one value"
        line = node.start_mark.line + 1
        raise ConfigError(f"{source}:{line}: must consist of `key: value` lines (got {kind})")
    return node


SENTENCES = (
    ("'\\t'", "tabs are not allowed as indentation; use spaces"),
    ("but found another document", "a second document starts here (---); one file holds one"),
    (
        "mapping values are not allowed here",
        "unexpected `: `, or wrong indentation. Text that contains `: ` needs quotes",
    ),
    ("expected ',' or", "a comma is missing, or the bracket that {opened} is not closed"),
    ("could not find expected ':'", "must be `key: value`; the `: ` is missing here or in the line before"),
    ("unexpected end of stream", "the quote that {opened} is not closed"),
    ("cannot start any token", "a value may not start with {character} without quotes"),
    ("unknown escape character", "a backslash in double quotes starts an escape; use single quotes"),
    ("<block end>", "wrong indentation: keys of one level start in one column"),
    ("<document start>", "wrong indentation, or text after the end of the data"),
    ("sequence entries are not allowed here", "a list of `- ` items must start on a new line"),
)
"""Parts of PyYAML's messages with our sentences; {opened} is where the unfinished value starts."""


def _plain(error: yaml.MarkedYAMLError) -> str:
    """Returns our sentence for PyYAML's error, or PyYAML's own."""
    problem = str(error.problem)
    if isinstance(error, _NotAllowedError):
        return problem
    opened = f"opens in line {error.context_mark.line + 1}" if error.context_mark else "is open"
    character = problem.split("'")[1] if problem.count("'") > 1 else ""
    for part, sentence in SENTENCES:
        if part in problem:
            return f"not YAML: {sentence.format(opened=opened, character=character)}"
    return f"not YAML: {problem}"


def _build(node: yaml.Node, here: Location, lines: dict[Location, int], problems: list[Problem]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*here, i)] = item.start_mark.line + 1
        return [_build(item, (*here, i), lines, problems) for i, item in enumerate(node.value)]
    data: dict[str, Any] = {}
    for key_node, value in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(line, ".".join(map(str, here)), "a key must be a plain word"))
            continue
        key = key_node.value
        if key in data:
            first = lines[(*here, key)]
            problems.append(Problem(line, ".".join(map(str, (*here, key))), f"duplicate key (first in line {first})"))
            continue
        lines[(*here, key)] = line
        data[key] = _build(value, (*here, key), lines, problems)
    return data


def _scalar(node: yaml.ScalarNode) -> Any:
    return plain_value(node.value) if node.style is None else node.value  # quoted or block text stays text


def plain_value(text: str) -> Any:
    """Returns the value of a text that is written without quotes."""
    if text.lower() in _SPECIAL:
        return _SPECIAL[text.lower()]
    if text in ("True", "False"):  # PyYAML's own spelling, in the benchmark's files
        return text == "True"
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _nearest_file(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path(".")
    files = {other.stem: other for other in folder.glob("*.y*ml")}
    near = nearest(path.stem, files)
    return f" Did you mean {files[near]}?" if near else ""


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Returns YAML whose values read back to the same bits, in the order of the mapping."""
    options: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 120, "allow_unicode": True}
    return str(yaml.dump(dict(data), Dumper=_Dumper, **options))


class _Dumper(yaml.SafeDumper):
    """Quotes text that would be read as another type, such as `1e5`, and unprintable characters."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    is_text = isinstance(plain_value(text), str)
    quotes = '"' if not text.isprintable() else None if is_text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=quotes)


_Dumper.add_representer(str, _represent_text)


def override(document: Document, overrides: Sequence[str]) -> Document:
    """Returns the document with `key=value` texts applied; a dotted key reaches into mappings.

    Raises ConfigError that lists the invalid texts.
    """
    data, sources, errors = dict(document.data), dict(document.sources), []
    for text in overrides:
        try:
            path, value = _parse_override(text)
        except ConfigError as error:
            errors.append(f"--set {text}: {error}")
            continue
        target = data
        for key in path[:-1]:
            inner = target.get(key)
            target[key] = dict(inner) if isinstance(inner, dict) else {}
            target = target[key]
        target[path[-1]] = value
        sources[path] = f"--set {text}"
    if errors:
        raise ConfigError("\n".join(errors))
    return replace(document, data=data, sources=sources)


def _parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path):
        raise ConfigError("must be key=value")
    try:
        read = parse(f"value: {value}", "--set").data
    except ConfigError as error:
        raise ConfigError(f"{key}: {str(error).split(': ', 1)[-1]}") from None
    if len(read) > 1:
        raise ConfigError(f"{key}: must be one value; give --set once for each key")
    return path, read["value"]
