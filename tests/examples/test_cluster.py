"""The files for clusters are valid for their programs and provide what the search needs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from search import run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "cluster"
SLURM = (FOLDER / "slurm.sbatch").read_text()


@pytest.mark.parametrize("name", ["start.sh", "slurm.sbatch"])
def test_bash_can_read_a_script(name: str) -> None:
    subprocess.run(["bash", "-n", FOLDER / name], check=True)


def test_the_scripts_use_options_that_ray_has() -> None:
    text = (FOLDER / "start.sh").read_text() + SLURM.replace("\\\n", " ")
    commands = re.findall(r"bin/ray\"? start ([^\n>;&|]*)", text)
    assert len(commands) == 4
    from ray.scripts import scripts

    options = {option for parameter in scripts.start.params for option in parameter.opts}
    assert {option for rest in commands for option in re.findall(r"--[a-z-]+", rest)} <= options


def test_the_slurm_job_ends_in_order_and_requeues_itself() -> None:
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SLURM, re.MULTILINE))
    assert options["signal"].startswith("B:USR1@")
    assert "requeue" in options
    assert int(options["nodes"]) > 1


def test_a_signal_reaches_the_search_and_requeues_the_job_once_it_has_ended(tmp_path: Path) -> None:
    """The end of the script, with a search that takes a while to end and a Slurm that logs its calls."""
    ending = SLURM[SLURM.index('"$VENV/bin/python" -m search.run') :]
    search = "#!/bin/bash\ntrap 'sleep 0.3; echo ended >> log; exit 143' TERM\ntouch up\nwhile :; do sleep 0.05; done\n"
    for name, text in {"python": search, "scontrol": '#!/bin/bash\necho "$@" >> log\n'}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    setting = f'VENV="{tmp_path}" HEAD=h PORT=1 SLURM_JOB_ID=7 PATH="{tmp_path}/bin:$PATH"\n'
    until_up = "(until [ -e up ]; do sleep 0.05; done; kill -USR1 $$) &\n"
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{setting}{until_up}{ending}"], cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 143
    assert (tmp_path / "log").read_text().split("\n")[:2] == ["ended", "requeue 7"]


def test_the_kubernetes_job_runs_a_search_on_what_all_pods_share() -> None:
    job: dict[str, Any] = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "search.run"]
    asked = run._parser().parse_args(words[3:])
    assert asked.address == "auto"
    assert (ROOT / Path(asked.space).relative_to("/app")).exists()
    cluster = job["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounted[str(asked.out)] in {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["requests"]["cpu"]
