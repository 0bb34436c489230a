"""The lines of a dry run: parallel trials, what is missing, time, and that the first line needs no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from search.algorithm.forecast import expected_entries, expected_epochs, search_plan
from search.dry_run import report, sampling, timing
from search.dry_run.report import parallel_trials
from search.space.schema import Resources
from search.space.space import Space


@pytest.mark.parametrize(
    ("cpu", "gpu", "trials"),
    [(1, 0, 8), (2, 0, 4), (16, 0, 1), (0.5, 0, 16), (1, 1, 2), (1, 2, 1), (1, 0.25, 2), (5, 1, 1)],
)
def test_the_forecast_counts_the_trials_that_fit_on_this_machine(
    cpu: float, gpu: float, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert parallel_trials(Resources(cpu=cpu, gpu=gpu)) == trials


def test_without_a_gpu_the_forecast_counts_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert parallel_trials(Resources(cpu=2, gpu=0.25)) == 4


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples, and 1 s per epoch."""
    monkeypatch.setattr(sampling, "NUM_SAMPLES", 10)
    monkeypatch.setattr(sampling, "NUM_SIZED", 3)
    monkeypatch.setattr(timing, "seconds_per_epoch", lambda sized: [1.0] * len(sized))


@pytest.mark.usefixtures("fast")
def test_the_report_says_what_a_budget_in_trials_costs(read_space: Callable[..., Space]) -> None:
    space = read_space("scheduler.mode=promote")
    epochs, complete = (
        expected_epochs(search_plan(space.settings), 12),
        expected_entries(search_plan(space.settings), 12),
    )
    promote = list(report.lines(space, 1))
    assert any(line.startswith(f"the search: about {epochs:.0f} epochs, ") for line in promote)
    assert f"  successive halving, then the first fronts to the end: about {complete[-1]:.0f} trials in full" in promote
    limited = list(report.lines(read_space("budget.epochs_total=20"), 1))
    assert any(line.startswith("the search: about 20 epochs, ") for line in limited)
    assert not any("first fronts" in line for line in limited)


@pytest.mark.usefixtures("fast")
def test_the_report_says_that_data_and_a_gpu_are_missing(
    read_space: Callable[..., Space], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.storage.preconditions.has_gpu", lambda: False)
    monkeypatch.setattr("search.storage.preconditions.missing_data", lambda config: "get it with COMMAND")
    found = "\n".join(report.lines(read_space("resources={cpu: 1, gpu: 0.5}"), 1))
    assert "data missing: get it with COMMAND\n" in found
    assert "GPU missing: a trial asks for 0.5 GPU, and this machine has none; --set resources.gpu=0" in found


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0.52, "0.52 s"), (5, "5 s"), (99.6, "100 s"), (600, "10 min"), (9000, "2.5 h")],
        *[(10 * 86400, "10 days"), (99.6 * 86400, "100 days"), (9e7, "1,042 days")],
    ],
)
def test_times_are_in_their_usual_unit(seconds: float, text: str) -> None:
    assert report.clock(seconds) == text


def test_the_first_lines_come_before_torch_is_imported() -> None:
    code = (
        "import sys; from search.dry_run import report; from search.space import reader; "
        "lines = report.lines(reader.load('spaces/spikformer_cifar.yml'), None); next(lines), next(lines); "
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
