"""The command models.catalogue, and the page that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models import registry
from models.catalogue import command as catalogue
from models.catalogue.entries import kinds

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
WRITE = "run: python -m models.catalogue > docs/models.md"


@pytest.mark.parametrize("kind", kinds())
def test_the_page_holds_the_current_section(kind: str) -> None:
    assert f"\n\n{catalogue.section(kind)}\n" in PAGE.read_text(), WRITE


def test_the_page_holds_the_introduction_and_each_section_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "section", lambda kind: f"## {catalogue.TITLES[kind]}\n")
    written = PAGE.read_text()
    expected = catalogue.page()
    assert written.startswith(expected[: expected.index("\n## ")]), WRITE
    titles = [line for line in expected.splitlines() if line.startswith("## ")]
    assert [line for line in written.splitlines() if line.startswith("## ")] == titles


def test_one_kind_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue.main(["--kind", "mlp", "--json"]) == 0
    mlp = json.loads(capsys.readouterr().out)[0]
    assert mlp["name"] == "MLP"
    assert "mlp_ratio" in mlp["keys"]
    assert 1.8 < mlp["operations_over_ssa"] < 1.9


def test_a_kind_that_does_not_exist_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue.main(["--kind", "atention"]) == 2
    assert "Did you mean attention?" in capsys.readouterr().err


def test_a_users_part_is_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(registry.MLPS, "Mine", "models.parts.blocks:MLP")
    assert catalogue.main(["--kind", "mlp"]) == 0
    assert "| `Mine` |" in capsys.readouterr().out
