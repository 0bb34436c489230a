"""The front as a LaTeX table for a paper, with booktabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from config.files import write_atomic
from results.metrics import METRICS
from results.study import FrontPoint, StudyResult

COLUMNS = ("accuracy", "spike_rate", "synops", "energy_mj", "params_m")
PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A metric as the table shows it: its header, the factor of its unit, and its decimals."""

    metric: str
    header: str
    factor: float = 1.0
    decimals: int = 2

    def text(self, value: float) -> str:
        """Returns a value in the column's unit."""
        return f"{value / self.factor:.{self.decimals}f}"


def write_front_table(studies: Mapping[str, StudyResult], path: Path) -> None:
    """Writes the fronts of one study or several as one table, atomically."""
    write_atomic(path, front_table(studies))


def front_table(studies: Mapping[str, StudyResult]) -> str:
    """Returns a `table` environment with one row per point of each front, best first.

    Points with fresh seeds have mean, standard deviation and number of seeds. Spikes, synaptic operations and
    multiply-accumulates have one unit prefix for all rows. The preamble needs `\\usepackage{booktabs}`.
    """
    points = [(label, study, point) for label, study in studies.items() for point in study.front()]
    first = next(iter(studies.values()))
    columns = _columns(first, [point for _, _, point in points])
    has_seeds, has_test = any(p.seeds for _, _, p in points), any("accuracy" in p.test for _, _, p in points)
    several = ["Study"] if len(studies) > 1 else []
    headers = [*several, "Trial", "Steps", *(column.header for column in columns)]
    headers += ["Test acc.\\ (\\%)"] * has_test + ["Seeds"] * has_seeds
    body: list[str] = []
    for label, study, point in points:
        if body and several and label != points[len(body) - 1][0]:
            body[-1] += "\n\\midrule"
        cells = [escape(label)] * len(several) + [point.key, str(_steps(study, point))]
        cells += [_cell(column, point) for column in columns]
        cells += [_test(point)] * has_test + [str(point.seeds or 1)] * has_seeds
        body.append(" & ".join(cells) + r" \\")
    return _environment(headers, body, len(several), _caption(studies, has_seeds))


def escape(text: str) -> str:
    """Returns a text in which LaTeX finds no commands."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _environment(headers: Sequence[str], body: Sequence[str], texts: int, caption: str) -> str:
    alignment = "l" * (texts + 1) + "r" * (len(headers) - texts - 1)
    lines = [
        r"% \usepackage{booktabs}", r"\begin{table}", r"\centering", f"\\caption{{{caption}}}",
        f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule", " & ".join(headers) + r" \\", r"\midrule",
        *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _caption(studies: Mapping[str, StudyResult], has_seeds: bool) -> str:
    noun = "Pareto front" if len(studies) == 1 else "Pareto fronts"
    seeds = " Mean and standard deviation over seeds." if has_seeds else ""
    return f"{noun} of {escape(', '.join(studies))}, on the validation set.{seeds}"


def _columns(study: StudyResult, points: Sequence[FrontPoint]) -> list[Column]:
    names = dict.fromkeys([*study.objectives, *COLUMNS])
    return [_column(name, [p.metrics[name] for p in points if name in p.metrics]) for name in names]


def _column(name: str, values: Sequence[float]) -> Column:
    largest = max(map(abs, values), default=0.0)
    counted = {"spikes": "Spikes", "synops": "SynOps", "macs": "MACs"}
    if name in counted:
        factor, prefix = next((row for row in PREFIXES if largest >= row[0]), PREFIXES[-1])
        return Column(
            name, f"{counted[name]} ({prefix})" if prefix else counted[name], factor, _decimals(largest / factor)
        )
    headers = {"accuracy": r"Acc.\ (\%)", "spike_rate": "Spike rate", "energy_mj": "Energy (mJ)", "loss": "Loss"}
    headers |= {"params_m": "Params (M)", "images_per_s": "Images/s", "peak_mem_gib": "Memory (GiB)"}
    decimals = 2 if name == "accuracy" else _decimals(largest)
    return Column(name, headers.get(name) or escape(METRICS[name].label), decimals=decimals)


def _decimals(largest: float) -> int:
    """Returns the decimals that give the largest value three digits or more."""
    return next((digits for digits in range(9) if largest >= 10.0 ** (2 - digits)), 9) if largest else 1


def _cell(column: Column, point: FrontPoint) -> str:
    if column.metric not in point.metrics:
        return "--"
    text = column.text(point.metrics[column.metric])
    spread = point.spreads.get(column.metric)
    return f"${text} \\pm {column.text(spread.deviation)}$" if spread and spread.seeds > 1 else text


def _test(point: FrontPoint) -> str:
    if "accuracy" not in point.test:
        return "--"
    spread = point.test["accuracy"]
    return f"${spread.mean:.2f} \\pm {spread.deviation:.2f}$" if spread.seeds > 1 else f"{spread.mean:.2f}"


def _steps(study: StudyResult, point: FrontPoint) -> str:
    """Returns the step at which the output is read, and the trained steps if there are more: `2/4`."""
    step = study.trial(point.trial).config.get("step")
    if point.exit is not None:
        return f"{point.metrics['steps']:.2f}/{step}"
    return str(point.read_step) if step in (None, point.read_step) else f"{point.read_step}/{step}"
