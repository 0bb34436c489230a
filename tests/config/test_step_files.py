"""The benchmark's config files: each loads and builds, or is refused with the reason that the docs give.

The files are written from the facts of each: model, data set, neuron, stem, sizes and training keys.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from config.errors import ConfigError
from config.step_files import FILES
from models import create_model, from_config
from models.train_file import KEYS
from trainers.config import load
from trainers.document import status

CIFAR_10 = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]}
CIFAR_100 = {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]}
IMAGENET = {
    "num_classes": 1000, "img_size": 224, "patch_size": 16, "embed_dim": 512, "num_heads": 8, "depths": 8,
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "aa": "rand-m9-mstd0.5-inc1", "epochs": 300,
}  # fmt: skip
COMMON = {
    "data_dir": "data", "num_classes": 10, "img_size": 32, "crop_pct": 1.0, "scale": [1.0, 1.0], "ratio": [1.0, 1.0],
    "color_jitter": 0.0, "interpolation": "bicubic", "train_interpolation": "bicubic",
    "aa": "rand-m9-n1-mstd0.4-inc1", "epochs": 400, "mixup": 0.5, "mixup_off_epoch": 200, "mixup_prob": 1.0,
    "mixup_mode": "batch", "mixup_switch_prob": 0.5, "cutmix": 0.0, "reprob": 0.25, "remode": "const", "step": 4,
    "patch_size": 4, "in_channels": 3, "embed_dim": 384, "num_heads": 12, "mlp_ratio": 4, "attn_scale": 0.125,
    "mlp_drop": 0.0, "attn_drop": 0.0, "depths": 4, "tau": 2.0, "threshold": 1.0, "act_function": "SigmoidGrad",
    "node_type": "LIFNode", "alpha": 4.0, "amp": True, "batch_size": 128, "val_batch_size": 128, "lr": 5e-4,
    "min_lr": 1e-5, "sched": "cosine", "weight_decay": 6e-2, "cooldown_epochs": 10, "warmup_epochs": 20,
    "warmup_lr": 1e-5, "opt": "adamw", "smoothing": 0.1, "workers": 8, "seed": 42, "log_interval": 200,
    "output": "cls", "device": 0,
}  # fmt: skip
GREY = {"mean": [0.1307] * 3, "std": [0.3081] * 3, "in_channels": 1, "img_size": 28}
BY_DATASET: dict[str, dict[str, Any]] = {
    "torch/cifar10": CIFAR_10,
    "torch/cifar100": {**CIFAR_100, "num_classes": 100},
    "imagenet": IMAGENET,
    "mnist": {**GREY, "epochs": 200, "batch_size": 256, "val_batch_size": 256, "aa": None},
    "smnist": {**GREY, "sequence_length": 784, "aa": None},
    "psmnist": {**GREY, "sequence_length": 784, "aa": None},
    "scifar": {**CIFAR_10, "sequence_length": 1024},
    "esimnet": {"num_classes": 1000, "img_size": 224, "in_channels": 2, "step": 10},
    "ModelNet10": {"num_class": 10},
    "ModelNet40": {"num_class": 40},
}
EMA = {"model-ema": False, "model-ema-decay": 0.9998, "channels-last": False}
BY_FOLDER: dict[str, dict[str, Any]] = {
    "qkformer": {"num_heads": 8, "lr": 1e-3},
    "sdt": {"embed_dim": 512, "num_heads": 8, "depths": 2, "color_jitter": 0.5, "lr": 3e-4, **EMA},
    "sglformer": {"num_heads": 16, "depths": 1, "batch_size": 16, "val_batch_size": 16, "lr": 1e-3},
    "spikf_semm": {"num_heads": 8, "lr": 1e-3},
    "spikingformer": {"batch_size": 64, "val_batch_size": 64, "alpha": 4},
    "spikingresformer": {"aa": "rand-m7-n1-mstd0.5-inc1", "epochs": 600, "weight_decay": 0.01, "seed": 12450},
    "spt": {"epoch": 250, "learning_rate": 1e-3, "optimizer": "adam", "embed_dim": 512, "threshold": 0.2},
    "swformer": {"lr": 1.5e-3},
}
TIM = {
    "data_dir": "data", "dataset": "dvsc10", "num_classes": 10, "event_size": 64, "patch_size": 16, "model": "tim",
    "step": 10, "in_channels": 2, "embed_dim": 256, "num_heads": 16, "mlp_ratio": 4, "attn_scale": 0.25,
    "mlp_drop": 0.0, "attn_drop": 0.0, "depths": 2, "tim_alpha": 0.5, "tau": 2.0, "threshold": 1.0,
    "act_function": "SigmoidGrad", "node_type": "LIFNode", "alpha": 4.0, "batch_size": 16, "lr": 5e-4, "min_lr": 1e-5,
    "sched": "cosine", "weight_decay": 6e-2, "cooldown_epochs": 10, "warmup_epochs": 10, "warmup_lr": 1e-5,
    "opt": "adamw", "smoothing": 0.1, "workers": 4, "seed": 41, "device": 3, "log_interval": 200, "output": "cls",
    "epochs": 500,
}  # fmt: skip
BY_FILE: dict[str, dict[str, Any]] = {
    "neuron_model/spikformer_cifar10_HDLIF": {"threshold": 0.5},
    "qkformer/imgnet": {"num_heads": 6, "lr": 6e-4, "min_lr": 1e-6, "warmup_epochs": 5},
    "sdt/imgnet": {**IMAGENET, "opt": "lamb", "lr": 1.5e-3, "aa": "rand-m5-mstd0.5-inc1"},
    "spikf_semm/cifar10": CIFAR_100,
    "spikf_semm/imgnet": {"epochs": None, "epoch": 300},
    "sglformer/cifar100": {},
}
REASONS = {
    "qkformer/imgnet": "num_heads must divide embed_dim (got embed_dim=128, num_heads=6)",
    "spikf_semm/imgnet": "Did you mean epochs?",
    "spikformer/scifar10": "stem SP does not exist there either",
    "spikformer/esimgnet": "spikformer_es exchanges time and batch",
    "spt/modelnet10": "spt reads point clouds, which are another project",
    "spt/modelnet40": "spt reads point clouds, which are another project",
}
"""Part of the error for the files that are refused for more than a name that is not registered."""
PAIRS = {
    "spikformer/cifar10": {}, "spikformer/cifar100": {"epochs": 300},
    "spikformer/imgnet": {**IMAGENET, "model": "spikformer_imgnet", "epochs": None},
    "sdt/cifar10": {"model": "std_cifar", "epochs": 300, "warmup_lr": 1e-6, "amp": False},
    "spikingformer/cifar10": {}, "qkformer/cifar10": {}, "qkformer/cifar100": {}, "tim/dvsc10": {},
}  # fmt: skip
"""The files of the benchmark's two-file days, with what differs from its HEAD."""
SECOND_FILE = ("batch_size", "val_batch_size", "lr", "min_lr", "sched", "weight_decay", "opt", "workers", "device")


