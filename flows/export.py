"""The flow ``export``: a run's PyTorch model becomes NumPy weights that are proven equal."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.assets import materialize

from flows.caching import once
from flows.command import run as run_by_hand
from flows.hooks import HOOKS
from flows.train import MODEL_ASSET
from nnpipe import datasets, stages
from nnpipe.files import sha256
from nnpipe.records import read_bytes
from nnpipe.runs import MODEL, read_record
from nnpipe.stages import DATA, Exported

WEIGHTS_ASSET = "nnpipe://weights"


def _inputs(run: Path, data_dir: Path) -> dict[str, Any]:
    return {
        "run": run.resolve(),
        "model": sha256(read_bytes(run / MODEL)),
        "data": datasets.load(read_record(run).dataset, data_dir).checksum,
    }


@materialize(
    WEIGHTS_ASSET,
    name="export",
    asset_deps=[MODEL_ASSET],
    persist_result=False,
)
def export_stage(run: Path, data_dir: Path) -> Exported:
    """Export into the run's folder."""
    return stages.export(run, data_dir)


def export_once(run: Path, data_dir: Path, force: bool) -> Exported:
    """Export, unless that was done with the same model, data and code."""

    def outputs(exported: Exported) -> dict[Path, str | None]:
        return {exported.weights: exported.sha256}

    return once(export_stage, _inputs, outputs, force=force)(run, data_dir)


@flow(name="export", flow_run_name="export-{run.name}", timeout_seconds=3600, **HOOKS)
def export(run: Path, data_dir: Path = DATA, force: bool = False) -> Exported:
    """Turn a run's PyTorch model into NumPy weights, and prove that both read alike.

    Args:
        run: Folder of a finished run.
        data_dir: Folder where data sets are kept.
        force: Export even if that was done with the same model, data and code.
    """
    return export_once(run, data_dir, force)


if __name__ == "__main__":
    run_by_hand(export)
