"""Config files of the BrainCog/STEP benchmark at its HEAD: the names that they use, and why some are refused here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepFile:
    """A file of the benchmark: its names of model, data set, neuron and stem, and the reason if it is refused."""

    names: Mapping[str, str]
    refused: str = ""
    note: str = ""
    """What differs from the benchmark when the file is trained here."""


@dataclass(frozen=True)
class StepFolder:
    """The files of one folder that share a model."""

    model: str
    datasets: Mapping[str, str] = field(default_factory=dict)
    """The data set of each file of this folder."""
    stems: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, StepFile]:
        """Returns the files by name."""
        found = {}
        for name, dataset in self.datasets.items():
            names = {"model": self.model, "dataset": dataset, "node_type": "LIFNode"}
            if name in self.stems:
                names["embed_layer"] = self.stems[name]
            found[name] = StepFile(names, self.refused.get(name, ""), self.notes.get(name, ""))
        return found


_CIFAR = {"cifar10": "torch/cifar10", "cifar100": "torch/cifar100"}
_IMAGENET = {"imgnet": "imagenet"}
_SEQUENCES = {"smnist": "smnist", "psmnist": "psmnist", "scifar10": "scifar"}
_SEQUENTIAL = dict.fromkeys(_SEQUENCES, "sequential_embed")
_POINTS = "the model reads point clouds, which are another project"
_OWN_SIZES = "the benchmark's model ignores embed_dim, num_heads and depths: its own sizes are built, with a warning"

_FOLDERS: dict[str, tuple[StepFolder, ...]] = {
    "qkformer": (
        StepFolder("qkformer_cifar", _CIFAR),
        StepFolder(
            "qkformer_imagenet", _IMAGENET, refused={"imgnet": "6 heads do not divide the width 128, nor there"}
        ),
    ),
    "sdt": (
        StepFolder("sdt_cifar", _CIFAR | _SEQUENCES, _SEQUENTIAL),
        StepFolder("std_imagenet", _IMAGENET),
    ),
    "sglformer": (StepFolder("sglformer_cifar", _CIFAR),),
    "spikf_semm": (
        StepFolder("spikf_semm_cifar", _CIFAR | _SEQUENCES, _SEQUENTIAL),
        StepFolder(
            "spikf_semm_imagenet",
            _IMAGENET,
            refused={"imgnet": "it has the key epoch, which the benchmark never reads (it trains 300): write epochs"},
        ),
    ),
    "spikformer": (
        StepFolder(
            "spikformer_cifar",
            _CIFAR | {"mnist": "mnist"} | _SEQUENCES,
            {**_SEQUENTIAL, "scifar10": "SP"},
            refused={"scifar10": "the stem SP exists neither here nor there: write sequential_embed"},
            notes={"mnist": "the benchmark also flips the digits; here hflip is 0 by default"},
        ),
        StepFolder("spikformer_imagenet", _IMAGENET),
        StepFolder(
            "spikformer_es",
            {"esimgnet": "esimnet"},
            refused={"esimgnet": "the model exchanges time and batch, and has 10 steps where its data set has 8"},
        ),
    ),
    "spikingformer": (StepFolder("spikingformer_cifar", _CIFAR),),
    "spikingresformer": (StepFolder("spikingresformer_cifar", _CIFAR, notes=dict.fromkeys(_CIFAR, _OWN_SIZES)),),
    "spt": (
        StepFolder(
            "spt",
            {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40"},
            refused=dict.fromkeys(("modelnet10", "modelnet40"), _POINTS),
        ),
    ),
    "swformer": (StepFolder("swformer_cifar", _CIFAR),),
    "tim": (StepFolder("tim", {"dvsc10": "dvsc10"}),),
}

_NEURONS = {
    "CLIF": "ComplementaryLIFNeuron", "GLIF": "GLIFTorch", "KLIF": "KLIFNode", "PLIF": "PLIFNode", "PSN": "PSNTorch",
}  # fmt: skip
_MORE_NEURONS = _NEURONS | {"ILIF": "ILIFNode", "NILIF": "NILIFNode", "EIF": "EIFNode", "HDLIF": "HDLIFNode"}
_NEURON_STUDIES = {"sdt": _NEURONS, "spikf_semm": _NEURONS, "spikformer": _MORE_NEURONS}

FILES: dict[str, StepFile] = {
    f"neuron_model/{family}_cifar10_{short}": StepFile(
        {"model": f"{family}_cifar", "dataset": "torch/cifar10", "node_type": neuron}
    )
    for family, neurons in _NEURON_STUDIES.items()
    for short, neuron in neurons.items()
} | {
    f"{folder}/{name}": file
    for folder, parts in _FOLDERS.items()
    for part in parts
    for name, file in part.files().items()
}
"""The benchmark's 53 files below cls/configs, by path without ending."""
