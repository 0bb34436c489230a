"""A truncated file gives a result or a clean error, never another exception."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from config import strict_yaml
from config.document import Document
from config.errors import ConfigError
from search.space import reader as space_file
from trainers import checkpoint
from trainers import config as train_file

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("spaces", "trainers/recipes", "examples", "docs")
    for path in (ROOT / folder).rglob("*.y*ml")
    if "runs" not in path.relative_to(ROOT).parts
)
SAMPLES = 12
"""Prefixes of a file in the quick run, spread over the file; the slow one takes every byte."""


def reader(path: Path) -> Callable[[Document], object]:
    return space_file.read if "\nspace:" in path.read_text() else train_file.parse


def is_read_or_refused(path: Path, ends: Iterable[int], folder: Path) -> int:
    """Returns how many prefixes were refused."""
    raw, read, cut, refused = path.read_bytes(), reader(path), folder / "cut.yml", 0
    for end in ends:
        cut.write_bytes(raw[:end])
        try:
            read(strict_yaml.read(cut, tolerant=True))
        except ConfigError as error:
            assert str(error)  # noqa: PT017  # any other exception fails the test
            refused += 1
    return refused


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_some_prefixes_of_every_shipped_file(path: Path, tmp_path: Path) -> None:
    size = path.stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert is_read_or_refused(path, {0, 1, size - 1, *range(7, size, max(size // SAMPLES, 1))}, tmp_path) > 1


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_prefix_of_every_shipped_file(path: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        is_read_or_refused(path, range(path.stat().st_size), tmp_path)


def saved(folder: Path) -> Path:
    return checkpoint.save(folder, 1, {"model": {"weight": torch.arange(3.0)}, "epoch": 1})


def is_refused(path: Path, cut: Path, size: int) -> None:
    raw = cut.read_bytes()
    cut.write_bytes(raw[:size])
    with pytest.raises(ValueError, match=r"epoch_0001\.pt: damaged checkpoint"):
        checkpoint.load(path)
    cut.write_bytes(raw)


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_every_prefix_of_a_checkpoint_is_refused(tmp_path: Path, every: int) -> None:
    path = saved(tmp_path)
    for size in range(0, path.stat().st_size, every):
        is_refused(path, path, size)
    assert checkpoint.load(path)["epoch"] == 1


def test_every_prefix_of_its_checksum_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for size in range(64):
        is_refused(path, path.with_suffix(".sha256"), size)
    assert checkpoint.load(path)["epoch"] == 1


def test_every_prefix_of_a_checkpoint_with_a_matching_checksum_is_refused(tmp_path: Path) -> None:
    """Another program may write a wrong file with the right checksum."""
    path = saved(tmp_path)
    raw = path.read_bytes()
    for size in range(0, len(raw), 97):
        path.write_bytes(raw[:size])
        path.with_suffix(".sha256").write_text(checkpoint._digest(path))
        with pytest.raises(ValueError, match=r"epoch_0001\.pt: damaged checkpoint"):
            checkpoint.load(path)
