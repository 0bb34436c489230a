"""NIR files run in other libraries: SpikingJelly's and snnTorch's readers give the executor's spikes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.chip.executor import Executor
from models.chip.lowering import frames

pytest.importorskip("nir")
nir_file = pytest.importorskip("models.chip.nir_file")

PACKAGES = ("nirtorch==2.6", "snntorch==1.0.0")
SCRIPT = Path(__file__).parents[2] / "support" / "nir_readers.py"
WITHOUT_ATTENTION = {"attn_layer": "identity", "patch_size": 1, "depths": 2, "step": 4}
"""A Spikformer whose layers both libraries have; neither has the maximum of a pool."""


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages that read NIR files, apart from this environment."""
    folder = tmp_path_factory.mktemp("readers")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip(f"{' and '.join(PACKAGES)} cannot be installed")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
def test_another_library_gives_the_same_spikes(
    library: str, readers: Path, lowered: Callable[..., Any], tmp_path: Path
) -> None:
    model, graph, images = lowered("spikformer_cifar", **WITHOUT_ATTENTION)
    assert nir_file.write(graph, tmp_path / "net.nir") == []
    executor = Executor(graph)
    for image in images:
        read = frames(model, image)
        np.save(tmp_path / "images.npy", read[None])
        command = [sys.executable, str(SCRIPT), library, *(str(tmp_path / name) for name in
                   ("net.nir", "images.npy", "found.npz"))]  # fmt: skip
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(readers)})
        run, found = executor.run(read, keep=True), np.load(tmp_path / "found.npz")
        assert run.spikes > 1000
        for name, spikes in run.outputs.items():
            np.testing.assert_array_equal(found[name].reshape(spikes.shape), spikes)
        np.testing.assert_allclose(found["output"].reshape(run.logits.shape), run.logits, atol=1e-6)
