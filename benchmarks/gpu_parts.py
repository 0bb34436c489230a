"""The parts of `benchmarks.gpu`: each fills a dictionary with what it finds on the GPU."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional
from torch import Tensor

from benchmarks import cuda_step, fused
from benchmarks.cuda_step import seconds, seconds_without_waiting
from benchmarks.variants import make_step
from models import create_model, registry
from models.config import ModelConfig
from models.cost.meter import Meter
from models.neurons.nodes import neuron_factory
from search.execution import memory_estimate
from search.space.feasibility import input_shape
from trainers import loop
from trainers.config import TrainConfig, load, recipe_path
from trainers.data import Split
from trainers.optimization.gpu_step import batch_statistics, untracked_norms, without_biases
from trainers.train import Training, train

Found = dict[str, Any]
ROUNDS = 10
ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0, "cooldown_epochs": 0}
SIZES = (("8x8", 64), ("32x32", 128))
"""Image size and batch of fused and concurrent trainings."""
COMPARED: dict[str, dict[str, Any]] = {
    "spikformer_cifar": {"embed_dim": 64, "num_heads": 4, "depths": 1},
    "sdt_cifar": {"embed_dim": 64, "num_heads": 4, "depths": 1},
    "qkformer_cifar": {},
    "maxformer_cifar": {},
    "spikingresformer_cifar": {},
    "tim_dvs": {"img_size": 32, "step": 4},
    "metaspikformer": {"img_size": 64},
    "sew_resnet18": {"img_size": 64},
}
TRAINED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("spikformer/cifar10", {}),
    ("spikformer/cifar10", {"embed_dim": 128, "num_heads": 4, "depths": 2}),
    ("qkformer/cifar10", {}),
    ("spikformer/digits", {}),
)


def env(found: Found) -> None:
    """The GPU, its context's memory, and its speed of copying, which limits neurons."""
    before = _used_gib()
    x = torch.zeros(8, 8, device="cuda")
    F.conv2d(x.view(1, 1, 8, 8), x[:1, :1].view(1, 1, 1, 1)) + (x @ x).view(1, 1, 8, 8)
    torch.cuda.synchronize()
    a = torch.empty(2**28, device="cuda")
    b = torch.empty_like(a)
    found |= {
        "capability": torch.cuda.get_device_capability(),
        "context_gib": _used_gib() - before,
        "copy_tb_s": 2e-12 * a.nbytes / seconds(lambda: b.copy_(a), ROUNDS),
    }


def _used_gib() -> float:
    free, total = torch.cuda.mem_get_info()
    return (total - free - torch.cuda.memory_reserved()) / 2**30


def neurons(found: Found) -> None:
    """Spikes and gradients of every neuron against the CPU's; in bf16 the share of spikes that differ."""
    for node in registry.NEURONS:
        acts = ("sigmoid", "atan", "rect") if "act_function" in registry.NEURON_KEYS[node] else (None,)
        for act in acts:
            keys = {"node_type": node, **({} if act is None else {"act_function": act})}
            found[f"{node} {act}"] = _compare_neuron(keys)


def _compare_neuron(keys: Found) -> Found:
    torch.manual_seed(0)
    layer: Any = neuron_factory(ModelConfig.model_validate({"model": "spikformer_cifar", "step": 4, **keys}))()
    x, grad = torch.randn(4, 8, 16, 4, 4) * 2, torch.randn(4, 8, 16, 4, 4)
    results: dict[str, tuple[Tensor, Tensor]] = {}
    for device in ("cpu", "cuda"):
        layer = layer.to(device)
        functional.reset_net(layer)
        inputs = x.to(device).requires_grad_()
        spikes = layer(inputs)
        (through,) = torch.autograd.grad(spikes, inputs, grad.to(device))
        results[device] = spikes.detach().cpu(), through.cpu()
    functional.reset_net(layer)
    half = layer(x.cuda().bfloat16())
    (spikes, through), (theirs, gradient) = results["cpu"], results["cuda"]
    return {
        "spikes_differ": int((spikes != theirs).sum()),
        "gradient_difference": _relative(gradient, through),
        "bf16_spikes_differ_share": float((half.float().cpu() != spikes).float().mean()),
        "bf16_dtype": str(half.dtype),
    }


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-12))


