"""Training of one config: set-up, then for each epoch train, evaluate, save and report."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from config.errors import ConfigError
from models import create_model
from models.cost.counters import largest_level
from models.cost.meter import count_parameters
from models.neurons.compiled import compile_neurons
from models.parts.backbone import SpikingModel
from trainers import checkpoint, loop, optim
from trainers.augment.images import distorted, make_augment
from trainers.config import TrainConfig
from trainers.data import Data, DataError, load_test, load_train
from trainers.diagnostics.health import Health
from trainers.diagnostics.memory import keep_freed_memory, peak_gib, reset_peak, use_expandable_segments
from trainers.diagnostics.probe import Probe, routes
from trainers.epoch_metrics import EpochMetrics, OnEpoch
from trainers.exits.points import plan, plan_for_test
from trainers.exits.settings import DEFAULTS, ExitSettings
from trainers.optimization.gpu_step import GraphedStep, convs_before_norms, is_capturable, prefers_channels_last
from trainers.optimization.initial_weights import load_initial_weights
from trainers.optimization.weight_ema import WeightEMA
from trainers.seeding import seed_everything


def train(
    config: TrainConfig,
    on_epoch: OnEpoch = lambda epoch: None,
    folder: Path | None = None,
    on_batch: loop.OnBatch | None = None,
    parts: tuple[Data, Data] | None = None,
    *,
    keep_best: bool = False,
    exits: ExitSettings = DEFAULTS,
) -> SpikingModel:
    """Trains to `config.epochs` and returns the model; metrics go to `on_epoch`, which may raise to end the training.

    The model is the measured one: with `model_ema` the one with averaged weights.

    With a `folder`, every epoch is saved there, and an interrupted training resumes from the last one, to the same bits
    on the CPU; `on_epoch` then gets the last saved epoch once more. `parts` are the training and validation data if
    they are loaded already; they are not changed. With `keep_best`, the epoch of the best validation accuracy (the
    first of equals) stays in the folder too. If the config has an exit rule, `exits` says how many exit points are
    measured. Raises TrainingFailure, DataError, ConfigError.
    """
    training = Training(config, folder, parts, keep_best=keep_best, exits=exits)
    for epoch in range(training.resume(on_epoch), config.epochs):
        training.start_epoch(epoch)
        speed = loop.train_epoch(training.learner, training.data, config, on_batch, training.probe.step)
        metrics = training.evaluate(epoch, speed)
        training.save(metrics)
        on_epoch(metrics)
    return training.model


class Training:
    """State of one training, and the work before and after each epoch."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path | None = None,
        parts: tuple[Data, Data] | None = None,
        *,
        keep_best: bool = False,
        exits: ExitSettings = DEFAULTS,
    ) -> None:
        self.config, self.folder, self.keep_best, self.exits = config, folder, keep_best, exits
        self.best_accuracy = -1.0
        self.device = prepare(config)
        reset_peak(self.device)
        self.data, validation = (part.to(self.device) for part in parts or load_train(config))
        self.calibration = calibration_split(self.data, config)
        self.validation = distorted(validation, config, config.split_seed)

        seed_everything(config.seed, epoch=0)
        model = create_model(config).to(self.device)
        if config.compile and self.device.type == "cpu":
            compile_neurons(model)
        elif config.compile:
            warnings.warn("compile: true has no effect on a GPU; leave it out", stacklevel=2)
        check_read_out(model, config)
        optimizer = optim.make_optimizer(model, config)
        self.schedule = optim.make_schedule(optimizer, config)
        self.learner = loop.Learner(
            model, optimizer, optim.make_loss(config), optim.make_mixup(config), make_augment(config, self.device)
        )
        if self.device.type == "cuda":
            self._set_up_gpu(model)
        if config.model_ema:
            self.learner.ema = WeightEMA(model, config.model_ema_decay)
        self.health = Health(routes(model), largest_level(model))
        self.probe = Probe(model, self.health)

    @property
    def model(self) -> SpikingModel:
        """Returns the model that is measured and saved: the trained one, or with `model_ema` its average."""
        return self.learner.model if self.learner.ema is None else self.learner.ema.model

    def _set_up_gpu(self, model: SpikingModel) -> None:
        """Prepares faster steps (docs/gpu.md). Data-parallel training undoes what it cannot use."""
        if prefers_channels_last(self.config):
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.learner.left_out = convs_before_norms(model)
        if is_capturable(self.learner.optimizer):
            step = functools.partial(loop.update, self.learner, config=self.config)
            self.learner.graph = GraphedStep(step, self.learner.optimizer)

    def resume(self, on_epoch: OnEpoch) -> int:
        """Loads the newest checkpoint, if any, passes its epoch to `on_epoch`, and returns the number of epochs done.

        Without a checkpoint, the weights of `initial_checkpoint` are loaded, if the config has one.

        It is loaded to the CPU: model and optimizer copy their tensors to the device, and AdamW keeps its counts here.
        """
        state = None if self.folder is None else checkpoint.load_newest(self.folder)
        if state is None:
            load_initial_weights(self.learner.model, self.config)
            if self.learner.ema is not None:
                self.learner.ema.model.load_state_dict(self.learner.model.state_dict())
            return 0
        if ("ema" in state) != self.config.model_ema:
            text = f"its checkpoints are of another model_ema (got model_ema={str(self.config.model_ema).lower()})"
            raise ConfigError(f"{self.folder}: {text}")
        try:
            if self.learner.ema is None:
                self.model.load_state_dict(state["model"])
            else:
                self.learner.ema.load_state_dict(state["model"], state["ema"])
            optim.load_state(self.learner.optimizer, state["optimizer"])
        except (RuntimeError, ValueError):
            text = "its checkpoints are of another model or optimizer than the config's"
            raise ConfigError(f"{self.folder}: {text}") from None
        self.health.last_faults, self.best_accuracy = state["health"], state["best"]
        metrics = EpochMetrics(**state["report"])
        on_epoch(metrics)
        return metrics.epoch

    def start_epoch(self, epoch: int) -> None:
        """Seeds the generators for the epoch, and sets its learning rate."""
        seed_everything(self.config.seed, epoch + 1)
        self.schedule.step(epoch)
        mixup, off = self.learner.mixup, self.config.mixup_off_epoch
        if mixup is not None and off and epoch >= off:
            mixup.mixup_enabled = False
        self.probe.epoch = epoch

    def evaluate(self, epoch: int, speed: dict[str, float]) -> EpochMetrics:
        """Re-estimates batch norm, measures on the validation part and checks the health. Raises TrainingFailure."""
        model, augment = self.model, self.learner.augment
        if self.learner.ema is not None:
            self.learner.ema.copy_buffers()
        loop.recalibrate(model, self.calibration, augment, self.config.batch_size)
        if len(self.validation):
            is_last = epoch + 1 == self.config.epochs
            exits = plan(self.config, self.exits if is_last else replace(self.exits, points=1))
            found = loop.evaluate(model, self.validation, augment, self.config, exits)
            if is_last and self.config.measure_int8:
                from trainers.measurement.integers import with_integer_accuracy

                rows = with_integer_accuracy(found.read_outs, model, self.validation, augment, self.config)
                found = replace(found, read_outs=rows)
        else:
            found = loop.Evaluation({"loss": speed["loss"]}, [], [])
        costs = {
            "params_m": count_parameters(model) / 1e6,
            "images_per_s": speed["images_per_s"],
            "peak_mem_gib": peak_gib(self.device) / speed.get("members", 1),
        }
        metrics = EpochMetrics(epoch + 1, {**found.metrics, **costs}, found.read_outs, found.layers, found.exits)
        self.probe.check_epoch(metrics.metrics, metrics.layers)
        return metrics

    def save(self, metrics: EpochMetrics) -> None:
        """Saves all that the next epoch depends on, if the training has a folder."""
        if self.folder is None:
            return
        accuracy = metrics.metrics.get("accuracy", -1.0)
        is_best, self.best_accuracy = accuracy > self.best_accuracy, max(accuracy, self.best_accuracy)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "health": self.health.last_faults,
            "best": self.best_accuracy,
            "report": vars(metrics),
        }
        if self.learner.ema is not None:
            state["ema"] = self.learner.ema.state_dict()
        if is_best and self.keep_best:
            checkpoint.save_best(self.folder, state)
        checkpoint.save(self.folder, metrics.epoch, state)


