"""Facts from docstrings: formula, paper, rows of tables."""

from __future__ import annotations

from models.catalogue import docstrings
from models.catalogue.docstrings import Facts

TABLE = """Title.

| code | value | at | | paper | keys |
| --- | --- | --- | --- | --- | --- |
| `rate` | `x > u` | 2 |  | Kim et al. 2018 | `step`, `tau` |
| `none` | nothing | | with a note | | |
"""


class Cited:
    """A sum (Zhou et al. 2023, equation 6): `a + b`.

    More of it (Other 2024).
    """


class WithoutFormula:
    """A sum of two.

    `a + b` of real numbers.

    A third paragraph.
    """


def returned() -> None:
    """Returns the sum (Zhou et al. 2023)."""


def test_the_first_paragraph_is_the_formula_and_its_first_parenthesis_with_a_year_the_paper() -> None:
    assert docstrings.of_part(Cited) == Facts("A sum: `a + b`.", "Zhou et al. 2023, equation 6")
    assert docstrings.of_part(returned) == Facts("the sum.", "Zhou et al. 2023")


def test_a_paragraph_without_formula_is_followed_by_the_next_one() -> None:
    assert docstrings.of_part(WithoutFormula).formula == "A sum of two. `a + b` of real numbers."


def test_a_part_without_a_paper_has_that_of_its_module() -> None:
    from models.attention.local import LocalConv

    assert "20" not in (LocalConv.__doc__ or "")
    assert docstrings.of_part(LocalConv).paper == "Zhang et al. 2024"


def test_a_row_of_a_table_has_formula_paper_and_keys() -> None:
    assert docstrings.of_row(TABLE, "rate") == Facts("`x > u`, at = 2", "Kim et al. 2018", ("step", "tau"))
    assert docstrings.of_row(TABLE, "none") == Facts("nothing, with a note", "")


def test_a_missing_row_has_no_facts() -> None:
    assert docstrings.of_row(TABLE, "phase") == docstrings.of_row(None, "rate") == Facts("", "")