def models(found: Found) -> None:
    """Outputs, spikes and gradients of small models against the CPU's, in float32 without TF32."""
    for name, keys in COMPARED.items():
        with loop.full_precision():
            found[name] = _compare_model({"model": name, "num_classes": 10, **keys})


def _compare_model(keys: Found) -> Found:
    torch.manual_seed(0)
    model = create_model(keys)
    config = model.config
    frames = (config.step,) if config.in_channels == 2 else ()
    x, labels = torch.rand(4, *frames, config.in_channels, config.img_size, config.img_size), torch.arange(4)
    results: dict[str, tuple[Tensor, float, Tensor]] = {}
    for device in ("cpu", "cuda"):
        model.to(device).eval()
        with Meter(model) as meter:
            logits = meter.forward_steps(x.to(device)).cpu()
        model.train().zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x.to(device)), labels.to(device)))
        gradients = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        results[device] = logits, meter.totals(config.read_step)["spikes"], gradients
    (logits, spikes, gradients), (theirs, their_spikes, their_gradients) = results["cpu"], results["cuda"]
    return {
        "logits_difference": float((logits - theirs).abs().max()),
        "spikes_difference": abs(their_spikes - spikes) / max(spikes, 1e-9),
        "gradient_difference": _relative(their_gradients, gradients),
    }


def trains(found: Found) -> None:
    """Accuracy of four epochs of digits with and without mixed precision, as single trainings learn them on a CPU."""
    for amp in (True, False):
        config = load(recipe_path("spikformer/digits"), overrides=["epochs=4", f"amp={str(amp).lower()}"])
        metrics: list[dict[str, float]] = []
        train(config, lambda epoch, metrics=metrics: metrics.append(epoch.metrics))  # type: ignore[misc]
        found[f"amp={amp}"] = {key: metrics[-1][key] for key in ("accuracy", "spike_rate", "images_per_s")}


