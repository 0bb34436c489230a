"""YAML as users mean it: `5e-4` is a number, only true/false are booleans, a duplicate key is an error with both lines.

Aliases, tags, deep nesting and huge files are refused, so a file can hold data and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from models.config import ConfigError

MAX_BYTES = 50_000  # a second of parsing
MAX_DEPTH = 32
MAX_PROBLEMS = 20

Location = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]{1,4000}\Z")  # Python refuses to read longer ones
_FLOAT = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {".nan": float("nan"), ".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf")}
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which line, under which key, the sentence that says so, and where if not there."""

    line: int
    key: str
    text: str
    source: str | None = None


@dataclass(frozen=True)
class Document:
    """A parsed file: plain data, the line of each key, and where a key comes from if not from `source`.

    The other sources are a second file, named by its path, and the command line, named by its `--set key=value`.
    """

    source: str
    data: dict[str, Any]
    lines: Mapping[Location, int] = field(default_factory=dict)
    sources: Mapping[Location, str] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Returns the line of the nearest enclosing key that is in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def problem(self, location: Location, text: str) -> Problem:
        inside = location
        while inside and inside not in self.sources:
            inside = inside[:-1]
        return Problem(self.line(location), ".".join(map(str, location)), text, self.sources.get(inside))

    def sentence(self, problem: Problem) -> str:
        """Returns the problem with its place, `file:line: key: what is wrong`."""
        source = problem.source or self.source
        where = source if source.startswith("--set") else f"{source}:{problem.line}"
        return f"{where}: {problem.key + ': ' if problem.key else ''}{problem.text}"

    def error(self, problems: list[Problem]) -> ConfigError:
        """Returns one error that lists up to 20 problems in the order of their lines."""
        ordered = sorted(problems, key=lambda problem: (problem.source or "", problem.line))
        lines = [self.sentence(problem) for problem in ordered[:MAX_PROBLEMS]]
        if len(ordered) > MAX_PROBLEMS:
            lines.append(f"{self.source}: and {len(ordered) - MAX_PROBLEMS} more")
        return ConfigError("\n".join(lines))


def read(path: str | Path) -> Document:
    """Returns the mapping in a YAML file. Raises ConfigError that names file and line."""
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path}: no such file.{_nearest(path)}")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder, not a file")
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes (got {len(raw)})")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """Returns the mapping in a YAML text; `source` is the name used in messages."""
    if "\0" in text:
        raise ConfigError(f"{source}:{text[: text.index(chr(0))].count(chr(10)) + 1}: contains a NUL byte")
    try:
        _refuse_unsafe(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        tab = " (tabs may not indent; use spaces)" if "'\\t'" in str(error.problem) else ""
        raise ConfigError(f"{source}:{line}: not YAML: {error.problem}{tab}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML: {str(error).splitlines()[0]}") from None
    if node is None:
        raise ConfigError(f"{source}: is empty")
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "one value"
        raise ConfigError(f"{source}:1: must consist of `key: value` lines (got {kind})")
    lines: dict[Location, int] = {}
    problems: list[Problem] = []
    data = _build(node, (), lines, problems)
    document = Document(source, data, lines)
    if problems:
        raise document.error(problems)
    return document


def _refuse_unsafe(text: str, source: str) -> None:
    depth, documents = 0, 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{source}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError(f"{where}: anchors and aliases are not allowed; write the value out")
        if tag := getattr(event, "tag", None):
            raise ConfigError(f"{where}: tags are not allowed (got {tag})")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH}")
        if documents > 1:
            raise ConfigError(f"{where}: a second document starts here (---); one file holds one")


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
    """Returns what a text stands for when it is written without quotes."""
    if text.lower() in _SPECIAL:
        return _SPECIAL[text.lower()]
    if text in ("True", "False"):  # PyYAML's own spelling, in the benchmark's files
        return text == "True"
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def _nearest(path: Path) -> str:
    import difflib

    folder = path.parent if path.parent.is_dir() else Path(".")
    near = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*.y*ml")], n=1)
    return f" Did you mean {folder / near[0]}?" if near else ""
