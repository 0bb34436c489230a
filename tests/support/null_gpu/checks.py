"""Trainings on the null GPU: `python -m tests.support.null_gpu.checks NAME...` prints their findings as JSON.

Kernels compute nothing there, so values that a training reads back are replaced: losses are finite, and no layer is
silent.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from config.errors import ConfigError
from search.execution import memory_estimate
from search.space.feasibility import input_shape
from tests.support.null_gpu import counters, layer_checks
from tests.support.null_gpu.layer_checks import Findings
from tests.support.small_models import shrink
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Split
from trainers.datasets import TIMM_LOADED
from trainers.diagnostics import memory
from trainers.diagnostics.health import Health
from trainers.epoch_metrics import EpochMetrics
from trainers.fused.training import FusedJob, Outcome, train_fused
from trainers.loop import train_epoch
from trainers.train import Training, prepare, train

ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0, "cooldown_epochs": 0}
RECIPES = Path("trainers/recipes")
_is_finite = torch.isfinite


def accept_any_result() -> None:
    """Lets a training pass its checks of values that no kernel has computed."""
    torch.isfinite = lambda x: torch.ones(x.shape, dtype=torch.bool) if x.is_cuda else _is_finite(x)  # type: ignore[assignment]
    Health.check_batch = lambda self, activities, gradients, batch: None  # type: ignore[method-assign]
    Health.check = lambda self, metrics, layers, batch: None  # type: ignore[method-assign]


def make_config(recipe: str, **keys: Any) -> TrainConfig:
    """Returns a recipe's config for one epoch, with some keys changed."""
    return TrainConfig.model_validate({**load(recipe_path(recipe)).dump(), **ONE_EPOCH, **keys})


def make_data(config: TrainConfig, batches: int) -> tuple[Split, Split]:
    """Returns training and validation data of random values, enough for so many batches."""
    count = batches * config.batch_size
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, *input_shape(config)), generator=generator)
    images = pixels.float() if config.dataset in TIMM_LOADED else pixels.to(torch.uint8)
    data = Split(images, torch.arange(count) % config.num_classes)
    return data, data


def train_recipe(recipe: str, **keys: Any) -> Findings:
    """Trains, evaluates and measures a recipe for one epoch of two small batches."""
    config = make_config(recipe, **{"batch_size": 2, "val_batch_size": 3, **keys})
    found: list[EpochMetrics] = []
    counters.reset()
    started = time.monotonic()
    model = train(config, found.append, parts=make_data(config, 2))
    launches = counters.read()["launches"]
    devices = {parameter.device.type for parameter in model.parameters()}
    return {
        "epochs": len(found),
        "devices": sorted(devices),
        "launches": launches,
        "peak_mem_gib": found[-1].metrics["peak_mem_gib"],
        "seconds": time.monotonic() - started,
    }


def small_recipes() -> Findings:
    """One recipe with and without mixed precision."""
    return {f"amp={amp}": train_recipe("spikformer/digits", amp=amp) for amp in (True, False)}


def all_recipes() -> Findings:
    """Every recipe with and without mixed precision, and the error of those that fail."""
    found: Findings = {}
    for path in sorted(RECIPES.rglob("*.yml")):
        recipe = path.relative_to(RECIPES).with_suffix("").as_posix()
        for amp in (True, False):
            try:
                found[f"{recipe} amp={amp}"] = train_recipe(recipe, amp=amp)
            except Exception as error:
                found[f"{recipe} amp={amp}"] = {"error": f"{type(error).__name__}: {error}"[:300]}
                traceback.print_exc(limit=-3)
            gc.collect()
            torch.cuda.empty_cache()
    return found


def families() -> Findings:
    """A small model of each recipe family with and without mixed precision."""
    found: Findings = {}
    for folder in sorted(path for path in RECIPES.iterdir() if path.is_dir()):
        recipe = f"{folder.name}/{min(folder.glob('*.yml')).stem}"
        keys = shrink(load(recipe_path(recipe)).model)
        del keys["num_classes"]
        for amp in (True, False):
            found[f"{folder.name} amp={amp}"] = train_recipe(recipe, amp=amp, **keys)
    return found


def fused_group() -> Findings:
    """Three small trainings as one, with and without mixed precision: the epochs of each, or its error."""
    found: Findings = {}
    for amp in (True, False):
        configs = [make_config("spikformer/digits", amp=amp, batch_size=8, seed=k, tau=1.5 + k) for k in range(3)]
        outcomes: dict[Hashable, Outcome] = {}
        counters.reset()
        train_fused(
            {k: FusedJob(config) for k, config in enumerate(configs)},
            lambda epoch, outcomes=outcomes: outcomes.update(epoch) or (),  # type: ignore[misc]
            make_data(configs[0], 2),
        )
        epochs = [found.epoch if isinstance(found, EpochMetrics) else repr(found) for found in outcomes.values()]
        found[f"amp={amp}"] = {"epochs": epochs, "launches": counters.read()["launches"]}
    return found


