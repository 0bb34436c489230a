"""The GPU's path on the null GPU: trainings run, and launches, waits, copies and memory stay within their budgets.

The null GPU (tests/support/null_gpu) computes nothing, so no test here is about values.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import results
from models import registry
from tests.support.null_gpu import build

ROOT = Path(__file__).parents[1]
OBSTACLE = build.obstacle()

pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"no null GPU: {OBSTACLE}")


def run(*arguments: str, limit_s: float = 600, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs Python on the null GPU from the checkout."""
    environment = {**build.environment(**settings), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=limit_s
    )


def check(*names: str, limit_s: float = 600, **settings: object) -> dict[str, Any]:
    """Returns the findings of checks."""
    done = run("-m", "tests.support.null_gpu.checks", *names, limit_s=limit_s, **settings)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """All findings of the default tests, from one process."""
    trainings = ("memory_estimates", "small_recipes", "families", "fused_group", "graphed_epochs", "settings")
    models = ("neurons", "half_precision", "fused_convolutions", "shared_norms")
    return check("errors", *trainings, "counts", *models, limit_s=1200)


@pytest.mark.parametrize("amp", [True, False])
def test_a_recipe_trains_on_a_gpu_with_and_without_mixed_precision(found: dict[str, Any], amp: bool) -> None:
    trained = found["small_recipes"][f"amp={amp}"]
    assert (trained["epochs"], trained["devices"]) == (1, ["cuda"])
    assert trained["launches"] > 500
    assert 0 < trained["peak_mem_gib"] < 0.5


FAMILIES = sorted(path.name for path in (ROOT / "trainers/recipes").iterdir() if path.is_dir())


