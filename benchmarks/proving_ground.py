"""Proving ground of the search, on families of questions: `python -m benchmarks.proving_ground --json FILE`.

The families are those of `benchmarks.synthetic`, and with `--tables FOLDER...` the parent folders of tables. For each
family it prints the mean share of the true front's hypervolume after 6, 12, 24, 50 and 100 full trainings, up to
`--budget`, and how many standard errors a policy is away from MO-ASHA with random sampling. A standard error is that of
the mean difference over pairs: the same table and run under both. A star marks a family where a policy is worse by more
than two. The file holds the figures of all families that are complete.

`--choose NAME=OVERRIDES...` adds variants of our search, such as `"stop=scheduler.mode=stop sampler.name=random"` or
`"few=search.algorithm.candidates.NUM=10"`. For each family, the variant with the best mean rank on all other families
is judged on this one: its share, averaged over the numbers of trainings, over that of the variant that is best here.
Constants that hold for questions never seen lose at most a fifth in each family.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks import synthetic, table_shares
from benchmarks.rivals import RIVALS
from benchmarks.search_peers import PEERS
from benchmarks.simulations import OURS, TABLES, SimulationResult, changed_constants, is_constant
from benchmarks.table_shares import Policies, Results
from config.errors import ConfigError
from config.files import write_atomic
from results.pareto import Floats
from search.simulate import with_overrides
from search.simulation import foreign_tables

BASELINE = "moasha_random"
POLICIES = ("ours", "moasha_random", "random")
WORSE_BY = 2.0
"""Standard errors by which a policy is worse than the baseline."""
LOSS = 0.2
"""Share of the best variant's figure that a variant chosen on other families may lose."""

FamilyShares = dict[str, dict[str, dict[str, Floats]]]
"""Shares `[tables x runs]` by family, policy and number of full trainings."""


