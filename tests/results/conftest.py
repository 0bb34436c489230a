"""A small study with trials of every state: in memory, as a folder and as an MLflow store."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from results import StudyResult, TrialResult

SPACE = {
    "step": {"choice": [2, 4]},
    "attn_layer": {
        "choice": {
            "SSA": {"attn_scale": {"log_uniform": [0.03, 0.5]}, "alpha": {"uniform": [1, 8]}},
            "SDSA": {"alpha": {"uniform": [2, 4]}},
        }
    },
    "lr": {"log_uniform": [1e-4, 3e-3]},
}
ATTRS = {
    "objectives": {"accuracy": "maximize", "spike_rate": "minimize"},
    "searched": ["step", "attn_layer", "attn_scale", "alpha", "lr"],
    "epochs": 3,
    "constraints": {"params_m": {"max": 10}, "accuracy": {"min": 50}},
    "space": {"study": "quickstart", "base": "spikformer/cifar10", "space": SPACE},
    "seed": 7,
    "versions": {"torch": "2.13.0", "optuna": "5.0.0"},
}


@dataclass(frozen=True)
class SampleTrial:
    """A trial as the search stores it."""

    state: str
    config: dict[str, Any]
    accuracies: Sequence[Sequence[float]] = ()  # one row per epoch, one value per read-out
    rates: Sequence[float] = ()
    params_m: float = 4.5
    failure: dict[str, str] | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)

    def params(self) -> dict[str, Any]:
        """Returns the values under their Optuna names; a key that two options open carries its option."""
        attention = self.config["attn_layer"]
        names = {key: key for key in ["step", "attn_layer", "lr"] + ["attn_scale"] * (attention == "SSA")}
        names |= {f"attn_layer={attention}.alpha": "alpha"}
        return {name: self.config[key] for name, key in names.items()}

    def read_outs(self, epoch: int) -> list[dict[str, float]]:
        pairs = zip(self.accuracies[epoch], self.rates, strict=True)
        return [
            {"read_step": step, "accuracy": accuracy, **_costs(rate, step)}
            for step, (accuracy, rate) in enumerate(pairs, 1)
        ]

    def metrics(self, epoch: int) -> dict[str, float]:
        last = {name: value for name, value in self.read_outs(epoch)[-1].items() if name != "read_step"}
        return {**last, "params_m": self.params_m, "images_per_s": 1000.0 / 3, "peak_mem_gib": 0.7}


def _costs(rate: float, step: int) -> dict[str, float]:
    spikes = rate * step * 1e4
    return {
        "loss": 1.0 - rate,
        "spike_rate": rate,
        "spikes": spikes,
        "synops": spikes * 100,
        "macs": 2.5e6,
        "energy_mj": 4.6e-9 * 2.5e6 + 0.9e-9 * spikes * 100,
    }


def config_of(step: int = 4, attn_layer: str = "SSA", **changes: Any) -> dict[str, Any]:
    return {
        "data_dir": "data",
        "dataset": "cifar10",
        "num_classes": 10,
        "img_size": 32,
        "mean": [0.4914, 0.4822, 0.4465],
        "aa": None,
        "epochs": 3,
        "mixup": 0.5,
        "model": "spikformer_cifar",
        "step": step,
        "read_step": step,
        "embed_dim": 384,
        "embed_layer": "SPS",
        "attn_layer": attn_layer,
        "attn_scale": 0.125,
        "tau": 2.0,
        "act_function": "sigmoid",
        "node_type": "LIFNode",
        "alpha": 4.0,
        "amp": True,
        "lr": 0.1 + 0.2,
        "warmup_lr": 1e-05,
        "val_fraction": 0.1,
        "seed": 42,
        **changes,
    }


TRIALS = [
    SampleTrial(
        "COMPLETE",
        config_of(),
        [[30.0, 40.0, 45.0, 50.0], [50.0, 60.0, 70.0, 75.0], [70.0, 85.0, 89.0, 90.1]],
        [0.10, 0.12, 0.13, 0.14],
        layers=[{"name": "blocks.0.attn.q", "spike_rate": 0.2}],
    ),
    SampleTrial("COMPLETE", config_of(2, "SDSA", lr=1e-3), [[40.0, 50.0], [60.0, 70.0], [80.0, 88.5]], [0.08, 0.09]),
    SampleTrial("PRUNED", config_of(2, lr=2e-4), [[20.0, 25.0]], [0.05, 0.06]),
    SampleTrial(
        "FAIL", config_of(lr=3e-3), [[10.0] * 4], [0.9] * 4, failure={"class": "diverged", "reason": "loss is nan"}
    ),
    SampleTrial("FAIL", config_of(), failure={"class": "infeasible", "reason": "num_heads must divide embed_dim"}),
    SampleTrial("COMPLETE", config_of(2), [[97.0, 98.0], [98.0, 99.0], [98.0, 99.0]], [0.01, 0.02], params_m=12.0),
    SampleTrial("RUNNING", config_of(2), [[50.0, 60.0]], [0.07, 0.08]),
    SampleTrial("COMPLETE", config_of(2, lr=2e-3), [[1.0, 2.0], [3.0, 4.0], [80.0, 88.5]], [0.08, 0.09]),
    SampleTrial("FAIL", config_of(2), [[10.0, 10.0]] * 3, [0.0, 0.0], failure={"class": "at_chance", "reason": "10.0"}),
]


@pytest.fixture
def make_study() -> Callable[..., StudyResult]:
    """Builds a study of trials that each have one point per (accuracy, spike_rate) pair."""

    def make(*trials: Sequence[tuple[float, float]], **changes: Any) -> StudyResult:
        attrs = {**ATTRS, "constraints": {}, **changes}
        return StudyResult(
            name="quickstart",
            objectives=attrs["objectives"],
            searched=tuple(attrs["searched"]),
            epochs=3,
            constraints=attrs["constraints"],
            trials=tuple(_trial(number, pairs) for number, pairs in enumerate(trials)),
            attrs=attrs,
        )

    return make


def _trial(number: int, pairs: Sequence[tuple[float, float]]) -> TrialResult:
    config = config_of(step=len(pairs))
    read_outs = [{"accuracy": a, **_costs(rate, step)} for step, (a, rate) in enumerate(pairs, 1)]
    return TrialResult(
        number=number,
        state="complete",
        config=config,
        params={"step": config["step"]},
        epochs=({"epoch": 3, **read_outs[-1], "params_m": 4.5, "images_per_s": 300.0, "peak_mem_gib": 0.7},),
        read_outs=tuple({"read_step": step, **values} for step, values in enumerate(read_outs, 1)),
    )


@pytest.fixture
def study_folder(tmp_path: Path) -> Path:
    """Writes the sample trials as the search does: `<folder>/study.db`."""
    folder = tmp_path / "runs" / "quickstart"
    write_folder(folder, [f"run{number}" for number in range(len(TRIALS))])
    return folder


@pytest.fixture
def write_study() -> Callable[[Path], None]:
    """Writes the sample trials to a folder."""
    return lambda folder: write_folder(folder, [None] * len(TRIALS))


def write_folder(folder: Path, run_ids: Sequence[str | None], attrs: dict[str, Any] = ATTRS) -> None:
    import optuna

    folder.mkdir(parents=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="quickstart", directions=["maximize", "minimize"], storage=f"sqlite:///{folder / 'study.db'}"
    )
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    for trial, run_id in zip(TRIALS, run_ids, strict=True):
        study.add_trial(_optuna_trial(trial, run_id))


def _optuna_trial(trial: SampleTrial, run_id: str | None) -> Any:
    import optuna

    attrs: dict[str, Any] = {"config": trial.config, "layers": trial.layers, "run_id": run_id}
    for epoch in range(len(trial.accuracies)):
        values = {"metrics": trial.metrics(epoch), "read_outs": trial.read_outs(epoch), "time": 1.7e9 + epoch}
        attrs[f"epoch_{epoch + 1:04d}"] = values
    if trial.failure:
        attrs["failure"] = trial.failure
    last = trial.metrics(-1) if trial.state == "COMPLETE" else {}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[trial.state],
        params=dict.fromkeys(trial.params(), 0.5),
        distributions={key: optuna.distributions.FloatDistribution(0.0, 1.0) for key in trial.params()},
        values=[last["accuracy"], last["spike_rate"]] if last else None,
        user_attrs=attrs,
    )


def write_mlflow(uri: str, artifacts: Path) -> list[str | None]:
    """Writes the sample trials as the search mirrors them; returns each trial's run id."""
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("quickstart", artifact_location=artifacts.as_uri())
    parent = client.create_run(experiment, tags={"kind": "study"}).info.run_id
    client.log_text(parent, json.dumps({"name": "quickstart", "attrs": ATTRS}), "study.json")
    states = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running"}
    run_ids: list[str | None] = []
    for number, trial in enumerate(TRIALS):
        if trial.failure and trial.failure["class"] == "infeasible":
            run_ids.append(None)
            continue
        tags = {"kind": "trial", "trial": str(number), "mlflow.parentRunId": parent, "status": states[trial.state]}
        if trial.failure:
            tags |= {"failure_class": trial.failure["class"], "failure_reason": trial.failure["reason"]}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        for epoch in range(len(trial.accuracies)):
            values = trial.metrics(epoch).items()
            client.log_batch(run_id, [Metric(name, value, 1000 + epoch, epoch + 1) for name, value in values])
        client.log_text(run_id, yaml.safe_dump(trial.config), "train.yml")
        client.log_text(run_id, json.dumps(trial.read_outs(-1)), "steps.json")
        client.log_text(run_id, json.dumps(trial.layers), "layers.json")
        run_ids.append(run_id)
    client.set_terminated(parent, "KILLED")  # as after Ctrl-C: one trial has not ended
    return run_ids