@pytest.mark.parametrize("amp", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_trains_on_a_gpu_with_and_without_mixed_precision(
    found: dict[str, Any], family: str, amp: bool
) -> None:
    trained = found["families"][f"{family} amp={amp}"]
    assert (trained["epochs"], trained["devices"]) == (1, ["cuda"])


@pytest.mark.parametrize("amp", [True, False])
def test_trainings_as_one_run_on_a_gpu_with_and_without_mixed_precision(found: dict[str, Any], amp: bool) -> None:
    group = found["fused_group"][f"amp={amp}"]
    assert group["epochs"] == [1, 1, 1]
    assert group["launches"] > 500


def test_layers_of_neurons_stay_in_half_precision(found: dict[str, Any]) -> None:
    """A sum, scale or position in float32 would widen all that follows: twice the memory and traffic."""
    layers = found["half_precision"]
    assert len(layers) > 20
    assert [name for name, widened in layers.items() if widened] == ["qsd"]  # whose shortcuts are in float32


WITH_KERNELS = sorted(set(registry.NEURONS) - {"PSN", "HDLIFNode", "IELIFNode"})


@pytest.mark.parametrize("node_type", sorted(registry.NEURONS))
def test_a_step_with_each_neuron_waits_for_nothing_and_can_be_a_graph(found: dict[str, Any], node_type: str) -> None:
    step = found["neurons"][node_type]
    assert (step["syncs"], step["refused"], step["graph_launches"], step["widened"]) == (0, 0, 1, [])


@pytest.mark.parametrize("node_type", WITH_KERNELS)
def test_neurons_with_kernels_take_a_launch_in_each_direction(found: dict[str, Any], node_type: str) -> None:
    assert found["neurons"][node_type]["launches"] <= found["neurons"]["LIFNode"]["launches"] + 100


def test_1x1_layers_of_trainings_as_one_are_no_grouped_convolutions(found: dict[str, Any]) -> None:
    counted = found["fused_convolutions"]
    assert 0 < counted["by_cudnn"] <= counted["spatial"] < counted["convolutions"]


def test_shared_batch_norms_take_one_collective_each_way_and_no_wait(found: dict[str, Any]) -> None:
    counted = found["shared_norms"]
    assert (counted["collectives"], counted["syncs"]) == (2 * counted["norms"], 0)


def test_settings_without_meaning_on_a_gpu_are_answered(found: dict[str, Any]) -> None:
    assert found["settings"] == {
        "compile": ["compile: true has no effect on a GPU; leave it out"],
        "device": "device must be below 1, the number of GPUs of this machine (got 1)",
    }


def test_predicted_memory_is_what_pytorch_allocates(found: dict[str, Any]) -> None:
    ratios = found["memory_estimates"]
    assert len(ratios) == 8
    high = {name: 1.2 if name.startswith("IELIF") else 1.1 for name in ratios}  # IE-LIF has temporaries in float32
    assert {name: ratio for name, ratio in ratios.items() if not 0.9 < ratio < high[name]} == {}


@pytest.mark.parametrize("name", ["cublas", "cudnn", "cudnn of the host", "allocator", "share"])
def test_lack_of_memory_is_recognized_from_pytorchs_own_messages(found: dict[str, Any], name: str) -> None:
    assert found["errors"][name]["is_oom"], found["errors"][name]


def test_a_process_with_a_share_fails_above_it_while_the_gpu_has_room(found: dict[str, Any]) -> None:
    assert "20.00 GiB allowed" in found["errors"]["share"]["text"]
    assert found["errors"]["whole"] == 1


def test_a_lost_context_is_told_from_other_errors(found: dict[str, Any]) -> None:
    errors = found["errors"]
    assert errors["working"] is None
    assert not errors["lost"]["is_oom"]
    assert "an illegal memory access was encountered" in errors["context"]


def test_segments_of_the_allocator_are_expandable(found: dict[str, Any]) -> None:
    assert found["errors"]["expandable"] is True


def test_small_steps_are_replayed_as_graphs_but_for_warm_up_and_probes(found: dict[str, Any]) -> None:
    graphed = found["graphed_epochs"]
    assert graphed["refused"] == 0
    assert 0.85 * graphed["batches"] <= graphed["graph_launches"] < graphed["batches"]


def test_the_graph_of_an_epoch_takes_over_the_memory_of_the_one_before(found: dict[str, Any]) -> None:
    first, *later = found["graphed_epochs"]["reserved_gib"]
    assert later == [first] * 2


def test_trainings_with_graphs_leave_no_more_memory_each_time(found: dict[str, Any]) -> None:
    first, second = found["graphed_epochs"]["left_bytes"]
    assert first == second


MAXIMA = {
    "launches_step": 600,
    "launches_augment": 150,
    "syncs_step": 0,
    "copies_step": 2,
    "graph_replays_step": 1,
    "graph_launches_step": 0,
    "graph_syncs_step": 0,
    "peak_gib": 5.0,
    "fused_k8_launches": 800,
    "eval_syncs_batch": 1,
    "recalibration_syncs_batch": 1,
    "recompiles": 0,
}


@pytest.mark.parametrize("name", MAXIMA)
def test_a_step_stays_within_its_budget(found: dict[str, Any], name: str) -> None:
    assert found["counts"][name] <= MAXIMA[name]


def test_the_counters_count(found: dict[str, Any]) -> None:
    counts = found["counts"]
    assert counts["launches_step"] > 300
    assert counts["peak_gib"] > 3
    assert counts["fused_k8_launches"] > 200
    assert counts["graph_replays_step"] == 1


@pytest.mark.slow
def test_every_recipe_trains_on_a_gpu() -> None:
    trained = check("all_recipes", limit_s=3000)["all_recipes"]
    failed = {name: row["error"] for name, row in trained.items() if "error" in row}
    assert failed == {}
    assert len(trained) == 2 * len(list((ROOT / "trainers/recipes").rglob("*.yml")))


TWO_GPUS = """
from pathlib import Path
from tests.support.null_gpu import checks
from trainers.distributed.data_parallel import train_distributed

if __name__ == "__main__":
    checks.accept_any_result()
    keys = {"embed_dim": 16, "num_heads": 2, "depths": 1, "val_fraction": 0.9, "tet": TET, "amp": AMP}
    epochs = []
    imports = ("tests.support.null_gpu.any_result",)
    config = checks.make_config("spikformer/digits", **keys)
    model = train_distributed(config, 2, Path(FOLDER), epochs.append, sync_bn=SYNC, imports=imports)
    print(len(epochs), next(model.parameters()).device)
"""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(("sync_bn", "amp", "tet"), [(True, True, None), (False, True, 0.05), (True, False, 0.05)])
def test_a_training_on_two_gpus_runs_with_and_without_shared_batch_norm(
    tmp_path: Path, sync_bn: bool, amp: bool, tet: float | None
) -> None:
    program = tmp_path / "two.py"
    program.write_text(f"FOLDER, SYNC, AMP, TET = {str(tmp_path / 'run')!r}, {sync_bn}, {amp}, {tet}\n{TWO_GPUS}")
    done = run(str(program), devices=2, limit_s=1200)
    assert done.stdout.splitlines()[-1:] == ["1 cuda:0"], done.stderr[-3000:]


SPACE = """
study: shared
base: spikformer/digits
fixed:
  {embed_dim: 16, num_heads: 2, depths: 1, step: 1, val_fraction: 0.9, batch_size: 16,
   warmup_epochs: 0, cooldown_epochs: 0}
objectives: {accuracy: maximize}
space:
  lr: {log_uniform: [1.0e-3, 1.0e-2]}
budget: {trials: 6, epochs: 1}
sampler: {name: random}
scheduler: {name: none}
resources: {cpu: 0.5, gpu: 0.25}
concurrency: 4
"""


@pytest.mark.slow
@pytest.mark.ray
def test_four_trials_share_a_gpu_and_a_lost_context_costs_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "space.yml").write_text(SPACE)
    command = ["-m", "search.run", str(tmp_path / "space.yml"), "--out", str(tmp_path / "runs")]
    patched = ["--import", "tests.support.null_gpu.any_result"]
    done = run(*command, *patched, dies_after=1500, dies_once=tmp_path / "died", limit_s=1800)
    assert (tmp_path / "died").exists(), done.stderr[-3000:]
    trials = list(results.load(tmp_path / "runs" / "shared").trials)
    assert len(trials) == 6
    assert {trial.failure_class for trial in trials} <= {None, "at_chance"}  # no accuracy is computed
    assert all(0 < trial.metrics["peak_mem_gib"] < 0.25 * 80 for trial in trials)


@pytest.mark.slow
def test_the_gpu_benchmark_runs_without_ray_and_mlflow(tmp_path: Path) -> None:
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text("import sys\nfor name in ('ray', 'mlflow', 'optuna'):\n    sys.modules[name] = None\n")
    environment = {**build.environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    target = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--null", "--parts", "all", "--budget", "1500"]
    done = subprocess.run(
        [*command, "--json", str(target)], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=2000
    )
    figures = json.loads(target.read_text())
    errors = {name: part["error"] for name, part in figures.items() if isinstance(part, dict) and "error" in part}
    failed = {name: error for name, error in errors.items() if not error.startswith("Late")}  # on a busy machine
    assert failed == {}, done.stderr[-3000:]
    assert {"launches_step", "syncs_step", "peak_gib", "fused_k8_launches", "recompiles"} <= figures.keys()
