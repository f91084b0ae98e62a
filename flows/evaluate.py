"""The flow ``evaluate``: measure weights on labelled pictures and write a report.

Prefect shows a summary, the table of classes and the confusion matrix as artifacts.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

from prefect import artifacts, flow
from prefect.assets import materialize
from prefect.runtime import flow_run

from flows.caching import once
from flows.export import WEIGHTS_ASSET
from flows.interface import HOOKS, described, run_by_hand
from nnpipe import datasets, stages
from nnpipe.errors import EvaluationError
from nnpipe.files import sha256
from nnpipe.records import read_bytes
from nnpipe.settings import DATA, PARAMETERS, DataSet, EvaluateRequest
from nnpipe.stages import Evaluated

REPORT_ASSET = "nnpipe://report"


def _inputs(request: EvaluateRequest) -> dict[str, Any] | None:
    if request.folder:
        return None  # hashing its pictures takes as long as reading them
    path, champion, trained_on = stages.find_weights(request)
    return {
        "weights": sha256(read_bytes(path)),
        "champion": sha256(read_bytes(champion)) if os.path.lexists(champion) else None,
        "data": datasets.load(request.dataset or trained_on, request.data_dir).checksum,
        "out": request.out.resolve() if request.out else None,
        "name": path.resolve().parent.name,
        "plots": request.plots,
    }


@materialize(REPORT_ASSET, name="evaluate", asset_deps=[WEIGHTS_ASSET], persist_result=False)
def evaluate_stage(request: EvaluateRequest) -> Evaluated:
    """Measure, write a report, and show it in Prefect."""
    done = stages.evaluate(request)
    _show(done.report, plots=request.plots)
    return done


def evaluate_once(request: EvaluateRequest, *, force: bool) -> Evaluated:
    """Evaluate, unless there is a report for the same weights, champion, data and code."""

    def outputs(evaluated: Evaluated) -> dict[Path, str | None]:
        return {evaluated.report / "metrics.json": evaluated.sha256}

    return once(evaluate_stage, request, inputs=_inputs, outputs=outputs, force=force)


def _show(report: Path, *, plots: bool) -> None:
    summary = (report / "report.md").read_text(encoding="utf-8")
    page, about = (report / "report.html").resolve(), str(report)
    text = f"{summary}\nThe whole report: `{page}`\n"
    artifacts.create_markdown_artifact(text, key="evaluation", description=about)
    artifacts.create_link_artifact(page.as_uri(), "report.html", key="report", description=about)
    classes = json.loads((report / "metrics.json").read_text(encoding="utf-8"))["classes"]
    rows = [_row(figures) for figures in classes]
    artifacts.create_table_artifact(rows, key="per-class", description=about)
    if plots:
        picture = base64.b64encode((report / "plots" / "confusion.png").read_bytes()).decode()
        # Send the picture itself: the browser may have no access to the files of this machine.
        url = f"data:image/png;base64,{picture}"
        artifacts.create_image_artifact(url, key="confusion", description=about)


def _row(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a digit, with each estimate as its value and its interval."""
    row: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            low, high = (f"{100 * value[end]:.2f}" for end in ("low", "high"))
            value = f"{100 * value['value']:.2f} % ({low} to {high})"
        row[name.replace("_", " ")] = value
    return row


def _run_name() -> str:
    parameters = flow_run.parameters
    weights, folder = parameters["weights"], parameters["folder"]
    on = f"-on-{Path(folder).name}" if folder else ""
    return f"evaluate-{Path(weights).parent.name if weights else 'champion'}{on}"


@flow(name="evaluate", flow_run_name=_run_name, timeout_seconds=3600, **HOOKS)
@described
def evaluate(
    weights: Path | None = None,
    dataset: DataSet | None = None,
    folder: Path | None = None,
    out: Path | None = None,
    plots: bool = True,
    weights_dir: Path | None = None,
    data_dir: Path = DATA,
    force: bool = False,
    at_least: float = 0.0,
) -> Evaluated:
    """Measure weights on test digits or a folder of labelled pictures, and write a report."""
    PARAMETERS["at_least"].check("at_least", at_least)  # before the work, not after it
    done = evaluate_once(EvaluateRequest.pick(locals()), force=force)
    if done.accuracy < at_least:
        raise EvaluationError(
            f"{done.report}: only {done.accuracy:.2%} of {done.n:,} digits were read right, "
            f"expected at least {at_least:.2%}",
            advice="rollback",
        )
    return done


if __name__ == "__main__":
    run_by_hand(evaluate)