@dataclass(frozen=True)
class Comparison:
    """A policy on a family: its mean share, and the mean difference from the baseline.

    `standard_errors` are those in the difference, None for a single pair or if the difference never varies.
    """

    share: float
    difference: float
    standard_errors: float | None
    is_worse: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the searches, prints the figures, and writes them to a file if asked."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        families = families_of(arguments.families, arguments.instances, arguments.tables)
        variants = dict(map(parse_variant, arguments.choose))
        check_variants(variants, arguments.policies)
        figures: dict[str, Any] = {}
        for family, figures in measure(families, arguments.policies, variants, arguments):
            print(_line(family, figures), file=sys.stderr, flush=True)
            if arguments.json is not None:
                write_atomic(arguments.json, json.dumps(figures, indent=2, default=asdict) + "\n")
    except ConfigError as error:
        parser.error(str(error))
    print(format_figures(figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proving_ground", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    families = list(synthetic.FAMILIES)
    parser.add_argument("--families", nargs="*", default=families, help="made-up families (default: all)")
    parser.add_argument("--instances", type=_count, default=synthetic.NUM_INSTANCES, help="tables of each (default 4)")
    parser.add_argument("--tables", nargs="*", default=[], metavar="FOLDER", help="further tables, a family per parent")
    parser.add_argument(
        "--policies", nargs="*", choices=[*OURS, *RIVALS, *PEERS], default=list(POLICIES), help="searches"
    )
    parser.add_argument("--choose", nargs="*", default=[], metavar="NAME=OVERRIDES", help="variants of our search")
    parser.add_argument("--repeats", type=_count, default=5, help="runs on each table (default 5)")
    parser.add_argument("--workers", type=_count, default=8, help="simulated workers (default 8)")
    parser.add_argument("--budget", type=_count, default=50, help="full trainings per search (default 50)")
    parser.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0 (got {text})")
    return int(text)


def families_of(names: Sequence[str], num_instances: int, folders: Sequence[str]) -> dict[str, list[str]]:
    """Returns the tables of each family. Raises ConfigError for an unknown family or a folder without a table."""
    families = {family: synthetic.names(family, num_instances) for family in names}
    for folder in folders:
        path = Path(folder) if Path(folder).is_dir() else TABLES / folder
        foreign_tables.load_table(path)
        families.setdefault(path.resolve().parent.name, []).append(str(path.resolve()))
    if not families:
        raise ConfigError("--families: needs a family, or --tables a folder (got none)")
    return families


def parse_variant(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns the name and the overrides of `NAME=KEY=VALUE KEY=VALUE`, of which there may be none."""
    name, equals, overrides = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--choose {text}: must be NAME=OVERRIDES, such as stop=scheduler.mode=stop")
    return name, tuple(overrides.split())


def check_variants(variants: Mapping[str, tuple[str, ...]], policies: Sequence[str]) -> None:
    """Raises ConfigError for a variant whose overrides are not valid, or whose name is a policy's."""
    space = synthetic.load(synthetic.names("base")[0]).space
    for name, overrides in variants.items():
        if name in policies or name == BASELINE:
            raise ConfigError(f"--choose {name}: must differ from the names of the policies")
        with_overrides(space, [one for one in overrides if not is_constant(one)])
        with changed_constants(overrides):
            pass
    if len(variants) == 1:
        raise ConfigError(f"--choose: needs at least two variants to choose from (got {next(iter(variants))})")


def measure(
    families: Mapping[str, Sequence[str]],
    policies: Sequence[str],
    variants: Mapping[str, tuple[str, ...]],
    settings: argparse.Namespace,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each family once it is played, with the figures of all families so far; the baseline is always there."""
    players: Policies = {
        **{policy: (policy, ()) for policy in (BASELINE, *policies)},
        **{name: ("ours", overrides) for name, overrides in variants.items()},
    }
    results: Results = {}
    shares: FamilyShares = {}
    details = {name: getattr(settings, name) for name in ("repeats", "workers", "budget")} | {"variants": variants}
    for family, tables in families.items():
        results |= table_shares.play(
            tables, players, settings.repeats, settings.workers, settings.budget, settings.jobs
        )
        shares[family] = family_shares([results[table] for table in tables], settings.budget)
        details["cpu_s"] = table_shares.cpu_of(results)
        yield family, {**figures_of(shares, list(variants)), "details": details}


def figures_of(shares: FamilyShares, variants: Sequence[str]) -> dict[str, Any]:
    """Returns comparisons, families where a policy is worse, mean ranks, and the choice among two or more variants."""
    comparisons = {family: compare(found) for family, found in shares.items()}
    ranks = table_shares.mean_ranks({family: mean_shares(found) for family, found in shares.items()})
    figures = {"families": comparisons, "worse": worse(comparisons), "mean_ranks": ranks}
    if len(variants) > 1 and len(shares) > 1:
        overall = {family: average_share(found, variants) for family, found in shares.items()}
        return {**figures, "left_out": leave_one_out(overall)}
    return figures


def family_shares(
    results: Sequence[Mapping[str, Sequence[SimulationResult]]], budget: int
) -> dict[str, dict[str, Floats]]:
    """Returns the shares of a family's searches, those of one table after another."""
    by_table = [table_shares.shares_of(found, table_shares.marks(budget)) for found in results]
    return {
        policy: {mark: np.concatenate([one[policy][mark] for one in by_table]) for mark in by_mark}
        for policy, by_mark in by_table[0].items()
    }


def compare(shares: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, Comparison]]:
    """Returns the comparison of each policy with the baseline, by number of trainings and policy."""
    found: dict[str, dict[str, Comparison]] = {}
    for policy, by_mark in shares.items():
        for mark, values in by_mark.items():
            found.setdefault(mark, {})[policy] = compare_pairs(values, shares[BASELINE][mark])
    return found


def compare_pairs(shares: Floats, baseline: Floats) -> Comparison:
    """Returns the comparison of two policies' shares, in the same order of tables and runs."""
    differences = shares - baseline
    share, mean = float(shares.mean()), float(differences.mean())
    if len(differences) < 2:
        return Comparison(share, mean, None, is_worse=False)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return Comparison(share, mean, mean / error if error else None, is_worse=mean < -WORSE_BY * error)


def worse(families: Mapping[str, Mapping[str, Mapping[str, Comparison]]]) -> dict[str, dict[str, list[str]]]:
    """Returns by number of trainings and policy the families in which it is worse than the baseline."""
    first = next(iter(families.values()))
    return {
        mark: {
            policy: [name for name, found in families.items() if found[mark][policy].is_worse] for policy in policies
        }
        for mark, policies in first.items()
    }


def mean_shares(shares: Mapping[str, Mapping[str, Floats]]) -> dict[str, dict[str, float]]:
    """Returns the share of each policy by number of trainings, averaged over tables and runs."""
    return {policy: {mark: float(values.mean()) for mark, values in found.items()} for policy, found in shares.items()}


def average_share(shares: Mapping[str, Mapping[str, Floats]], variants: Sequence[str]) -> dict[str, float]:
    """Returns the share of each variant, averaged over tables, runs and numbers of trainings."""
    return {name: float(np.mean(list(by_mark.values()))) for name, by_mark in shares.items() if name in variants}


def leave_one_out(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Returns for each family the variant with the best mean rank on the others, and the best one here.

    `figures` are mean shares by family and variant. `ratio` is the chosen variant's share over the best one's.
    """
    found: dict[str, dict[str, Any]] = {}
    variants = list(next(iter(figures.values())))
    ranks = {family: rankdata([-shares[name] for name in variants]) for family, shares in figures.items()}
    for family, shares in figures.items():
        others = np.mean([rank for other, rank in ranks.items() if other != family], axis=0)
        chosen, best = variants[int(np.argmin(others))], max(variants, key=shares.__getitem__)
        ratio = shares[chosen] / shares[best] if shares[best] else 1.0
        found[family] = {
            "chosen": chosen,
            "share": shares[chosen],
            "best": best,
            "best_share": shares[best],
            "ratio": ratio,
            "is_within": ratio >= 1.0 - LOSS,
        }
    return found


def format_figures(figures: Mapping[str, Any]) -> str:
    """Returns one table of text per number of full trainings, and one of the families left out."""
    blocks = [_comparison(figures, mark) for mark in figures["worse"]]
    if "left_out" in figures:
        blocks.append(_left_out(figures["left_out"]))
    return "\n\n".join(blocks)


def _line(family: str, figures: Mapping[str, Any]) -> str:
    mark, found = list(figures["families"][family].items())[-1]
    cells = (" ".join([policy, *_cell(one).split()]) for policy, one in found.items())
    return f"{family}, after {mark} full trainings: {', '.join(cells)}"


def _comparison(figures: Mapping[str, Any], mark: str) -> str:
    policies = list(figures["worse"][mark])
    widths = [max(len(policy), 13) for policy in policies]
    rows = {
        family: [_cell(by_mark[mark][policy]) for policy in policies] for family, by_mark in figures["families"].items()
    }
    means = [np.mean([one[mark][policy].share for one in figures["families"].values()]) for policy in policies]
    rows["mean"] = [f"{mean:.3f}        " for mean in means]
    rows["mean rank"] = [f"{figures['mean_ranks'][mark][policy]:.1f}        " for policy in policies]
    rows["families worse *"] = [f"{len(figures['worse'][mark][policy])}        " for policy in policies]
    first = max(map(len, rows))
    lines = [f"share of the hypervolume after {mark} full trainings, and standard errors from {BASELINE}"]
    for name, cells in {"": policies, **rows}.items():
        lines.append(
            f"{name:{first}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        )
    return "\n".join(line.rstrip() for line in lines)


def _cell(found: Comparison) -> str:
    distance = "" if found.standard_errors is None else f"{found.standard_errors:+.1f}"
    return f"{found.share:.3f} {distance:>6}{'*' if found.is_worse else ' '}"


def _left_out(left_out: Mapping[str, Mapping[str, Any]]) -> str:
    first = max(map(len, left_out))
    lines = ["chosen on all other families, judged on this one (mean share over the numbers of trainings)"]
    for family, one in left_out.items():
        text = f"{one['chosen']} {one['share']:.3f}, best here {one['best']} {one['best_share']:.3f}"
        lines.append(
            f"{family:{first}}  {text}: {one['ratio']:.2f}{'' if one['is_within'] else ', loses more than a fifth'}"
        )
    within = sum(one["is_within"] for one in left_out.values())
    return "\n".join([*lines, f"within a fifth of the best: {within} of {len(left_out)} families"])


if __name__ == "__main__":
    main()
