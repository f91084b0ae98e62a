"""The flow ``evaluate``: weights are measured on the test digits, and a report is written."""

from pathlib import Path
from typing import Annotated

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.command import run
from flows.parameters import DataDir, KnownDataset, Weights
from nnpipe import stages
from nnpipe.stages import DATA, Evaluated


@task(name="evaluate", cache_policy=NO_CACHE)
def evaluate_stage(
    weights: Path | None, dataset: str | None, data_dir: Path, out: Path | None
) -> Evaluated:
    """Measure and report."""
    return stages.evaluate(weights, dataset, data_dir, out)


@flow(name="evaluate", flow_run_name="evaluate-{weights}")
def evaluate(
    weights: Weights = None,
    dataset: KnownDataset | None = None,
    data_dir: DataDir = DATA,
    out: Annotated[
        Path | None, Field(description="The report's folder; by default reports/<run>.")
    ] = None,
) -> Evaluated:
    """Measure weights on the test digits and write a report."""
    return evaluate_stage(weights, dataset, data_dir, out)


if __name__ == "__main__":
    run(evaluate)
