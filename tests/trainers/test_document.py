from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from config import strict_yaml
from config.errors import ConfigError
from search.space import reader
from trainers import config as train_file
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


# ---------------------------------------------------------------------------------------------- documented values

SMALL = {"dataset": "digits", "model": "spikformer_cifar", "epochs": "3", "num_classes": "10", "in_channels": "1"}
EVENTS = {**SMALL, "dataset": "digits_dvs", "in_channels": "2", "img_size": "16"}
CONTEXT = {
    "num_classes": {**SMALL, "dataset": "imagefolder", "in_channels": "3"},
    "event_size": {key: value for key, value in EVENTS.items() if key != "img_size"},
    "read_step": {**SMALL, "step": "64"},
}
"""Train files in which all values of a key can be combined with the others."""
FEWER = {"in_channels": "64"}
"""Upper bounds that no data set reaches."""


def documented() -> Iterator[tuple[str, str]]:
    """Yields each key with each value that its row names: words, `none`, bounds that are included, the default."""
    for row in (line for line in PAGE.read_text().splitlines() if line.startswith("| `")):
        key, values, default = (cell.strip() for cell in row.strip("|").split("|")[:3])
        texts = re.findall(r"`([^`]+)`", values) + re.findall(r"[<>]= ([\d.e+]+)", values)
        texts += ["none", "null", ""] if re.search(r"\bnone\b(?!`)", values) else []
        texts += ["true", "false"] if "true/false" in values else []
        texts += re.findall(r"^`(.*)`$", default)
        name = key.strip("`")
        yield from ((name, text) for text in dict.fromkeys(texts) if FEWER.get(name) != text)


@pytest.mark.filterwarnings("ignore:.*; ignored")  # keys that the model lacks
@pytest.mark.parametrize(("key", "text"), list(documented()))
def test_every_documented_value_is_accepted_by_reader_and_schema(key: str, text: str, train_rules: Any) -> None:
    keys = {**CONTEXT.get(key, SMALL), key: text}
    document = strict_yaml.parse("".join(f"{name}: {value}\n" for name, value in keys.items()), "x.yml")
    config = train_file.parse(document)
    if text in ("none", "null", ""):
        assert getattr(config, key) == ("none" if key == "pos_layer" else None)
    assert not list(train_rules.iter_errors(document.data))


@pytest.fixture(scope="module")
def train_rules() -> Any:
    return Draft7Validator(json.loads((PAGE.parent / "schema" / "train.schema.json").read_text()))


OPTIONAL = {
    "pooling_stat",
    "data_dir",
    "event_size",
    "train_images",
    "exit_rule",
    "exit_threshold",
    "initial_checkpoint",
    "aa",
    "clip_grad",
    "tet",
    "device",
    "quant_bits",
}


def test_the_keys_that_may_be_none_are_these() -> None:
    assert {key for key, text in documented() if text == "none"} == OPTIONAL | {"pos_layer"}


@pytest.mark.parametrize("key", sorted(OPTIONAL))
def test_none_is_a_value_in_a_space_file_too(key: str) -> None:
    base = "study: s\nbase: spikformer/digits\nobjectives: {accuracy: maximize}\nbudget: {trials: 5, epochs: 4}\n"
    fixed = reader.read(
        strict_yaml.parse(f"{base}space: {{tau: {{uniform: [1.1, 3.0]}}}}\nfixed: {{{key}: none}}", "x")
    )
    assert getattr(fixed.example, key) is None
    others = {"aa": "rand-m9-n1", "clip_grad": "1.0", "tet": "0.05", "quant_bits": "4", "pooling_stat": "'0011'"}
    others["device"] = "cpu"
    if key in others:
        choice = f"{base}space: {{{key}: {{choice: [none, {others[key]}]}}}}\nstart_with: [spikformer/digits]\n"
        space = reader.read(strict_yaml.parse(choice, "x"))
        assert space.initial_configs[0].values == {key: None}
        assert getattr(space.train_config({key: None}), key) is None
        assert reader.read(strict_yaml.parse(space.yaml(), "x")).keys == space.keys


def test_a_word_like_none_stays_a_value_where_none_is_none() -> None:
    text = "".join(f"{key}: {value}\n" for key, value in {**SMALL, "pos_layer": "none", "opt": "none"}.items())
    with pytest.raises(ConfigError, match=r"opt: unknown optimizer \(got 'none'\)"):
        train_file.parse(strict_yaml.parse(text, "x.yml"))
