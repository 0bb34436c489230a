"""Training time of the configs of a space, from timed steps of a few of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from search.dry_run.sampling import SizedConfig
from search.space.feasibility import input_shape
from trainers import loop, optim
from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.datasets import TIMM_LOADED, TRAIN_IMAGES
from trainers.diagnostics.memory import is_out_of_memory

OPERATIONS_PER_NEURON = 250.0
"""Operations that take as long as one neuron in one step, with its norm and gradients: 200 to 300 on one CPU thread."""
EVALUATED = 0.4
"""Time of an image in an evaluation, with its counts, over that in a training step."""
TIMED_SHARES, TIMED_S = (0.0, 0.5, 0.9), 3.0
"""Positions of the timed configs in the order of their work, and the CPU seconds that all but the first must keep."""
STEP_S, FIRST_IMAGES = 0.5, 2
"""A CPU first takes a step of two images, then of as many as take half a second, at most a batch."""
GPU_WARM_UP, GPU_STEPS = 3, 5
"""Steps on a GPU: the first ones compile kernels. They have whole batches, as launches take most of a small step."""


def seconds_per_epoch(sized: Sequence[SizedConfig]) -> list[float]:
    """Returns the seconds of an epoch of each config on this machine, its evaluation included.

    The configs nearest to the ends and the middle are timed, if that does not take too long; each config takes the
    speed of the timed one that is nearest in work.
    """
    ordered = sorted(sized, key=_work)
    candidates = [ordered[round(share * (len(ordered) - 1))] for share in TIMED_SHARES]
    speeds: dict[float, float] = {}
    started = time.process_time()
    for found in candidates:
        expected_s = (2 * FIRST_IMAGES * _work(found) / max(speeds.values())) if speeds else 0.0
        if speeds and time.process_time() - started + expected_s > TIMED_S:
            break
        speeds[_work(found)] = _work(found) / seconds_per_image(found.config)
    nearest = [min(speeds, key=lambda work: abs(math.log(work / _work(found)))) for found in sized]
    return [
        images_per_epoch(found.config) * _work(found) / speeds[work] for found, work in zip(sized, nearest, strict=True)
    ]


def _work(sized: SizedConfig) -> float:
    """Returns the work of a training step per image, in operations."""
    return sized.cost["operations"] + OPERATIONS_PER_NEURON * sized.activations


def images_per_epoch(config: TrainConfig) -> float:
    """Returns the images of an epoch; those of the evaluation, and of new statistics of batch norm, count in part."""
    validation = config.val_fraction * TRAIN_IMAGES[config.dataset]
    train = config.num_train_images()
    return train + EVALUATED * (validation + min(loop.CALIBRATION_BATCHES * config.batch_size, train))


def seconds_per_image(config: TrainConfig) -> float:
    """Returns the training time per image in seconds, measured in steps on random images.

    On the CPU it is the time of this thread, which does not count the machine's other load. On a GPU, a batch that does
    not fit is halved.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(config.threads)
    learner = make_learner(config, device)
    if device.type == "cpu":
        size = min(FIRST_IMAGES, config.batch_size)
        step_s = _seconds_per_step(learner, config, size, warm_up=1, steps=1)
        if (larger := min(config.batch_size, int(size * STEP_S / step_s) // 2 * 2)) <= size:
            return step_s / size
        return _seconds_per_step(learner, config, larger, warm_up=1, steps=1) / larger
    size = config.batch_size
    while True:
        try:
            return _seconds_per_step(learner, config, size, GPU_WARM_UP, GPU_STEPS) / size
        except RuntimeError as error:
            if not is_out_of_memory(error) or size < 4:
                raise
        size //= 2
        torch.cuda.empty_cache()


def make_learner(config: TrainConfig, device: torch.device) -> loop.Learner:
    """Returns what a training step of the config needs."""
    from models import create_model

    model = create_model(config).to(device)
    return loop.Learner(
        model,
        optim.make_optimizer(model, config),
        optim.make_loss(config),
        optim.make_mixup(config),
        make_augment(config, device),
    )


def _seconds_per_step(learner: loop.Learner, config: TrainConfig, size: int, warm_up: int, steps: int) -> float:
    device = next(learner.model.parameters()).device
    dtype = torch.float32 if config.dataset in TIMM_LOADED else torch.uint8
    images = torch.randint(256, (size, *input_shape(config)), device=device).to(dtype)
    labels = torch.randint(config.num_classes, (size,), device=device)
    for _ in range(warm_up):
        float(loop.train_step(learner, images, labels, config))
    clock = time.thread_time if device.type == "cpu" else time.monotonic
    started = clock()
    losses = [loop.train_step(learner, images, labels, config) for _ in range(steps)]
    float(losses[-1])  # waits for the device
    return (clock() - started) / steps
