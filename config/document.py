"""A parsed file with the line and the source of each key, and the problems found in it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from config.errors import ConfigError

MAX_PROBLEMS = 20
ARGUMENTS = "the arguments"
"""Source of keys that are arguments of a function."""

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One error in a document: its line, key and sentence, and its source if that is not the document's."""

    line: int
    key: str
    text: str
    source: str | None = None


@dataclass(frozen=True)
class Document:
    """A parsed file: plain data, the line of each key, and the sources of keys from elsewhere.

    Other sources are a second file, named by its path, and the command line, named by its `--set key=value`.
    `problems` are the duplicate keys that a tolerant reader reports with other problems, by `refuse`.
    """

    source: str
    data: dict[str, Any]
    lines: Mapping[Location, int] = field(default_factory=dict)
    sources: Mapping[Location, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, location: Location) -> int:
        """Returns the line of the nearest enclosing key that is in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def problem(self, location: Location, text: str) -> Problem:
        """Returns the problem at a location, with the source of the nearest key above it, or else of one below."""
        above = (self.sources.get(location[:depth]) for depth in range(len(location), 0, -1))
        below = (source for key, source in self.sources.items() if location and key[: len(location)] == location)
        source = next(filter(None, itertools.chain(above, below)), None)
        return Problem(self.line(location), ".".join(map(str, location)), text, source)

    def sentence(self, problem: Problem) -> str:
        """Returns the problem as `file:line: key: text`; without `file:line: ` if the data are from no file."""
        source, text = problem.source or self.source, f"{problem.key + ': ' if problem.key else ''}{problem.text}"
        if not source:
            return text
        where = source if source.startswith("--set") or source == ARGUMENTS else f"{source}:{problem.line}"
        return f"{where}: {text}"

    def error(self, problems: Sequence[Problem]) -> ConfigError:
        """Returns one error that lists up to 20 problems in the order of their lines."""
        found = [*self.problems, *problems]
        ordered = sorted(dict.fromkeys(found), key=lambda problem: (problem.source or "", problem.line))
        lines = [self.sentence(problem) for problem in ordered[:MAX_PROBLEMS]]
        if len(ordered) > MAX_PROBLEMS:
            lines.append(f"{self.source}: and {len(ordered) - MAX_PROBLEMS} more")
        return ConfigError("\n".join(lines))

    def refuse(self, problems: Sequence[Problem] = ()) -> None:
        """Raises ConfigError with these problems and the document's own, if there are any."""
        if problems or self.problems:
            raise self.error(problems)