def prepare(config: TrainConfig) -> torch.device:
    """Sets the process's threads and memory; returns the config's device.

    Without a GPU this is the CPU, with a warning if the config asks for a GPU. Raises ConfigError if no GPU has the
    config's index.
    """
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    use_expandable_segments()
    if config.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if config.device is not None:
            warnings.warn(f"device: {config.device}: no GPU is available; the training runs on the CPU", stacklevel=3)
        return torch.device("cpu")
    index, count = config.device if isinstance(config.device, int) else 0, torch.cuda.device_count()
    if index >= count:
        raise ConfigError(f"device must be below {count}, the number of GPUs of this machine (got {index})")
    return torch.device("cuda", index)


def calibration_split(data: Data, config: TrainConfig) -> Data:
    """Returns the fixed training images from which batch norm is re-estimated after each epoch."""
    size = min(len(data), config.batch_size)
    wanted = size * min(len(data) // size, loop.CALIBRATION_BATCHES)  # full batches have equal weight in the mean
    chosen = data.take(np.random.default_rng(config.split_seed).permutation(len(data))[:wanted])
    return distorted(chosen, config, config.split_seed + 1)


def check_read_out(model: SpikingModel, config: TrainConfig) -> None:
    """Raises ConfigError if the output cannot be read before the last step."""
    if config.read_step < config.step and not model.is_causal:
        raise ConfigError(
            f"read_step must equal step where a step's output depends on later ones "
            f"(got read_step={config.read_step}, step={config.step}, node_type={config.node_type})"
        )


def measure_test(model: SpikingModel, config: TrainConfig, exits: Iterable[Mapping[str, Any]] = ()) -> loop.Evaluation:
    """Measures on the test set at every read-out, and with the thresholds of the exit points of the training.

    This reads the test set: do it once, at the end.
    """
    return measure(model, config, load_test(config), exits)


def measure(
    model: SpikingModel, config: TrainConfig, data: Data, exits: Iterable[Mapping[str, Any]] = ()
) -> loop.Evaluation:
    """Measures on data that are evaluated as they are, at every read-out and with the thresholds of exit points.

    Raises DataError if there are none.
    """
    if not len(data):
        raise DataError(f"{config.dataset}: there is no test image")
    device = next(model.parameters()).device
    data = distorted(data.to(device), config, config.split_seed)
    return loop.evaluate(model, data, make_augment(config, device), config, plan_for_test(config, exits))