@pytest.fixture
def two_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Returns a study folder and the tracking URI of the MLflow store that mirrors it."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    folder = tmp_path / "runs" / "quickstart"
    write_folder(folder, write_mlflow(uri, tmp_path / "artifacts"))
    return folder, uri


@pytest.fixture(scope="session")
def make_search() -> Callable[..., Any]:
    """Builds an open Optuna study of random trials in the space above, as a search would have written it."""
    return random_search


@pytest.fixture(scope="session")
def many_trials() -> StudyResult:
    """A study of 50 random trials, half of them trained to the end."""
    from results.from_optuna import study_from_optuna

    return study_from_optuna(random_search(50, full=0.5))


def random_search(num_trials: int, full: float = 1.0, seed: int = 0, name: str = "many", **attrs: Any) -> Any:
    """Trials of 1, 3 or 9 epochs; `full` is the share of full trainings, the rest is stopped or failed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=name, directions=["maximize", "minimize"])
    for key, value in {**ATTRS, "epochs": 9, "constraints": {}, **attrs}.items():
        study.set_user_attr(key, value)
    rng = random.Random(seed)
    for _ in range(num_trials):
        study.add_trial(_random_trial(rng, full))
    return study


def _random_trial(rng: random.Random, full: float) -> Any:
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    attention, step = rng.choice(["SSA", "SDSA"]), rng.choice([2, 4])
    alphas = {"SSA": FloatDistribution(1, 8), "SDSA": FloatDistribution(2, 4)}
    spaces: dict[str, Any] = {
        "step": CategoricalDistribution([2, 4]),
        "attn_layer": CategoricalDistribution(["SSA", "SDSA"]),
        **({"attn_scale": FloatDistribution(0.03, 0.5, log=True)} if attention == "SSA" else {}),
        f"attn_layer={attention}.alpha": alphas[attention],
        "lr": FloatDistribution(1e-4, 3e-3, log=True),
    }
    params: dict[str, Any] = {name: rng.uniform(s.low, s.high) for name, s in spaces.items() if hasattr(s, "low")}
    params |= {"step": step, "attn_layer": attention}
    config = config_of(**{name.rpartition(".")[2]: value for name, value in params.items()})
    state = "COMPLETE" if rng.random() < full else rng.choice(["PRUNED", "PRUNED", "FAIL"])
    length = {"COMPLETE": 9, "PRUNED": rng.choice([1, 1, 3]), "FAIL": 1}[state]
    best = 90 - 20 * abs(math.log10(params["lr"] / 1e-3)) + step + rng.gauss(0, 1)
    rate = 0.05 + 0.2 * params[f"attn_layer={attention}.alpha"] / 8 + 0.01 * rng.random()
    attrs: dict[str, Any] = {"config": config, "layers": [{"name": "blocks.0.q", "spike_rate": rate}]}
    for epoch in range(1, length + 1):
        accuracy = best * (1 - math.exp(-epoch / 2))
        read_outs = [{"read_step": t, "accuracy": accuracy - step + t, **_costs(rate, t)} for t in range(1, step + 1)]
        metrics = {name: value for name, value in read_outs[-1].items() if name != "read_step"}
        attrs[f"epoch_{epoch:04d}"] = {"metrics": {**metrics, "params_m": 4.5}, "read_outs": read_outs}
    if state == "FAIL":
        attrs["failure"] = {"class": "diverged", "reason": "loss is <b>nan</b>"}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        params=params,
        distributions=spaces,
        values=[metrics["accuracy"], metrics["spike_rate"]] if state == "COMPLETE" else None,
        user_attrs=attrs,
    )
