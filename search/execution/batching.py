"""Trial batches: trials of one shape that train as one batched model, at most `fuse` of them.

A batch ends when one of its members ends or pauses. The others resume from their checkpoints in the next batch, with
new trials in the free slots, so a batch needs no messages from the driver while it trains.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from config.distributions import Categorical, Distribution
from config.errors import ConfigError
from search.messages import TrialTask
from search.space.space import Space
from trainers.config import TrainConfig
from trainers.fused.eligibility import PER_MEMBER_KEYS, obstacle, shape

if TYPE_CHECKING:
    from search.storage.study import Study

AUTO_SIZE = 8
AUTO_MAX_VALUES = 2**17
"""Largest training step, in batch x steps x tokens x width, that `auto` fuses; benchmarks.fused shows no gain above."""
AUTO_MAX_VALUES_ON_GPU = 2**21
"""The same on a GPU, where fusing gains while launches of kernels limit the speed: an estimate (docs/gpu.md)."""
AUTO_MAX_SHAPES = 4
"""Largest number of shapes in a space that `auto` fuses: with more, few trials would share one."""

OBSTACLE_KEYS = frozenset(
    {
        *("node_type", "act_function", "attn_layer", "attn_scale", "attn_drop", "mlp_drop", "opt", "compile"),
        *("quant_bits", "encoding", "batch_size"),
    }
)
"""Keys that may prevent fusing; if one is searched, other trials of the space may fuse."""


class TrialBatches:
    """Combines the study's next tasks into batches of one shape."""

    def __init__(self, study: Study, size: int) -> None:
        self.study = study
        self.size = size
        self._queue: list[TrialTask] = []
        self._epochs_at_start: dict[int, int] = {}
        self._alone: set[int] = set()

    def next(self) -> list[TrialTask]:
        """Returns the tasks that train together next, or none if nothing can start now.

        At most as many tasks of other shapes are queued as a batch has members.
        """
        self._queue = [task for task in self._queue if self._is_running(task)]
        first = self._queue.pop(0) if self._queue else self.study.next_task()
        if first is None:
            return []
        shape_key = self._shape(first)
        if shape_key is None:
            return [first]
        alike = [task for task in self._queue if self._shape(task) == shape_key][: self.size - 1]
        self._queue = [task for task in self._queue if task not in alike]
        batch = [first, *alike]
        while max(len(batch), len(self._queue)) < self.size and (task := self.study.next_task()) is not None:
            (batch if self._shape(task) == shape_key else self._queue).append(task)
        if len(batch) > 1:
            self._epochs_at_start |= {task.number: self.study.trials[task.number].epoch for task in batch}
        return batch

    def requeue(self, batch: Sequence[TrialTask]) -> None:
        """Queues the members that are still running. One without a new epoch in its batch trains alone."""
        for task in filter(self._is_running, batch):
            self._queue.append(task)
            if self.study.trials[task.number].epoch == self._epochs_at_start[task.number]:
                self._alone.add(task.number)

    def _is_running(self, task: TrialTask) -> bool:
        return self.study.trials[task.number].state == "running"

    def _shape(self, task: TrialTask) -> Hashable:
        """Returns what the members of a batch share, or None for a task that trains alone."""
        if self.size == 1 or task.number in self._alone:
            return None
        return shape_of(task.config, on_gpu=self.study.space.settings.resources.gpu > 0)


def batch_positions(configs: Sequence[Mapping[str, Any]], size: int, slots: int) -> list[list[int]]:
    """Returns the positions of configs that train as one: of one shape, at most `size`, spread over all `slots`."""
    alike: dict[Hashable, list[int]] = {}
    for position, config in enumerate(configs):
        key = shape_of(config) if size > 1 else None
        alike.setdefault(position if key is None else key, []).append(position)
    length = max(min(size, math.ceil(len(configs) / max(slots, 1))), 1)
    return [found[first : first + length] for found in alike.values() for first in range(0, len(found), length)]


def shape_of(config: Mapping[str, Any], *, on_gpu: bool = False) -> Hashable:
    """Returns what the members of a batch share, or None for a config that trains alone."""
    checked = TrainConfig.model_validate(config)
    return None if obstacle(checked, on_gpu=on_gpu) is not None else shape(checked)


def max_batch_size(space: Space) -> int:
    """Returns how many trials may train as one. Raises ConfigError if `fuse` is set but no trial can be fused."""
    wanted = space.settings.fuse
    if wanted == "auto":
        return 1 if why_not(space) is not None else AUTO_SIZE
    if wanted == 1 or OBSTACLE_KEYS.intersection(space.searched_keys()):
        return wanted
    if (reason := obstacle(space.example, on_gpu=space.settings.resources.gpu > 0)) is not None:
        raise ConfigError(f"fuse: no trial of this space can be fused: {reason}. Leave fuse out")
    return wanted


def description(space: Space) -> str:
    """Returns the effect of `fuse` in this space. Raises ConfigError like `max_batch_size`."""
    if space.settings.fuse == "auto" and (reason := why_not(space)) is not None:
        return f"fuse: auto trains each trial alone: {reason}"
    return f"fuse: up to {max_batch_size(space)} trials of one shape train as one"


def why_not(space: Space) -> str | None:
    """Returns the reason why `auto` trains each trial alone, or None if it fuses."""
    on_gpu = space.settings.resources.gpu > 0
    if (reason := obstacle(space.example, on_gpu=on_gpu)) is not None:
        return reason
    if (count := shapes(space.keys)) > AUTO_MAX_SHAPES:
        return f"the space has {count:g} shapes, so few trials would share one (at most {AUTO_MAX_SHAPES})"
    limit = AUTO_MAX_VALUES_ON_GPU if on_gpu else AUTO_MAX_VALUES
    if (values := step_values(space)) > limit:
        return f"steps are too large to gain (batch x steps x tokens x width = {values:g}, at most {limit})"
    return None


def shapes(keys: Mapping[str, Distribution]) -> float:
    """Returns the number of combinations of the keys that members of a batch must share."""
    count = 1.0
    for key, distribution in keys.items():
        if isinstance(distribution, Categorical) and distribution.conditional:
            count *= sum(shapes(inner) for inner in distribution.conditional)
        elif key not in PER_MEMBER_KEYS:
            count *= distribution.count()
    return count


def step_values(space: Space) -> float:
    """Returns the size of the largest training step: batch x steps x tokens x width."""
    config = space.example

    def values(key: str) -> list[float]:
        distribution = space.keys.get(key)
        found = getattr(config, key) if distribution is None else distribution.test_values()
        return [value for inner in _as_list(found) for value in _as_list(inner)]

    tokens = (config.img_size / min(values("patch_size"))) ** 2
    return max(values("batch_size")) * max(values("step")) * tokens * max(values("embed_dim"))


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]
