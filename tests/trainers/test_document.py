from __future__ import annotations

from pathlib import Path

from trainers.config import TrainConfig
from trainers.document import lines

PAGE = Path(__file__).parents[2] / "docs" / "train-file.md"


def test_the_page_in_docs_is_current() -> None:
    assert PAGE.read_text().rstrip() == "\n".join(lines()).rstrip()


def test_every_key_has_a_row_with_its_values_and_default() -> None:
    rows = [line for line in lines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} == TrainConfig.model_fields.keys()
    assert len(rows) == len(TrainConfig.model_fields)
    assert "| `lr` | number >= 0, <= 10 | `0.0005` | learning rate after warm-up |" in rows
    assert any(row.startswith("| `device` | integer or `cpu` or `cuda` or none |") for row in rows)
