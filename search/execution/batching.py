"""Which trials train together as one batched model: those of one shape, up to `fuse` of them.

A group lasts until one of its members ends or waits; the others then go into the next group from their checkpoints,
with new trials in the free places. So a group needs no word with the driver but its reports.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from config.distributions import Categorical, Distribution
from config.errors import ConfigError
from search.messages import TrialTask
from search.space.random_sampling import example
from search.space.space import Space
from trainers.config import TrainConfig
from trainers.fused.eligibility import OF_EACH, obstacle, shape

if TYPE_CHECKING:
    from search.storage.study import Study

AUTO_SIZE = 8
AUTO_VALUES = 2**17
"""The largest step, in batch x steps x tokens x width, that `auto` fuses: up to there benchmarks.fused shows a gain."""
AUTO_SHAPES = 4
"""The most shapes of a space at which `auto` still finds trials that go together."""

CURABLE = frozenset(
    {"node_type", "act_function", "attn_layer", "attn_scale", "attn_drop", "mlp_drop", "opt", "compile"}
)
"""Keys whose value may be the obstacle; where one is searched, other trials may be without."""


class TrialBatches:
    """Hands out the study's tasks in groups."""

    def __init__(self, study: Study, size: int) -> None:
        self.study = study
        self.size = size
        self._waiting: list[TrialTask] = []
        self._began: dict[int, int] = {}
        self._alone: set[int] = set()

    def next(self) -> list[TrialTask]:
        """Returns the tasks that train together next; none where nothing can start now.

        It asks the study ahead for as many tasks of other shapes as a group has places.
        """
        self._waiting = [task for task in self._waiting if self._runs(task)]
        first = self._waiting.pop(0) if self._waiting else self.study.next_task()
        if first is None:
            return []
        group, key = [first], self._shared_shape(first)
        if key is not None:
            alike = [task for task in self._waiting if self._shared_shape(task) == key][: self.size - 1]
            self._waiting = [task for task in self._waiting if task not in alike]
            group += alike
        while key is not None and max(len(group), len(self._waiting)) < self.size:
            task = self.study.next_task()
            if task is None:
                break
            (group if self._shared_shape(task) == key else self._waiting).append(task)
        if len(group) > 1:
            self._began |= {task.number: self.study.trials[task.number].epoch for task in group}
        return group

    def requeue(self, group: Sequence[TrialTask]) -> None:
        """Takes back the members of a group that still run. One that did not get on in its group trains alone."""
        for task in group:
            if self._runs(task):
                self._waiting.append(task)
                if self.study.trials[task.number].epoch == self._began[task.number]:
                    self._alone.add(task.number)

    def _runs(self, task: TrialTask) -> bool:
        return self.study.trials[task.number].state == "running"

    def _shared_shape(self, task: TrialTask) -> Hashable:
        """Returns what the members of a group share, None for a task that trains alone."""
        if self.size == 1 or task.number in self._alone:
            return None
        return _shape(task.config)


def batch_positions(configs: Sequence[Mapping[str, Any]], size: int, slots: int) -> list[list[int]]:
    """Returns the positions of train files that train as one: of one shape, at most `size`, spread over all `slots`."""
    alike: dict[Hashable, list[int]] = {}
    for position, config in enumerate(configs):
        key = _shape(config) if size > 1 else None
        alike.setdefault(position if key is None else key, []).append(position)
    most = max(min(size, math.ceil(len(configs) / max(slots, 1))), 1)
    return [found[first : first + most] for found in alike.values() for first in range(0, len(found), most)]


def _shape(config: Mapping[str, Any]) -> Hashable:
    """Returns what the members of a group share, None for a config that trains alone."""
    checked = TrainConfig.model_validate(config)
    return None if obstacle(checked) is not None else shape(checked)


def max_batch_size(space: Space) -> int:
    """Returns how many trials may train as one. Raises ConfigError where the file asks for what no trial can do."""
    wanted = space.settings.fuse
    if wanted == "auto":
        return 1 if why_not(space) is not None else AUTO_SIZE
    if wanted == 1 or CURABLE & set(space.searched_keys()):
        return wanted
    if (reason := obstacle(example(space))) is not None:
        raise ConfigError(f"fuse: no trial of this space can be one of several: {reason}. Leave fuse out")
    return wanted


def description(space: Space) -> str:
    """Returns what `fuse` comes to in this space. Raises ConfigError as `size` does."""
    if space.settings.fuse == "auto" and (reason := why_not(space)) is not None:
        return f"fuse: auto trains each trial alone: {reason}"
    return f"fuse: up to {max_batch_size(space)} trials of one shape train as one"


def why_not(space: Space) -> str | None:
    """Returns in a sentence why `auto` lets each trial train alone, or None where fusing pays."""
    reason = obstacle(example(space))
    if reason is not None:
        return reason
    if space.settings.resources.gpu:
        return "what it gains on a GPU has not been measured"
    found = shapes(space.keys)
    if found > AUTO_SHAPES:
        return f"the space has {found:g} shapes, so few trials would go together (at most {AUTO_SHAPES})"
    values = step_values(space)
    if values > AUTO_VALUES:
        return f"steps are too large to gain (batch x steps x tokens x width = {values:g}, at most {AUTO_VALUES})"
    return None


def shapes(keys: Mapping[str, Distribution]) -> float:
    """Returns in how many ways the keys that members of a group must share can be drawn."""
    found = 1.0
    for key, domain in keys.items():
        if isinstance(domain, Categorical) and domain.conditional:
            found *= sum(shapes(opened) for opened in domain.conditional)
        elif key not in OF_EACH:
            found *= domain.count()
    return found


def step_values(space: Space) -> float:
    """Returns the size of the largest training step: batch x steps x tokens x width."""
    config = example(space)

    def values(key: str) -> list[float]:
        domain = space.keys.get(key)
        found = getattr(config, key) if domain is None else domain.test_values()
        return [value for many in _flat(found) for value in _flat(many)]

    tokens = (config.img_size / min(values("patch_size"))) ** 2
    return max(values("batch_size")) * max(values("step")) * tokens * max(values("embed_dim"))


def _flat(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]
