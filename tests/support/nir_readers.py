"""Runs a NIR file in another library, step by step: python nir_readers.py LIBRARY FILE IMAGES.npy OUT.npz

OUT gets the outputs of each node of neurons, [T, B, ...], by their names in the file, and the output of each step,
`output`. It is a script, run in an environment of its own: this project's environment has neither library's readers.
"""

from __future__ import annotations

import sys
from typing import Any

import nir
import numpy as np
import torch


def _spikingjelly(path: str) -> Any:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return import_from_nir(path, dtype=torch.float64)


def _snntorch(path: str) -> Any:
    from snntorch.import_nir import import_from_nir

    return import_from_nir(nir.read(path))


LIBRARIES = {"spikingjelly": _spikingjelly, "snntorch": _snntorch}
NEURONS = ("_NIRStatefulModule", "Leaky")
"""Classes of neurons in both."""


def main(library: str, path: str, images: str, out: str) -> None:
    """Writes the outputs of the file's network for images [B, C, H, W], shown at each step."""
    graph = nir.read(path)
    net = LIBRARIES[library](path)
    names = {name.replace(".", "_"): name for name in graph.nodes}
    found: dict[str, list[Any]] = {}
    for name, module in net.named_modules():
        if type(module).__name__ in NEURONS:

            def keep(module: Any, inputs: Any, output: Any, *, name: str = names.get(name, name)) -> None:
                found.setdefault(name, []).append(output[0].numpy())

            module.register_forward_hook(keep)
    x, state = torch.from_numpy(np.load(images)), None
    x = x.float() if library == "snntorch" else x  # which has float32 only
    with torch.no_grad():
        for _ in range(int(graph.metadata["steps"])):
            output, state = net(x, state)
            found.setdefault("output", []).append(output.numpy())
    arrays: Any = {name: np.stack(values) for name, values in found.items()}
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
