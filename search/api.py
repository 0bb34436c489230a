"""A search from Python, for notebooks and scripts; the same as `python -m search.run`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from results.study import StudyResult
    from search.space import Space


def run_study(
    space: str | os.PathLike[str] | Mapping[str, Any] | Space,
    out: str | os.PathLike[str] = "runs",
    *,
    address: str | None = None,
    overrides: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> StudyResult:
    """Runs a search, or goes on with it, and returns its results; a finished one is only read.

    `space` is a space file, its content as a mapping, or a Space; `overrides` are `key=value` texts as for `--set`;
    `imports` are packages of one's own that register models or data sets. Raises ConfigError for the user's input
    and trainers.command.Failed where no trial succeeds or the environment fails; Ctrl-C raises KeyboardInterrupt,
    and the same call goes on.
    """
    import results
    from search import run, space_file
    from search.space import Space
    from trainers import command
    from trainers.config import override
    from trainers.strict_yaml import Document

    command.import_packages(imports)
    if isinstance(space, Mapping):
        checked = space_file.read(override(Document("space", dict(space)), overrides))
    elif isinstance(space, Space):
        checked = space
    else:
        checked = space_file.load(os.fspath(space), list(overrides))
    try:
        with command.signals():
            run.run_in_folder(checked, run.Run(Path(out), address, "the same call", tuple(imports)))
    except command.Interrupted:
        command.forgive()
        raise KeyboardInterrupt from None
    return results.load(Path(out) / checked.study)
