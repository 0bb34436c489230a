"""The story of one training: data, model, optimizer, and for each epoch train, measure, save, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from config.errors import ConfigError
from models import create_model
from models.cost.counters import largest_level
from models.cost.meter import count_parameters
from models.neurons.compiled import compile_neurons
from models.parts.backbone import SpikingModel
from trainers import checkpoint, loop, optim
from trainers.augment.images import distort_once, make_augment
from trainers.config import TrainConfig
from trainers.data.sources import Data, DataError, Split, load_test, load_train
from trainers.diagnostics import probe
from trainers.diagnostics.health import Health
from trainers.diagnostics.memory import keep_freed_memory, peak_gib, restart_peak
from trainers.epoch_metrics import EpochMetrics, OnEpoch
from trainers.seeding import seed_everything


def train(
    config: TrainConfig,
    on_epoch: OnEpoch = lambda epoch: None,
    folder: Path | None = None,
    on_batch: loop.OnBatch | None = None,
    parts: tuple[Data, Data] | None = None,
    *,
    keep_best: bool = False,
) -> SpikingModel:
    """Trains to `config.epochs` and returns the model; metrics go to `on_epoch`, which may raise to end the training.

    With a `folder`, every epoch is saved there and a training that was interrupted goes on from the last one, to the
    same bits on the CPU; its `on_epoch` is then told the last saved epoch again. `parts` are the training and the
    validation data, where they are already at hand, and are not changed. With `keep_best` the epoch of the best
    validation accuracy, the first of equals, stays in the folder too. Raises TrainingFailure, DataError,
    ConfigError.
    """
    training = Training(config, folder, parts, keep_best=keep_best)
    for epoch in range(training.resume(on_epoch), config.epochs):
        training.begin(epoch)
        speed = loop.train_epoch(training.learner, training.data, config, on_batch, training.watch.step)
        on_epoch(training.finish(epoch, speed))
    return training.learner.model


class Training:
    """All that one training needs, set up as its config says, and what is done before and after each epoch."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path | None = None,
        parts: tuple[Data, Data] | None = None,
        *,
        keep_best: bool = False,
    ) -> None:
        self.config = config
        self.device = prepare(config)
        restart_peak(self.device)
        self.data, validation = (part.to(self.device) for part in parts or load_train(config))
        self.fixed = calibration_split(self.data, config)
        self.validation = distorted(validation, config, config.split_seed)

        seed_everything(config.seed, epoch=0)
        model = create_model(config).to(self.device)
        if config.compile and self.device.type == "cpu":
            compile_neurons(model)
        check_read_out(model, config)
        optimizer = optim.make_optimizer(model, config)
        self.schedule = optim.make_schedule(optimizer, config)
        self.learner = loop.Learner(
            model, optimizer, optim.make_loss(config), optim.make_mixup(config), make_augment(config, self.device)
        )
        self.watch = probe.Probe(model, Health(probe.routes(model), largest_level(model)))
        self._saved = _Saved(folder, self.learner, self.watch, keep_best)

    def resume(self, on_epoch: OnEpoch) -> int:
        """Goes back to the last saved epoch, tells `on_epoch` of it, and returns how many epochs are done."""
        return self._saved.resume(on_epoch)

    def begin(self, epoch: int) -> None:
        """Seeds the generators for the epoch, and sets its learning rate."""
        seed_everything(self.config.seed, epoch + 1)
        self.schedule.step(epoch)
        mixup, off = self.learner.mixup, self.config.mixup_off_epoch
        if mixup is not None and off and epoch >= off:
            mixup.mixup_enabled = False
        self.watch.epoch = epoch

    def finish(self, epoch: int, speed: dict[str, float]) -> EpochMetrics:
        """Measures what the epoch made of the model, and saves it. Raises TrainingFailure."""
        loop.recalibrate(self.learner.model, self.fixed, self.learner.augment, self.config.batch_size)
        report = _measure(self.learner, self.validation, self.config, speed, epoch + 1)
        self.watch.check(report.metrics, report.layers)
        self._saved.save(report)
        return report


