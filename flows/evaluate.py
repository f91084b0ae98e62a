"""The flow ``evaluate``: measure weights on labelled pictures and write a report.

Prefect shows a summary, a table and the confusion matrix as artifacts. The table is that of the ten
classes; for numbers of several digits, that of their lengths.
"""

import base64
import json
from pathlib import Path
from typing import Any

from prefect import artifacts, flow, task
from prefect.runtime import flow_run

from flows.caching import once
from flows.interface import HOOKS, artifact_key, attempt, described, run_by_hand
from nnpipe import datasets, stages
from nnpipe.errors import EvaluationError
from nnpipe.settings import DATA, DataSet, EvaluateRequest
from nnpipe.stages import Evaluated


def _inputs(request: EvaluateRequest) -> dict[str, Any] | None:
    if request.folder or request.labels:
        return None  # hashing its pictures takes as long as reading them
    found = stages.find_weights(request)
    return {
        "weights": found.digests,  # and those of the champion
        "data": datasets.load(request.dataset or found.trained_on, request.data_dir).checksum,
        "out": request.out.resolve() if request.out else None,
        "name": found.path.resolve().parent.name,
        "plots": request.plots,
    }


@task(name="evaluate", persist_result=False)
def evaluate_stage(request: EvaluateRequest) -> Evaluated:
    """Measure, and write a report."""
    return stages.evaluate(request)


def evaluate_once(request: EvaluateRequest, *, force: bool) -> Evaluated:
    """Show a report in Prefect, the stored one if weights, champion, data and code are the same."""

    def outputs(evaluated: Evaluated) -> dict[Path, str | None]:
        shown = dict.fromkeys(_files(evaluated.report, plots=request.plots))
        return shown | {evaluated.report / "metrics.json": evaluated.sha256}

    done = once(evaluate_stage, request, inputs=_inputs, outputs=outputs, force=force)
    attempt(_show, done.report, plots=request.plots)
    return done


def _files(report: Path, *, plots: bool) -> list[Path]:
    """The files of a report that Prefect shows."""
    return [report / "metrics.json", report / "report.md"] + plots * [
        report / "plots" / "confusion.png"
    ]


def _show(report: Path, *, plots: bool) -> None:
    figures, summary, *pictures = _files(report, plots=plots)

    def about(kind: str) -> dict[str, str]:
        return {"key": artifact_key(kind, report), "description": str(report)}

    page = (report / "report.html").resolve()  # not as a link: browsers refuse links to files
    text = f"{summary.read_text(encoding='utf-8')}\nThe whole report: `{page}`\n"
    artifacts.create_markdown_artifact(text, **about("evaluation"))
    metrics = json.loads(figures.read_text(encoding="utf-8"))
    part = "classes" if "classes" in metrics else "lengths"
    rows = [_row(figures) for figures in metrics[part]]
    artifacts.create_table_artifact(rows, **about("per-class" if part == "classes" else part))
    for picture in pictures:
        # Send the picture itself: the browser may have no access to the files of this machine.
        url = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
        artifacts.create_image_artifact(url, **about("confusion"))


def _row(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a digit or a length, with each estimate as its value and its interval."""
    row: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, dict):
            low, high = (f"{100 * value[end]:.2f}" for end in ("low", "high"))
            value = f"{100 * value['value']:.2f} % ({low} to {high})"
        row[name.replace("_", " ")] = value
    return row


def _run_name() -> str:
    parameters = flow_run.parameters
    weights, folder, labels = (parameters[name] for name in ("weights", "folder", "labels"))
    if labels:
        folder = Path(labels).resolve().parent
    on = f"-on-{Path(folder).name}" if folder else ""
    return f"evaluate-{Path(weights).parent.name if weights else 'champion'}{on}"


@flow(name="evaluate", flow_run_name=_run_name, timeout_seconds=3600, **HOOKS)
@described
def evaluate(
    weights: Path | None = None,
    dataset: DataSet | None = None,
    folder: Path | None = None,
    labels: Path | None = None,
    digits: str | None = None,
    out: Path | None = None,
    plots: bool = True,
    weights_dir: Path | None = None,
    data_dir: Path = DATA,
    force: bool = False,
    at_least: float = 0.0,
) -> Evaluated:
    """Measure weights on test digits or on labelled pictures, and write a report."""
    request = EvaluateRequest.pick(locals())
    done = evaluate_once(request, force=force)
    if done.accuracy < at_least:
        raise EvaluationError(
            f"{done.report}: only {done.accuracy:.2%} of {done.n:,} {done.what} were read right, "
            f"expected at least {at_least:.2%}",
            advice="rollback",
        )
    return done


if __name__ == "__main__":
    run_by_hand(evaluate)
