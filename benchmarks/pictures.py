"""Pictures for the docs, from a finished study: `python -m benchmarks.pictures runs/cifar_small`."""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

from mlflow.tracking import MlflowClient
from PIL import Image
from playwright.sync_api import Page
from rich.console import Console

import results
from search import status
from search.display import dashboard
from search.tracking.mlflow_mirror import resolve_store
from tests.support.browser import browse, serve_mlflow

WIDTH, HEIGHT = 1280, 1140
COLUMNS = 84
NUM_COLORS = 128


def main(argv: list[str] | None = None) -> int:
    """Writes all pictures and returns the exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("folder", type=Path, help="the study's folder, with MLflow's database beside it")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures (docs/images)")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with browse(WIDTH, HEIGHT) as page:
        take_terminal(page, arguments.folder, arguments.out / "terminal.png")
        take_report(page, arguments.folder, arguments.out / "report.png")
        take_mlflow(page, arguments.folder, arguments.out / "mlflow.png")
    return 0


def take_terminal(page: Page, folder: Path, path: Path) -> None:
    """Takes the output of `search.status`, without the name of the machine."""
    shown = replace(status.snapshot(folder), driver=None)
    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())
    console.print(dashboard.render(shown))
    page.set_content(console.export_svg(title=f"python -m search.status runs/{shown.result.name}"))
    save(page.locator("svg").first.screenshot(), path)


def take_report(page: Page, folder: Path, path: Path) -> None:
    """Takes the top of the report."""
    results.write_report(results.load(folder), folder / "report.html", f"runs/{folder.name}")
    page.goto((folder / "report.html").absolute().as_uri())
    page.locator("#chart-front .main-svg").first.wait_for()
    save(page.screenshot(), path)


def take_mlflow(page: Page, folder: Path, path: Path) -> None:
    """Takes the charts of MLflow's saved view `trials`."""
    uri, _ = resolve_store(None, folder)
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(folder.name)
    assert experiment is not None
    with serve_mlflow(uri) as address:
        view = "viewStateShareKey=trials&compareRunsMode=CHART"
        page.goto(f"{address}/#/experiments/{experiment.experiment_id}/runs?{view}")
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        page.get_by_text("Parallel Coordinates").first.wait_for()
        close = page.get_by_role("button", name="Close", exact=True)  # of MLflow's own notices
        for _ in range(close.count()):
            close.first.click()
        page.wait_for_timeout(5000)  # charts are drawn several times until the page has its size
        save(page.screenshot(), path)


def save(picture: bytes, path: Path) -> None:
    """Writes a picture with a palette, a third of the size."""
    colors = Image.Quantize.MAXCOVERAGE  # keeps rare colors, such as those of single markers
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(NUM_COLORS, method=colors).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
