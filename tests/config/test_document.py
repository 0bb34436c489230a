from __future__ import annotations

from config.document import Document

LINES = {("budget",): 2, ("budget", "epochs"): 3}


def test_a_problem_has_the_line_of_its_key_or_of_the_nearest_enclosing_one() -> None:
    document = Document("x.yml", {}, LINES)
    assert document.sentence(document.problem(("budget", "epochs"), "wrong")) == "x.yml:3: budget.epochs: wrong"
    assert document.sentence(document.problem(("budget", "trials"), "wrong")) == "x.yml:2: budget.trials: wrong"
    assert document.sentence(document.problem((), "wrong")) == "x.yml:1: wrong"


def test_a_problem_of_an_override_names_the_override_also_below_and_above_its_key() -> None:
    document = Document("x.yml", {}, LINES, {("budget", "epochs"): "--set budget.epochs=0"})
    for location in (("budget", "epochs"), ("budget", "epochs", 0), ("budget",)):
        assert document.problem(location, "wrong").source == "--set budget.epochs=0"
    assert document.problem(("budget", "trials"), "wrong").source is None


def test_problems_are_listed_once_and_in_the_order_of_their_lines() -> None:
    document = Document("x.yml", {}, LINES)
    problems = [document.problem(("budget", "epochs"), "b"), *2 * [document.problem(("budget",), "a")]]
    assert str(document.error(problems)) == "x.yml:2: budget: a\nx.yml:3: budget.epochs: b"
