"""Detection of stalled trainings."""

from __future__ import annotations

from search.execution.watchdog import Watchdog


class Watched:
    """A watchdog that is called every second of a simulated clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.watchdog = Watchdog()

    def pass_time(self, seconds: int) -> list[str]:
        """Returns the trainings that are stalled after some seconds."""
        found: list[str] = []
        for _ in range(seconds):
            self.now += 1
            found = [str(key) for key in self.watchdog.stalled(self.now)]
        return found

    def train(self, key: str, *epochs: int) -> None:
        """Starts a training whose epochs take these seconds."""
        self.watchdog.start(key, self.now)
        for seconds in epochs:
            assert not self.pass_time(seconds)
            self.watchdog.report(key, self.now)


def test_short_epochs_may_be_late_by_two_minutes() -> None:
    watched = Watched()
    watched.train("a", 1, 1, 1)
    assert not watched.pass_time(120)
    assert watched.pass_time(1) == ["a"]


def test_long_epochs_may_take_ten_times_their_median() -> None:
    watched = Watched()
    watched.train("a", 60, 20, 30, 40)
    assert not watched.pass_time(300)
    assert watched.pass_time(1) == ["a"]


def test_a_first_epoch_is_compared_with_first_epochs_which_include_the_start() -> None:
    watched = Watched()
    watched.train("a", 100, 2, 2)
    watched.watchdog.remove("a")
    watched.train("b")
    assert not watched.pass_time(1000)
    assert watched.pass_time(1) == ["b"]


def test_before_the_first_epoch_of_a_search_the_timeout_is_an_hour() -> None:
    watched = Watched()
    watched.train("a")
    assert not watched.pass_time(3600)
    assert watched.pass_time(1) == ["a"]


def test_a_report_or_a_new_start_resets_the_timeout() -> None:
    watched = Watched()
    watched.train("a", 1, 1)
    watched.pass_time(119)
    watched.watchdog.report("a", watched.now)
    assert not watched.pass_time(119)
    watched.watchdog.start("a", watched.now)
    assert not watched.pass_time(119)


def test_a_suspended_driver_does_not_blame_its_trials() -> None:
    watched = Watched()
    watched.train("a", 1, 1)
    watched.now += 10_000
    assert not watched.pass_time(1)


def test_an_ended_training_is_never_stalled() -> None:
    watched = Watched()
    watched.train("a", 1, 1)
    watched.watchdog.remove("a")
    assert not watched.pass_time(1000)
