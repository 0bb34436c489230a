"""JSON Schemas for editors: current, of draft 7, and consistent with the checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from config import strict_yaml
from search import schema

ROOT = Path(__file__).parents[2]
SPACES = sorted(ROOT.glob("spaces/*.yml"))
RECIPES = sorted(ROOT.glob("trainers/recipes/*/*.yml"))
SCHEMAS = {"space": schema.space_schema(), "train": schema.train_schema()}


def problems(kind: str, data: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(SCHEMAS[kind]).iter_errors(data)]


@pytest.mark.parametrize("kind", ["space", "train"])
def test_the_committed_schema_is_current(kind: str) -> None:
    committed = (ROOT / "docs" / "schema" / f"{kind}.schema.json").read_text()
    assert json.loads(committed) == json.loads(json.dumps(SCHEMAS[kind])), "run `python -m search.schema`"


@pytest.mark.parametrize("kind", ["space", "train"])
def test_a_schema_is_of_draft_7_and_its_references_exist(kind: str) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMAS[kind])
    text = json.dumps(SCHEMAS[kind])
    assert not {"$defs", "prefixItems", "$dynamicRef", "unevaluatedProperties"} & set(text.split('"'))
    for name in {part.split('"')[0] for part in text.split("#/definitions/")[1:]}:
        assert name in SCHEMAS[kind]["definitions"]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_shipped_space_passes_and_names_the_schema(path: Path) -> None:
    assert problems("space", strict_yaml.read(path).data) == []
    (line,) = [line for line in path.read_text().splitlines() if "$schema" in line]
    prefix = "# yaml-language-server: $schema="
    assert line.startswith(prefix)
    assert (path.parent / line.removeprefix(prefix)).resolve() == ROOT / "docs" / "schema" / "space.schema.json"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_recipe_passes(path: Path) -> None:
    assert problems("train", strict_yaml.read(path).data) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("trials", "trails"),
        ("tau:", "tao:"),
        ("uniform: [1.1, 3.0]", "uniform: 3"),
        ("uniform: [1.1, 3.0]", "uniforme: [1.1, 3.0]"),
        ("maximize", "maximise"),
        ("accuracy:", "acuracy:"),
        ("{distort: false}", "{distort: 3}"),
        ("study: quickstart", "study: a b"),
    ],
)
def test_an_editor_marks_common_mistakes(old: str, new: str) -> None:
    text = (ROOT / "spaces" / "quickstart.yml").read_text()
    assert old in text
    assert problems("space", strict_yaml.parse(text.replace(old, new), "x.yml").data)


def test_the_command_writes_both(tmp_path: Path) -> None:
    assert schema.main(["--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"space.schema.json", "train.schema.json"}
