"""Entry points in timm: registered in either order of import, equal models, strict keywords."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch

from config import step_names
from models import ConfigError, create_model, registry

ALIASES = sorted(alias for alias, name in step_names.ALIASES.items() if name in registry.MODELS)
AFTER_A_LOOK_UP = """
import models, importlib.util, pkgutil
assert importlib.util.find_spec("timm").origin.endswith("__init__.py")
import timm
assert pkgutil.get_data("timm", "version.py") is not None
"""


@pytest.mark.parametrize("imports", [AFTER_A_LOOK_UP, "import timm, models"], ids=["models first", "timm first"])
def test_timm_has_the_models_in_either_order_of_import(imports: str) -> None:
    code = f"{imports}\nprint(timm.is_model('spikformer_cifar'), timm.is_model('std_cifar'))"
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert process.stdout.strip() == "True True"


@pytest.mark.parametrize("name", [*sorted(registry.MODELS), *ALIASES])
def test_timm_gives_the_same_model(name: str, small_config: Any) -> None:
    model = step_names.ALIASES.get(name, name)
    keys = small_config(model).model_dump(exclude={"model"})
    torch.manual_seed(3)
    ours = create_model({"model": model, **keys})
    torch.manual_seed(3)
    theirs = timm.create_model(name, **keys)
    assert theirs.config == ours.config
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_an_unknown_keyword_is_an_error(any_model: str) -> None:
    with pytest.raises(ConfigError, match="embed_dims"):
        timm.create_model(any_model, embed_dims=64)


def test_a_whole_train_file_gives_the_model(small_config: Any) -> None:
    keys = {**small_config("spikformer_cifar").model_dump(), "lr": 0.1, "dataset": "cifar10", "mixup": 0.5}
    assert timm.create_model("spikformer_cifar", **keys).config == small_config("spikformer_cifar")


def test_the_train_file_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model: must be sdt_cifar, the model to create \(got 'spikformer_cifar'\)"):
        timm.create_model("sdt_cifar", model="spikformer_cifar")
    assert timm.create_model("std_cifar", model="sdt_cifar").config.model == "sdt_cifar"
