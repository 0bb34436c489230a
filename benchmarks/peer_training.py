"""A plain PyTorch training of a Spikformer from SpikingJelly's parts, as its tutorial trains one.

Nothing of the trainer or the models of this project takes part: layers, neurons and attention are SpikingJelly's,
transforms torchvision's, optimizer and schedule PyTorch's. It supports what the recipes of `benchmarks.peers` use.

Shapes: `T` steps, `B` batch, `C` width, `N` tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from trainers.config import TrainConfig
from trainers.data.split import Split


def lif(threshold: float = 1.0) -> nn.Module:
    """Returns a layer of SpikingJelly's neurons, tau 2, with the reset detached from the gradient."""
    node: nn.Module = neuron.LIFNode(v_threshold=threshold, detach_reset=True, step_mode="m")
    return node


def folded(*modules: nn.Module) -> nn.Module:
    """Returns layers without state over [T, B, ...], which fold the steps into the batch."""
    container: nn.Module = layer.SeqToANNContainer(*modules)
    return container


def conv_norm(width_in: int, width_out: int) -> nn.Module:
    """Returns a 3x3 convolution and its batch norm."""
    return folded(nn.Conv2d(width_in, width_out, 3, padding=1, bias=False), nn.BatchNorm2d(width_out))


class Stem(nn.Module):
    """Spiking Patch Splitting: [T, B, channels, H, W] to [T, B, C, N]; the last log2(patch_size) convolutions pool."""

    def __init__(self, in_channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        widths = [in_channels, *(width // divisor for divisor in (8, 4, 2, 1))]
        first_pool = 4 - int(math.log2(patch_size))
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [conv_norm(widths[i], widths[i + 1]), lif()]
            layers += [folded(nn.MaxPool2d(3, 2, 1))] if i >= first_pool else []
        self.convs = nn.Sequential(*layers)
        self.position = nn.Sequential(conv_norm(width, width), lif())

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.convs(x)
        tokens: Tensor = (spikes + self.position(spikes)).flatten(3)
        return tokens


class Block(nn.Module):
    """Spiking self-attention and an MLP over [T, B, C, N], each added to its input."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.attn = layer.SpikingSelfAttention(width, num_heads)
        self.mlp = nn.Sequential(
            folded(nn.Conv1d(width, hidden, 1), nn.BatchNorm1d(hidden)), lif(),
            folded(nn.Conv1d(hidden, width, 1), nn.BatchNorm1d(width)), lif(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class Spikformer(nn.Module):
    """A classifier of still images [B, channels, H, W]; returns logits [B, K], the mean over T steps."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        assert isinstance(config.embed_dim, int)
        assert isinstance(config.num_heads, int)
        assert isinstance(config.depths, int)
        assert isinstance(config.mlp_ratio, float)
        width = config.embed_dim
        self.T = config.step
        self.stem = Stem(config.in_channels, width, config.patch_size)
        self.blocks = nn.Sequential(*(Block(width, config.num_heads, config.mlp_ratio) for _ in range(config.depths)))
        self.head = nn.Linear(width, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = images.expand(self.T, *images.shape)
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean(3)).mean(0)
        return logits


class Images(Dataset[tuple[Tensor, int]]):
    """Images of a split under torchvision's transforms, with random flips if `is_training`."""

    def __init__(self, split: Split, config: TrainConfig, *, is_training: bool) -> None:
        self.split = split
        flips = [v2.RandomHorizontalFlip(config.hflip)] if is_training and config.hflip else []
        convert = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(config.mean, config.std)]
        self.transform = v2.Compose([*flips, *convert])

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.split.images[index]), int(self.split.labels[index])


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns AdamW, without weight decay on biases and norms."""
    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    rest = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LambdaLR:
    """Returns linear warm-up, then a cosine over all epochs, stepped after each epoch."""

    def factor(epoch: int) -> float:
        if epoch < config.warmup_epochs:
            lr = config.warmup_lr + (config.lr - config.warmup_lr) * epoch / config.warmup_epochs
        else:
            half_cosine = 0.5 * (1.0 + math.cos(math.pi * epoch / config.epochs))
            lr = config.min_lr + (config.lr - config.min_lr) * half_cosine
        return lr / config.lr

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def make_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, smoothing: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the training step, from normalized images and labels to the loss."""
    loss_of = nn.CrossEntropyLoss(label_smoothing=smoothing)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = loss_of(model(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
        functional.reset_net(model)
        return loss.detach()

    return step


def train(config: TrainConfig, parts: tuple[Split, Split]) -> dict[str, float]:
    """Trains on the first part; returns accuracy, loss and spike rate on the second, and images per second."""
    torch.manual_seed(config.seed)
    model = Spikformer(config)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    step = make_step(model, optimizer, config.smoothing)
    data = Images(parts[0], config, is_training=True)
    loader = DataLoader(data, config.batch_size, shuffle=True, drop_last=True)
    started = time.process_time()
    for _ in range(config.epochs):
        model.train()
        for images, labels in loader:
            step(images, labels)
        schedule.step()
    seconds = time.process_time() - started
    trained = config.epochs * len(loader) * config.batch_size
    return {**evaluate(model, parts[1], config), "images_per_cpu_s": trained / seconds}


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, config: TrainConfig) -> dict[str, float]:
    """Returns accuracy in percent, cross-entropy, and spikes over neurons, steps and images."""
    model.eval()
    fired = count = 0.0

    def observe(module: nn.Module, inputs: Any, spikes: Tensor) -> None:
        nonlocal fired, count
        fired, count = fired + float(spikes.sum()), count + spikes.numel()

    hooks = [node.register_forward_hook(observe) for node in model.modules() if isinstance(node, neuron.LIFNode)]
    correct = loss = 0.0
    for images, labels in DataLoader(Images(split, config, is_training=False), config.val_batch_size):
        logits = model(images)
        functional.reset_net(model)
        correct += float((logits.argmax(1) == labels).sum())
        loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    for hook in hooks:
        hook.remove()
    return {"accuracy": 100.0 * correct / len(split), "loss": loss / len(split), "spike_rate": fired / count}