def counts() -> Findings:
    """The figures of `benchmarks.gpu --null`."""
    from benchmarks import gpu_counts

    return dict(gpu_counts.count())


def errors() -> Findings:
    """The messages for lack of memory and for a lost context, and what the project makes of them."""
    x = torch.zeros(64, 64, device="cuda")
    image, weight = torch.zeros(1, 8, 8, 8, device="cuda"), torch.zeros(8, 8, 3, 3, device="cuda")
    found: Findings = {"working": memory.context_error()}
    library: dict[str, tuple[str, int, Callable[[], Tensor]]] = {
        "cublas": ("cublas", 3, lambda: x @ x),
        "cudnn": ("cudnnBackendExecute", 4004, lambda: F.conv2d(image, weight)),
        "cudnn of the host": ("cudnnBackendExecute", 4003, lambda: F.conv2d(image, weight)),
    }
    for name, (prefix, status, work) in library.items():
        counters.fail_library(prefix, status)
        found[name] = _reaction(work)
        counters.fail_library("", 0)
    found["allocator"] = _reaction(lambda: torch.empty(2**40, dtype=torch.uint8, device="cuda"))
    torch.cuda.set_per_process_memory_fraction(0.25)
    found["share"] = _reaction(lambda: torch.empty(2**35, dtype=torch.uint8, device="cuda"))
    torch.cuda.set_per_process_memory_fraction(1.0)
    found["whole"] = int(torch.empty(2**35, dtype=torch.uint8, device="cuda").numel() > 0)
    segments: Any = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
    found["expandable"] = all(segment["is_expandable"] for segment in segments)
    gc.collect()
    torch.cuda.empty_cache()
    counters.break_context(is_broken=True)
    found["lost"] = _reaction(lambda: x + x)
    found["context"] = memory.context_error()
    counters.break_context(is_broken=False)
    return found


def settings() -> Findings:
    """What a training says of keys that mean something else, or nothing, on a GPU."""
    config = make_config("spikformer/digits", compile=True, embed_dim=16, num_heads=2, depths=1)
    found: Findings = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Training(config, parts=make_data(config, 1))
    found["compile"] = [str(warning.message) for warning in caught if "compile" in str(warning.message)]
    try:
        prepare(config.model_copy(update={"device": torch.cuda.device_count()}))
    except ConfigError as error:
        found["device"] = str(error)
    return found


def memory_estimates() -> Findings:
    """Allocated over predicted memory of a training step, for neurons with and without kernels."""
    found: Findings = {}
    for node_type in ("LIFNode", "PSN", "HDLIFNode", "IELIFNode"):
        for amp in (True, False):
            config = make_config(
                "spikformer/cifar10", node_type=node_type, amp=amp, batch_size=16, embed_dim=64, num_heads=4, depths=1
            )
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            parts = make_data(config, 2)
            training = Training(config, parts=parts)
            predicted = memory_estimate.predict(config, on_gpu=True)
            train_epoch(training.learner, training.data, config)
            allocated = torch.cuda.max_memory_allocated() - parts[0].images.nbytes
            found[f"{node_type} amp={amp}"] = allocated / (predicted.gib * 2**30 - predicted.data)
    return found


def _reaction(work: Callable[[], Tensor]) -> Findings:
    try:
        work()
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        return {"text": first, "is_oom": memory.is_out_of_memory(error)}
    return {"text": None, "is_oom": False}


def graphed_epochs() -> Findings:
    """Two small trainings of three epochs: the step becomes a graph in each of them, but for probed batches."""
    config = make_config("spikformer/digits", epochs=3, batch_size=8, log_interval=1000)
    reserved: list[float] = []
    left: list[int] = []
    counters.reset()
    for _ in range(2):
        train(config, lambda epoch: reserved.append(epoch.metrics["peak_mem_gib"]), parts=make_data(config, 40))
        memory.release_memory()
        left.append(torch.cuda.memory_allocated())
    found = counters.read()
    return {
        "graph_launches": found["graph_launches"],
        "refused": found["refused_in_capture"],
        "batches": 240,
        "reserved_gib": reserved[:3],
        "left_bytes": left,
    }


CHECKS: dict[str, Callable[[], Findings]] = {
    check.__name__: check
    for check in (
        *(errors, small_recipes, families, all_recipes, fused_group, counts, graphed_epochs),
        *(layer_checks.neurons, layer_checks.half_precision, layer_checks.fused_convolutions),
        *(layer_checks.shared_norms, settings, memory_estimates),
    )
}


def main(names: list[str]) -> None:
    """Runs the checks and prints their findings in the last line."""
    memory.use_expandable_segments()
    accept_any_result()
    found: Findings = {}
    for name in names:
        found[name] = CHECKS[name]()
        memory.release_memory()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
