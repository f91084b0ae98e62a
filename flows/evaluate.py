"""The flow ``evaluate``: weights are measured on the test digits, and a report is written."""

from pathlib import Path
from typing import Literal

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.command import run
from nnpipe import stages
from nnpipe.stages import DATA, Evaluated


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate_stage(
    weights: Path | None, dataset: str | None, data_dir: Path, out: Path | None
) -> Evaluated:
    """Measure and report."""
    return stages.evaluate(weights, dataset, data_dir, out)


def _run_name() -> str:
    weights = flow_run.parameters["weights"]
    return f"evaluate-{Path(weights).parent.name if weights else 'champion'}"


@flow(name="evaluate", flow_run_name=_run_name)
def evaluate(
    weights: Path | None = None,
    dataset: Literal["mnist", "drawn"] | None = None,
    data_dir: Path = DATA,
    out: Path | None = None,
) -> Evaluated:
    """Measure weights on the test digits and write a report.

    Args:
        weights: Weights file; by default the one that comes with nnpipe.
        dataset: mnist or drawn; by default the one the weights were trained on.
        data_dir: Folder where data sets are kept.
        out: The report's folder; by default reports/<run>.
    """
    return evaluate_stage(weights, dataset, data_dir, out)


if __name__ == "__main__":
    run(evaluate)
