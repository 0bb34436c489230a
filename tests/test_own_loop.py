"""The page on your own training loop: its code runs, in order, and does what the text says."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from config import step_names
from results import train_file
from trainers import config as train_config
from trainers import loop, run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own-loop.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the page defines, and the folder in which it ran."""
    folder = tmp_path_factory.mktemp("own_loop")
    config = train_config.load(train_config.recipe_path("spikformer/digits"))
    path = folder / "configs" / "spikformer" / "digits.yml"
    path.parent.mkdir(parents=True)
    keys = {key: value for key, value in config.dump().items() if value is not None}
    path.write_text(train_file.render(step_names.spell(keys, "head"), ["exported"]))
    found: dict[str, Any] = {"__name__": "page", "folder": folder}
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.chdir(folder)
        for block in BLOCKS:
            exec(compile(block, "docs/own-loop.md", "exec"), found)
    return found


def test_the_model_learns(session: dict[str, Any]) -> None:
    accuracy = session["correct"] / len(session["test"])
    assert accuracy[-1] > 0.5
    assert len(accuracy) == session["model"].config.step == 2


def test_the_meter_counts_every_image_at_each_read_out(session: dict[str, Any]) -> None:
    meter = session["meter"]
    assert meter.images == len(session["test"])
    first, last = meter.totals(1), meter.totals(2)
    assert 0 < first["spikes"] < last["spikes"]
    assert 0 < first["synops"] < last["synops"]


def test_batches_are_independent_and_their_size_may_change(session: dict[str, Any]) -> None:
    model, images = session["model"], session["images"][:9]
    with torch.no_grad():
        together = model(images)
        apart = torch.cat([model(images[:2]), model(images[2:])])
    torch.testing.assert_close(together, apart)


def test_update_bn_gives_the_statistics_of_the_trainer(session: dict[str, Any]) -> None:
    model, images = session["trained"], session["images"][session["train"]]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    batches = [(batch, None) for batch in images[: loop.CALIBRATION_BATCHES * 64].split(64)]
    data, augment = SimpleNamespace(in_order=lambda size: batches), SimpleNamespace(plain=lambda x: x)
    loop.recalibrate(model, data, augment, 64)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key])


def test_the_exported_weights_are_measured_by_the_trainer(
    session: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(session["folder"])
    assert run.main(["--config", "configs/spikformer/digits.yml", "--eval", "digits.safetensors"]) == 0
    assert "test set:   accuracy " in capsys.readouterr().out