def prepare(config: TrainConfig) -> torch.device:
    """Sets up the process's threads and memory; returns the device asked for where it exists, else what there is."""
    torch.set_num_threads(config.threads)
    keep_freed_memory()
    if not torch.cuda.is_available() or config.device == "cpu":
        return torch.device("cpu")
    index = config.device if isinstance(config.device, int) and config.device < torch.cuda.device_count() else 0
    return torch.device("cuda", index)


def calibration_split(data: Data, config: TrainConfig) -> Data:
    """Returns the fixed training images from which batch norm is re-estimated after each epoch."""
    size = min(len(data), config.batch_size)
    wanted = size * min(len(data) // size, loop.CALIBRATION_BATCHES)  # whole batches: all count alike in the mean
    chosen = data.take(np.random.default_rng(config.split_seed).permutation(len(data))[:wanted])
    return distorted(chosen, config, config.split_seed + 1)


def distorted(data: Data, config: TrainConfig, seed: int) -> Data:
    """Returns the data with fixed distortions, where the config distorts."""
    return distort_once(data, seed) if config.distort and isinstance(data, Split) else data


def check_read_out(model: SpikingModel, config: TrainConfig) -> None:
    """Raises ConfigError when the output cannot be read before the last step."""
    if config.read_step < config.step and not model.is_causal:
        raise ConfigError(
            f"read_step must equal step where a step's output depends on later ones "
            f"(got read_step={config.read_step}, step={config.step}, node_type={config.node_type})"
        )


def evaluate_test(model: SpikingModel, config: TrainConfig) -> dict[str, float]:
    """Returns the metrics on the test set, at read_step. This reads the test set: do it once, at the end."""
    return measure_test(model, config).metrics


def measure_test(model: SpikingModel, config: TrainConfig) -> loop.Evaluation:
    """Measures on the test set, at every read-out: this reads it, once for all of them."""
    device = next(model.parameters()).device
    data = load_test(config).to(device)
    if not len(data):
        raise DataError(f"{config.dataset}: there is no test image")
    return loop.evaluate(model, distorted(data, config, config.split_seed), make_augment(config, device), config)


def _measure(
    learner: loop.Learner, validation: Data, config: TrainConfig, speed: dict[str, float], epoch: int
) -> EpochMetrics:
    model = learner.model
    known = {
        "params_m": count_parameters(model) / 1e6,
        "images_per_s": speed["images_per_s"],
        "peak_mem_gib": peak_gib(next(model.parameters()).device) / speed.get("members", 1),
    }
    if not len(validation):
        return EpochMetrics(epoch, {"loss": speed["loss"], **known}, [], [])
    found = loop.evaluate(model, validation, learner.augment, config)
    return EpochMetrics(epoch, {**found.metrics, **known}, found.read_outs, found.layers)


@dataclass
class _Saved:
    """The state of a training in its folder, if it has one: all that the next epoch depends on."""

    folder: Path | None
    learner: loop.Learner
    watch: probe.Probe
    keep_best: bool
    best: float = -1.0

    def save(self, report: EpochMetrics) -> None:
        if self.folder is None:
            return
        accuracy = report.metrics.get("accuracy", -1.0)
        is_best, self.best = accuracy > self.best, max(accuracy, self.best)
        state = {
            "model": self.learner.model.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "health": self.watch.health.before,
            "best": self.best,
            "report": vars(report),
        }
        if is_best and self.keep_best:
            checkpoint.save_best(self.folder, state)
        checkpoint.save(self.folder, report.epoch, state)

    def resume(self, on_epoch: OnEpoch) -> int:
        """Loads the newest checkpoint, tells `on_epoch` of its epoch, and returns how many epochs are done.

        It is read to the CPU: model and optimizer copy what belongs on a card there, and AdamW leaves its counts here.
        """
        state = checkpoint.load_newest(self.folder) if self.folder is not None else None
        if state is None:
            return 0
        try:
            self.learner.model.load_state_dict(state["model"])
            self.learner.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError):
            raise ConfigError(
                f"{self.folder}: its checkpoints are of another model or optimizer than the config's"
            ) from None
        self.watch.health.before, self.best = state["health"], state["best"]
        report = EpochMetrics(**state["report"])
        on_epoch(report)
        return report.epoch