def content(name: str) -> dict[str, Any]:
    """Returns the keys and values of a file."""
    names, folder = FILES[name].names, name.split("/")[0]
    if folder == "tim":
        return dict(TIM)
    family = names["model"].rsplit("_", 1)[0] if folder == "neuron_model" else folder
    keys = {**COMMON, **BY_FOLDER.get(family, {}), **BY_DATASET[names["dataset"]], **BY_FILE.get(name, {}), **names}
    return {key: value for key, value in keys.items() if value is not None}


def write(folder: Path, keys: dict[str, Any]) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.yml"
    path.write_text(yaml.safe_dump(keys))
    return path


def build(path: Path, second: Path | None = None) -> int:
    """Returns the number of parameters of the model of a file, or of a pair, built without memory."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return sum(parameter.numel() for parameter in create_model(load(path, second)).parameters())


def test_all_53_files_are_listed() -> None:
    assert len(FILES) == 53
    assert REASONS.keys() == {name for name, file in FILES.items() if file.refused}


@pytest.mark.filterwarnings("ignore:.*the benchmark")
@pytest.mark.parametrize("name", FILES)
def test_a_file_loads_and_builds_or_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    path, told = write(tmp_path, content(name)), status(FILES[name])
    if told.startswith("loads"):
        assert build(path) > 0
        return
    with pytest.raises(ConfigError) as caught:
        load(path)
    missing = told.split()[-1]
    assert REASONS.get(name, missing) in str(caught.value)


@pytest.mark.parametrize("name", PAIRS)
def test_an_older_pair_loads_and_builds(name: str, tmp_path: Path) -> None:
    keys = {key: value for key, value in {**content(name), **PAIRS[name]}.items() if value is not None}
    second = {key: keys.pop(key) for key in SECOND_FILE if key in keys}
    assert build(write(tmp_path, keys), write(tmp_path, second)) > 0


def test_sizes_that_the_model_of_the_benchmark_ignores_are_ignored_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, content("spikingresformer/cifar10"))
    with pytest.warns(UserWarning, match=r"spikingresformer_cifar ignores embed_dim, num_heads, depths; its own sizes"):
        config = load(path)
    assert (config.embed_dim, config.num_heads, config.depths) == ((64, 192, 384), (1, 3, 6), 6)
    with pytest.warns(UserWarning, match="its own sizes are built"), torch.device("meta"):
        assert sum(parameter.numel() for parameter in from_config(path).parameters()) == build(path) == 10_793_152


def test_a_model_of_which_the_benchmark_has_its_own_version_is_that_one_with_a_warning(tmp_path: Path) -> None:
    keys = content("swformer/cifar10")
    with pytest.warns(UserWarning, match=r"model: swformer_cifar is the benchmark's own version here"):
        config = load(write(tmp_path, keys))
    assert (config.variant, config.attn_layer, config.wavelet_groups) == ("step", "FATM_binary", 16)
    assert build(write(tmp_path, keys)) == 7_022_458
    for chosen in ({"variant": "authors"}, {"dataset": "cifar10", "act_function": "sigmoid"}):
        config = load(write(tmp_path, {**keys, **chosen}))
        assert (config.variant, config.attn_layer) == ("authors", "FATM")


def test_other_sizes_of_the_same_model_count(tmp_path: Path) -> None:
    path = write(tmp_path, {**content("spikingresformer/cifar10"), "num_heads": 2})
    config = load(path)
    assert (config.embed_dim, config.num_heads, config.depths) == (384, 2, 4)


def test_a_model_of_another_project_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, content("spt/modelnet40")))
    assert str(caught.value).endswith("model: the benchmark's model spt reads point clouds, which are another project")
    assert "\n" not in str(caught.value)


def test_the_sequence_length_is_said_to_follow_from_the_data_set(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="sequence_length: .*it follows from the data set"):
        load(write(tmp_path, {**content("spikformer/cifar10"), "sequence_length": 1024}))


def test_three_equal_statistics_stand_for_the_one_channel_of_grey_images(tmp_path: Path) -> None:
    config = load(write(tmp_path, content("spikformer/mnist")))
    assert (config.mean, config.std) == ((0.1307,), (0.3081,))
    with pytest.raises(ConfigError, match="one value per channel"):
        load(write(tmp_path, {**content("spikformer/mnist"), "mean": [0.1, 0.2, 0.3]}))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *(("time_steps", "step"), ("time_step", "step"), ("time-step", "step"), ("T", "step"), ("timesteps", "step")),
        *(("layer", "depths"), ("layers", "depths"), ("num_layers", "depths"), ("dim", "embed_dim")),
        *(
            ("embed_dims", "embed_dim"),
            ("input_size", "img_size"),
            ("img_h", "img_size"),
            ("num-classes", "num_classes"),
        ),
        *(("num_class", "num_classes"), ("nb_classes", "num_classes"), ("num-heads", "num_heads")),
        *(("mlp_ratios", "mlp_ratio"), ("in_chans", "in_channels"), ("patch-size", "patch_size")),
        *(("batch-size", "batch_size"), ("epoch", "epochs"), ("learning_rate", "lr"), ("optimizer", "opt")),
        *(
            ("weight-decay", "weight_decay"),
            ("data_path", "data_dir"),
            ("data-path", "data_dir"),
            ("drop_rate", "mlp_drop"),
        ),
        *(("FL_blocks", "wavelet_groups"), ("haar_vth", "attn_threshold")),
        *(("num_workers", "workers"), ("model_name", "model"), ("spike_mode", "node_type")),
    ],
)
def test_a_key_of_the_authors_files_leads_to_the_key_here(theirs: str, ours: str, tmp_path: Path) -> None:
    assert ours in KEYS
    with pytest.raises(ConfigError, match=rf"{theirs}: unknown key\. Did you mean {ours}\?"):
        load(write(tmp_path, {**content("spikformer/cifar10"), theirs: 4}))
