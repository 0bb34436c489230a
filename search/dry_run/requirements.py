"""What this machine lacks for a search: the files of the data set, or a GPU."""

from __future__ import annotations

from config import cli
from config.cli import CommandError
from search.dry_run import report
from search.space.space import Space
from search.storage import preconditions


def check_gpu(space: Space) -> None:
    """Raises CommandError if trials ask for a GPU and this machine has none, with the time of a search on its CPU."""
    problem = preconditions.missing_gpu(space.settings.resources)
    if problem is None:
        return
    text = f"{problem}, and takes about {report.clock(report.search_s(space))}"
    data = preconditions.missing_data(space.example)
    raise CommandError(cli.ENVIRONMENT, "; also, ".join(filter(None, (text, data))))
