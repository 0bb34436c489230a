"""Functions of torch between layers: recorded, and executed without torch, they give torch's values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from config.errors import ConfigError
from models.chip.executor import execute
from models.chip.graph import Graph
from models.chip.tracing.functions import FUNCTIONS
from models.chip.tracing.recording import Recorder

STEPS = 3
SHAPE = (6, 4, 5)
Function = Callable[[Tensor], Tensor]
CHANNELS = torch.arange(1.0, 7.0, dtype=torch.float64)[:, None, None]
MAP = torch.linspace(-1.0, 1.0, 20, dtype=torch.float64).view(4, 5)


def written(x: Tensor) -> Tensor:
    out = MAP[:1, :1].expand(STEPS, 1, 6, 7, 8).clone()
    out[..., 1:-2, 2:-1] = x
    return out


EXPRESSED: dict[str, Function] = {
    "reshape": lambda x: x.reshape(STEPS, 1, 2, 3, 20).flatten(3),
    "steps folded into the batch": lambda x: x.flatten(0, 1).view(STEPS, 1, 6, 20),
    "unsqueeze, squeeze": lambda x: x.unsqueeze(2).transpose(2, 3).squeeze(3),
    "transpose": lambda x: x.transpose(-1, 2),
    "transpose of the batch": lambda x: x.transpose(1, 2),
    "permute": lambda x: x.permute(0, 1, 4, 2, 3),
    "groups of pixels": lambda x: x.reshape(STEPS, 1, 6, 2, 2, 5).permute(0, 1, 4, 2, 3, 5).reshape(STEPS, 2, 6, 2, 5),
    "chunk": lambda x: x.chunk(2, dim=2)[1],
    "split": lambda x: x.split(2, 3)[1],
    "split in parts of several sizes": lambda x: x.split([1, 3, 2], 2)[1],
    "slices": lambda x: x[:, :, 1:5:2, ..., -3:],
    "one of an axis": lambda x: x[:, :, -1],
    "sum": lambda x: x.sum((3, 4)),
    "sum kept": lambda x: x.sum(-1, keepdim=True),
    "mean": lambda x: x.mean((3, 4)),
    "factors": lambda x: (x * 0.5 / 3) * torch.tensor(2.0),
    "factors of channels": lambda x: CHANNELS * x,
    "sum of values with equal factors": lambda x: 2 * x.flatten(3) + (x * 2).flatten(3),
    "sum of values with other factors": lambda x: x + 0.25 * x,
    "a constant map": lambda x: MAP + x,
    "zero": lambda x: x + x.new_zeros(()),
    "cat": lambda x: torch.cat((x, 2 * x[:, :, :1]), 2),
    "stack": lambda x: torch.stack([x[:, :, 0], x[:, :, 1]], 4),
    "pad": lambda x: F.pad(x, (1, 0, 0, 2)),
    "pad with nothing": lambda x: F.pad(x, (0, 0)),
    "a border of other values": written,
    "all steps of a map": lambda x: x[:, :, :1].expand(STEPS, 1, 1, 4, 5) + x,
}
REFUSED: dict[str, tuple[Function, str]] = {
    "a step": (lambda x: x[:1].expand_as(x), "mixes time steps"),
    "a sum over steps": (lambda x: x.sum(0, keepdim=True), "mixes time steps"),
    "a sum over everything": (lambda x: x.sum(), "mixes time steps"),
    "steps as channels": (lambda x: x.transpose(0, 2), "mixes time steps"),
    "concatenated steps": (lambda x: torch.cat((x, x)), "mixes time steps"),
    "a sum over images": (lambda x: x.sum(1), "mixes the images"),
    "an index": (lambda x: x[:, :, torch.tensor([0, 1])], "selects values by an index"),
    "a product": (lambda x: x * x, "multiplies two values"),
    "a quotient": (lambda x: x / MAP, "divides by a value"),
    "a repeated row": (lambda x: x[..., :1, :].expand(-1, -1, -1, 4, -1), "repeats values along an axis"),
    "constants by step": (lambda x: x + torch.arange(3.0).view(3, 1, 1, 1, 1), "differ from step to step"),
    "an exponential": (torch.exp, "no operation for torch's exp"),
    "a value read": (lambda x: x * x[0, 0, 0, 0, 0].item(), "mixes time steps|torch's item"),
    "a border of -1": (lambda x: F.pad(x, (1, 1), value=-1.0), "pads with other values"),
}


def recorded(function: Function, x: Tensor) -> tuple[Graph, Tensor]:
    recorder = Recorder(STEPS, FUNCTIONS)
    recorder.bind(x, recorder.emit("input", [], {"shape": list(SHAPE), "kind": "events"}))
    with recorder:
        out = function(x)
    recorder.emit("readout", [recorder.plain(recorder.known(out))], {"steps": STEPS})
    return Graph(tuple(recorder.nodes.values()), STEPS), out


@pytest.fixture
def x() -> Tensor:
    return torch.randn(STEPS, 1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", EXPRESSED)
def test_what_is_expressed_gives_the_values_of_torch(name: str, x: Tensor) -> None:
    graph, out = recorded(EXPRESSED[name], x)
    run = execute(graph, x[:, 0].numpy())
    assert np.allclose(run.logits, out.reshape(run.logits.shape).numpy(), rtol=1e-14)


@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_steps_or_images_or_has_no_operation_is_refused(name: str, x: Tensor) -> None:
    function, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        recorded(function, x)


def test_moves_of_a_factor_need_no_operation(x: Tensor) -> None:
    graph, _ = recorded(lambda x: (x * 0.5).flatten(3).transpose(2, 3) * 4, x)
    assert [node.op for node in graph] == ["input", "reshape", "transpose", "scale", "readout"]
    assert graph.nodes[3].arrays["factor"] == 2.0
