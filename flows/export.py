"""The flow ``export``: a run's PyTorch model becomes NumPy weights that are proven equal."""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.command import run as run_by_hand
from nnpipe import stages
from nnpipe.stages import DATA, Exported


@task(name="export", cache_policy=NO_CACHE)
def export_stage(run: Path, data_dir: Path) -> Exported:
    """Export into the run's folder."""
    return stages.export(run, data_dir)


@flow(name="export", flow_run_name="export-{run.name}")
def export(run: Path, data_dir: Path = DATA) -> Exported:
    """Turn a run's PyTorch model into NumPy weights, and prove that both read alike.

    Args:
        run: Folder of a finished run.
        data_dir: Folder where data sets are kept.
    """
    return export_stage(run, data_dir)


if __name__ == "__main__":
    run_by_hand(export)
