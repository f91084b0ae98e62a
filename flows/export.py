"""The flow ``export``: turn a run's PyTorch model into NumPy weights that read alike."""

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.caching import once
from flows.interface import HOOKS, described, run_by_hand
from nnpipe import datasets, stages
from nnpipe.files import sha256
from nnpipe.records import read_bytes
from nnpipe.runs import MODEL, read_record
from nnpipe.settings import DATA, ExportRequest
from nnpipe.stages import Exported


def _inputs(request: ExportRequest) -> dict[str, Any]:
    return {
        "run": request.run.resolve(),
        "out": request.out and request.out.resolve(),
        "model": sha256(read_bytes(request.run / MODEL)),
        "data": datasets.load(read_record(request.run).dataset, request.data_dir).checksum,
    }


@task(name="export", persist_result=False)
def export_stage(request: ExportRequest) -> Exported:
    """Export, and check that NumPy and PyTorch read alike."""
    return stages.export(request)


def export_once(request: ExportRequest, *, force: bool) -> Exported:
    """Export, unless there are weights from the same model, data and code."""

    def outputs(exported: Exported) -> dict[Path, str | None]:
        return {exported.weights: exported.sha256}

    return once(export_stage, request, inputs=_inputs, outputs=outputs, force=force)


@flow(name="export", flow_run_name="export-{run.name}", timeout_seconds=3600, **HOOKS)
@described
def export(
    run: Path, out: Path | None = None, data_dir: Path = DATA, force: bool = False
) -> Exported:
    """Turn a run's PyTorch model into NumPy weights again, and check that both read alike."""
    request = ExportRequest.pick(locals())
    return export_once(request, force=force)


if __name__ == "__main__":
    run_by_hand(export)
