"""Optimizers of other libraries as trial schedulers: their process, their errors, and positions as configs."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from benchmarks.search_peers import PEERS, Peer, Positions, grid
from benchmarks.simulations import load
from config.errors import ConfigError
from search.simulation.simulator import SimulatedCluster, simulate
from tests.support.synthetic_curves import Synthetic, make_table


@pytest.fixture(scope="module")
def table() -> Synthetic:
    return make_table(levels=3, epochs=9)


@pytest.mark.parametrize("python", ["", "/no/such/python"])
def test_a_missing_environment_is_named_with_its_package(
    python: str, table: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNE_TUNE_PYTHON", python)
    with pytest.raises(ConfigError, match=rf"SYNE_TUNE_PYTHON: .* \(got '{python}'\).* Install syne-tune"):
        PEERS["syne_tune_moasha"](table, 0)


def test_an_environment_without_the_library_is_refused_with_its_error(
    table: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEPS_PYTHON", sys.executable)
    with pytest.raises(ConfigError, match=r"(?s)neps: .*No module named 'neps'"):
        PEERS["neps_moasha"](table, 0)


def test_a_process_that_ended_is_an_error(table: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEPS_PYTHON", "true")
    with pytest.raises(ConfigError, match="its process ended"):
        PEERS["neps_moasha"](table, 0)


@pytest.mark.parametrize("name", ["synthetic", "digits"])
def test_positions_of_the_values_reach_every_config_of_a_table(name: str) -> None:
    table, _ = load(name, "")
    sizes = {key: size for key, (size, _) in grid(table.space).items()}
    found = {
        table.index(table.space.suggest(Positions(dict(zip(sizes, positions, strict=True)))))
        for positions in itertools.product(*map(range, sizes.values()))
    }
    assert found == set(range(len(table.configs)))
    assert {is_ordered for _, is_ordered in grid(table.space).values()} <= {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_a_librarys_own_optimizer_searches_a_table(name: str, table: Synthetic) -> None:
    variable = "NEPS_PYTHON" if name.startswith("neps") else "SYNE_TUNE_PYTHON"
    if variable not in os.environ:
        pytest.skip(f"needs an environment of the library in {variable}")
    traces = [simulate(table, PEERS[name](table, run), SimulatedCluster(workers=4), 100, run) for run in (3, 3, 4)]
    assert traces[0] == traces[1] != traces[2]
    assert traces[0].select("complete")
    assert traces[0].spent > 90
    assert bool(traces[0].select("pause")) == name.startswith("neps")
    assert bool(traces[0].select("stop")) == (name == "syne_tune_moasha")


def test_the_process_ends_with_its_scheduler(table: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    if "SYNE_TUNE_PYTHON" not in os.environ:
        pytest.skip("needs an environment of the library in SYNE_TUNE_PYTHON")
    peer = Peer("syne_tune", "moasha", table, 0)
    process = peer.process
    assert process.poll() is None
    del peer
    assert process.poll() == 0
