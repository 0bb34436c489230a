"""When a training counts as standing still."""

from __future__ import annotations

from search.execution.watchdog import Watchdog


class Watched:
    """A watchdog that looks every second, and the time that passes for it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.dog = Watchdog()

    def wait(self, seconds: int) -> list[str]:
        """Lets seconds pass and returns who stands still at their end."""
        found: list[str] = []
        for _ in range(seconds):
            self.now += 1
            found = [str(key) for key in self.dog.stalled(self.now)]
        return found

    def train(self, key: str, *epochs: int) -> None:
        """Starts a training whose epochs take so many seconds."""
        self.dog.started(key, self.now)
        for seconds in epochs:
            assert not self.wait(seconds)
            self.dog.reported(key, self.now)


def test_short_epochs_may_be_late_by_two_minutes() -> None:
    watched = Watched()
    watched.train("a", 1, 1, 1)
    assert not watched.wait(120)
    assert watched.wait(1) == ["a"]


def test_long_epochs_may_take_ten_times_their_median() -> None:
    watched = Watched()
    watched.train("a", 60, 20, 30, 40)
    assert not watched.wait(300)
    assert watched.wait(1) == ["a"]


def test_a_first_epoch_is_compared_with_first_epochs_which_include_the_start() -> None:
    watched = Watched()
    watched.train("a", 100, 2, 2)
    watched.dog.ended("a")
    watched.train("b")
    assert not watched.wait(1000)
    assert watched.wait(1) == ["b"]


def test_before_any_epoch_was_seen_an_hour_is_waited() -> None:
    watched = Watched()
    watched.train("a")
    assert not watched.wait(3600)
    assert watched.wait(1) == ["a"]


def test_a_report_or_a_new_start_ends_the_waiting() -> None:
    watched = Watched()
    watched.train("a", 1, 1)
    watched.wait(119)
    watched.dog.reported("a", watched.now)
    assert not watched.wait(119)
    watched.dog.started("a", watched.now)
    assert not watched.wait(119)


def test_a_driver_that_slept_does_not_blame_its_trials() -> None:
    watched = Watched()
    watched.train("a", 1, 1)
    watched.now += 10_000
    assert not watched.wait(1)


def test_who_has_ended_never_stands_still() -> None:
    watched = Watched()
    watched.train("a", 1, 1)
    watched.dog.ended("a")
    assert not watched.wait(1000)