def kernels(found: Found) -> None:
    """Time of the neuron kernels over the time of copying the bytes that they must move, 10 a value."""
    layer: Any = neuron_factory(ModelConfig.model_validate({"model": "spikformer_cifar", "step": 4}))().cuda()
    x = torch.randn(4, 128, 192, 32, 32, device="cuda", dtype=torch.bfloat16).requires_grad_()
    grad = torch.randn_like(x)
    a = torch.empty(10 * x.numel() // 2, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)

    def work() -> None:
        layer.reset()
        torch.autograd.grad(layer(x), x, grad)

    found |= {"neuron_s": seconds(work, ROUNDS), "floor_s": seconds(lambda: b.copy_(a), ROUNDS)}
    found["over_floor"] = found["neuron_s"] / max(found["floor_s"], 1e-12)


def step(found: Found) -> None:
    """The step of Spikformer 4-384: eager, in a loop without waits, as a graph, and in channels-last memory."""
    found |= cuda_step.measure(ROUNDS)
    x, labels = cuda_step.batch()
    for name, model in cuda_step.models(torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            model.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it
            work = make_step(model, x, labels, torch.bfloat16, fused=True)
            found[f"{name} {str(layout).removeprefix('torch.')}"] = {
                "loop_s": seconds_without_waiting(work, ROUNDS),
                "graph_s": _graph_seconds(work),
            }


def _graph_seconds(work: Callable[[], object]) -> float:
    """Returns the GPU's own time of some work, captured once and replayed."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return seconds(graph.replay, ROUNDS)


def trainer(found: Found) -> None:
    """The trainer's epoch of some recipes on random images: augmentation, steps, evaluation; and CUDA graphs."""
    for recipe, keys in TRAINED:
        training = _training(recipe, keys, batches=40)
        learner, config = training.learner, training.config
        training.start_epoch(0)
        speed = loop.train_epoch(learner, training.data, config)
        first, step_s = next(training.data.shuffled(config.batch_size)), config.batch_size / speed["images_per_s"]
        found[f"{recipe} {keys}"] = {
            "images_per_s": speed["images_per_s"],
            "step_s": step_s,
            "is_graph": learner.graph is not None and learner.graph.is_worth_it,
            "augment_s": seconds(lambda learner=learner, first=first: learner.make_batch(*first), 5),  # type: ignore[misc]
            "evaluate_s": seconds(
                lambda t=training: loop.evaluate(t.learner.model, t.validation, t.learner.augment, t.config),  # type: ignore[misc]
                1,
            ),
        }
        _release()


def _training(recipe: str, keys: Found, batches: int) -> Training:
    base = load(recipe_path(recipe)).dump()
    config = TrainConfig.model_validate({**base, **keys, **ONE_EPOCH})
    count = batches * config.batch_size
    images = torch.randint(256, (count, *input_shape(config))).to(torch.uint8)
    data = Split(images, torch.arange(count) % config.num_classes)
    return Training(config, parts=(data, data.take(torch.arange(count // 4).numpy())))


def fused_groups(found: Found) -> None:
    """Eight trainings as one over one after the other."""
    for pixels, batch in SIZES:
        found[f"{pixels} b{batch}"] = fused.measure(fused.configs(8, batch, "cuda", pixels), 3, fused.gpu_clock)
        _release()


def processes(found: Found) -> None:
    """Steps per second of one process, and of four on the GPU."""
    for pixels, batch in SIZES:
        members = fused.configs(4, batch, "cuda", pixels)
        found[f"{pixels} b{batch}"] = {str(count): fused.in_processes(members[:count], 4.0) for count in (1, 4)}


def memory(found: Found) -> None:
    """Predicted memory, that of the tensors, and that which PyTorch reserved."""
    for recipe, keys in TRAINED:
        for amp in (True, False):
            _release()
            torch.cuda.reset_peak_memory_stats()
            training = _training(recipe, {**keys, "amp": amp}, batches=2)
            predicted = memory_estimate.predict(training.config, on_gpu=True)
            model = training.learner.model.train()
            with batch_statistics(untracked_norms(model)), without_biases(training.learner.left_out):
                for images, labels in training.data.shuffled(training.config.batch_size):
                    loop.train_step(training.learner, images, labels, training.config)
            found[f"{recipe} {keys} amp={amp}"] = {
                "predicted_gib": predicted.gib - predicted.data / 2**30,
                "allocated_gib": torch.cuda.max_memory_allocated() / 2**30,
                "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
            }
            del training, model


def _release() -> None:
    gc.collect()
    torch.cuda.empty_cache()


FAILURES = {
    "after a failed assertion": """
x = torch.zeros(4, device="cuda")
attempt(lambda: x[torch.tensor([9], device="cuda")].sum().item())
attempt(lambda: torch.zeros(4, device="cuda").sum().item())
print("context:", context_error())
""",
    "convolution on a full GPU": """
hold = torch.empty(int(torch.cuda.mem_get_info()[0]) - 300 * 2**20, dtype=torch.uint8, device="cuda")
attempt(lambda: torch.nn.functional.conv2d(torch.randn(256, 64, 32, 32, device="cuda"),
                                           torch.randn(64, 64, 3, 3, device="cuda")))
""",
    "product on a full GPU": """
hold = torch.empty(int(torch.cuda.mem_get_info()[0]) - 100 * 2**20, dtype=torch.uint8, device="cuda")
attempt(lambda: torch.randn(4096, 4096, device="cuda") @ torch.randn(4096, 4096, device="cuda"))
""",
}
ATTEMPT = """
import torch
from trainers.diagnostics.memory import context_error, is_out_of_memory
def attempt(work):
    try:
        work(); torch.cuda.synchronize(); print("works")
    except Exception as error:
        print(type(error).__name__, "oom" if is_out_of_memory(error) else "error", str(error).splitlines()[0][:160])
"""


def failures(found: Found) -> None:
    """What errors say, whether the process can continue, and how the project classifies them."""
    for name, program in FAILURES.items():
        done = subprocess.run(
            [sys.executable, "-c", ATTEMPT + program], capture_output=True, text=True, timeout=60, check=False
        )
        found[name] = [*done.stdout.splitlines()[-4:], *done.stderr.splitlines()[-1:]]
