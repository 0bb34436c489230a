"""Weights files: every wrapping gives the same tensors, and files with more than tensors are refused unread."""

from __future__ import annotations

import argparse
import os
import pickle
import shlex
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from config.errors import ConfigError
from models.published.weights_file import read_weights, unwrap

STATE = {"blocks.0.weight": torch.arange(6.0).view(2, 3), "head.bias": torch.ones(2)}
OLD = {key: -value for key, value in STATE.items()}


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in STATE.items()}


WRAPPINGS: dict[str, tuple[Any, str]] = {
    "alone": (STATE, ""),
    "an OrderedDict": (OrderedDict(STATE), ""),
    "of this trainer": ({"model": STATE, "optimizer": {"state": {}}, "health": {}, "best": 1.0, "report": {}}, "model"),
    "of this trainer's averages": ({"model": STATE, "ema": {"trained": OLD, "num_updates": 3}}, "model"),
    "of timm": ({"epoch": 3, "arch": "spikformer", "state_dict": STATE, "version": 2, "metric": 93.1}, "state_dict"),
    "averages of timm": ({"state_dict": OLD, "state_dict_ema": STATE}, "state_dict_ema"),
    "averages that were not kept": ({"model": STATE, "model_ema": None}, "model"),
    "averages beside the model": ({"model": OLD, "model_ema": STATE, "scaler": {}}, "model_ema"),
    "in two layers": ({"model": {"state_dict": STATE}}, "model.state_dict"),
    "of data-parallel training": ({"state_dict": prefixed("module.")}, "state_dict"),
    "of a compiled model": (prefixed("_orig_mod."), ""),
    "of a compiled part": ({"blocks._orig_mod.0.weight": STATE["blocks.0.weight"], "head.bias": torch.ones(2)}, ""),
    "of compiled data-parallel training": (prefixed("module._orig_mod."), ""),
    "of Lightning": ({"state_dict": prefixed("model.")}, "state_dict"),
    "of torch's averages": ({"n_averaged": torch.tensor(3), **prefixed("module.")}, ""),
}


@pytest.mark.parametrize(("content", "wrapping"), WRAPPINGS.values(), ids=WRAPPINGS)
def test_a_file_in_any_wrapping_gives_the_tensors_by_their_own_names(
    content: Any, wrapping: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "weights.pth")
    found = read_weights(tmp_path / "weights.pth")
    assert found.wrapping == wrapping
    assert found.tensors.keys() == STATE.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in STATE.items())


def test_safetensors_and_files_of_old_versions_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "weights.safetensors")
    torch.save({"state_dict": STATE}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("weights.safetensors", "old.pth"):
        assert torch.equal(read_weights(tmp_path / name).tensors["head.bias"], STATE["head.bias"])


def test_a_module_of_that_name_in_some_keys_is_no_prefix() -> None:
    state = {"module.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert unwrap(state).tensors.keys() == state.keys()


class Attack:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_file_is_named_and_never_run(tmp_path: Path, is_zip: bool) -> None:
    path, marker = tmp_path / "attack.pth", tmp_path / "marker"
    torch.save({"model": STATE, "args": Attack(marker)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ConfigError, match=r"attack\.pth: holds Python objects \(posix\.system\), which are not read"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(ConfigError, match=r"attack\.pth: damaged checkpoint"):
        read_weights(path)
    assert not marker.exists()


def test_the_arguments_of_a_training_are_refused_with_a_command_that_copies_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "of a training.pth"
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)
    with pytest.raises(ConfigError, match=r"argparse\.Namespace.*copy it without them: python -c") as caught:
        read_weights(path)
    command = shlex.split(str(caught.value).split("without them: ")[1])
    subprocess.run([sys.executable, *command[1:]], check=True)
    copy = read_weights(tmp_path / "of a training-weights.pth")
    assert torch.equal(copy.tensors["head.bias"], STATE["head.bias"])


def test_whole_models_and_other_objects_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ConfigError, match=r"holds Python objects \(torch\.nn\.modules\.linear\.Linear\)"):
        read_weights(tmp_path / "model.pth")


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda raw: b"", "damaged checkpoint"),
    "cut": (lambda raw: raw[: len(raw) // 2], "damaged checkpoint"),
    "a web page": (lambda raw: b"<html>404</html>", "damaged checkpoint"),
    "text": (lambda raw: b"hello", "damaged checkpoint"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_in_one_sentence(damage: Callable[[bytes], bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(STATE, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=says) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_a_changed_file_is_noticed_by_the_sum_beside_it(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "epoch_0001.pt")
    (tmp_path / "epoch_0001.sha256").write_text("0" * 64)
    with pytest.raises(ConfigError, match=r"epoch_0001\.pt: damaged checkpoint \(its SHA-256 does not match\)"):
        read_weights(tmp_path / "epoch_0001.pt")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3, "metric": 1.0}, "holds the keys epoch, metric, no state dict; it is read alone or under one of"),
        ([1, 2], "holds a value of type list, no state dict"),
        ({}, "holds nothing, no state dict"),
    ],
)
def test_a_file_without_weights_says_what_it_holds(content: Any, says: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=says):
        read_weights(tmp_path / "other.pth")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pth: no such file \(working directory /"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(ConfigError, match="is a folder, not a weights file"):
        read_weights(tmp_path)
