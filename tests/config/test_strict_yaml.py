from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import strict_yaml
from config.errors import ConfigError
from config.strict_yaml import dump_yaml


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        strict_yaml.parse(text, "f.yml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 0.0005),
        ("1E5", 100000.0),
        ("+.5", 0.5),
        ("1.", 1.0),
        ("-1.5e+3", -1500.0),
        ("12", 12),
        ("-3", -3),
        ("007", 7),
        (".inf", math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("'5e-4'", "5e-4"),
        ('"true"', "true"),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
    ],
)
def test_a_value_without_quotes_has_the_obvious_type(text: str, value: Any) -> None:
    got = strict_yaml.parse(f"key: {text}\n", "f.yml").data["key"]
    assert got == value
    assert type(got) is type(value)


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none() | st.text(st.characters(codec="utf-8")))
def test_written_values_read_back_to_the_same_bits(value: Any) -> None:
    got = strict_yaml.parse(dump_yaml({"key": value, "list": [value]}), "f.yml").data
    assert got == {"key": value, "list": [value]}
    assert type(got["key"]) is type(value)
    assert math.copysign(1.0, got["key"]) == math.copysign(1.0, value) if isinstance(value, float) else True


@given(st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")))
def test_written_values_read_the_same_in_plain_yaml(value: Any) -> None:
    assert yaml.safe_load(dump_yaml({"key": value})) == {"key": value}


def test_every_key_has_its_line() -> None:
    document = strict_yaml.parse("# header\na: 1\n\nb:\n  c: 2\n  d:\n    - 3\n    - 4\n", "f.yml")
    assert [document.line(location) for location in [("a",), ("b", "c"), ("b", "d", 1)]] == [2, 5, 8]
    assert document.line(("b", "missing")) == 4, "an absent key has the line of the mapping that lacks it"
    assert document.line(("missing",)) == 1


def test_a_duplicate_key_names_both_lines() -> None:
    assert error_of("lr: 1\nstep: 2\nlr: 3\n") == "f.yml:3: lr: duplicate key (first in line 1)"
    assert error_of('a:\n  b: 1\n  "b": 2\n') == "f.yml:3: a.b: duplicate key (first in line 2)"


def test_up_to_twenty_duplicate_keys_are_listed_at_once() -> None:
    text = "".join(f"k{i}: 1\n" for i in range(25)) * 2
    lines = error_of(text).splitlines()
    assert lines[0] == "f.yml:26: k0: duplicate key (first in line 1)"
    assert len(lines) == 21
    assert lines[-1] == "f.yml: and 5 more"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: &x 2\n", 2, "anchors and aliases"),
        ("a: &x 1\nb: *x\n", 1, "anchors and aliases"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "tags are not allowed"),
        ("a: !!str 1\n", 1, "tags are not allowed"),
        ("a: 1\nb: " + "[" * 40 + "]" * 40 + "\n", 2, "nested deeper than 32"),
        ("a: " + "{b: " * 10_000 + "\n", 1, "nested deeper than 32"),
        ("a: 1\nb: \0\n", 2, "NUL byte"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\n\tb: 2\n", 2, "tabs are not allowed as indentation"),
        (
            "a: 1\nb: [1, 2\nc: 3\n",
            3,
            "not YAML: a comma is missing, or the bracket that opens in line 2 is not closed",
        ),
        ("a: b: c\n", 1, "not YAML: unexpected `: `, or wrong indentation"),
        ("a: 1\nb 2\nc: 3\n", 3, "not YAML: must be `key: value`"),
        ("a: 1\nb: 'x\n", 3, "not YAML: the quote that opens in line 2 is not closed"),
        ("a: 1\nb: @x\n", 2, "not YAML: a value may not start with @ without quotes"),
        ("a:\n  b: 1\n c: 2\n", 3, "not YAML: wrong indentation"),
        ("a: 1\nb: x\x07\n", 2, "contains a character that YAML does not allow (code 7)"),
        ("- a\n- b\n", 1, "must consist of `key: value` lines (got a list)"),
        ("just words\n", 1, "must consist of `key: value` lines (got one value)"),
        ("a: 1\n? [b, c]\n: 2\n", 2, "a key must be a plain word"),
    ],
)
def test_anything_but_plain_data_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    message = error_of(text)
    assert message.startswith(f"f.yml:{line}: ")
    assert reason in message


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    assert "f.yml" in error_of(text)


def test_an_integer_too_long_for_python_is_infinite() -> None:
    assert strict_yaml.parse("a: " + "1" * 5000, "f.yml").data["a"] == math.inf


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes("output: é\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"f\.yml:?\d*: (not UTF-8 text|contains a NUL byte)"):
        strict_yaml.read(path)


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    assert strict_yaml.read(path).data == {"a": 1, "b": "x"}


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "cifar10.yml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match=r"cifar1\.yml: no such file\. Did you mean .*cifar10\.yml\?"):
        strict_yaml.read(tmp_path / "cifar1.yml")


def test_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        strict_yaml.read(tmp_path)
    path = tmp_path / "f.yml"
    path.write_text("# " + "x" * strict_yaml.MAX_BYTES)
    with pytest.raises(ConfigError, match="larger than"):
        strict_yaml.read(path)
