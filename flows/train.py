"""The flow ``train``: train a network in its own folder below ``weights/runs``."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run

from flows.caching import once
from flows.interface import HOOKS, Progress, described, run_by_hand
from nnpipe import datasets, runs, stages, weights
from nnpipe.champions import Store
from nnpipe.epochs import Epoch
from nnpipe.errors import NnpipeError
from nnpipe.files import sha256
from nnpipe.material import start_of
from nnpipe.own.collecting import digest
from nnpipe.records import read_bytes
from nnpipe.settings import DATA, Engine, Recipe, TrainRequest
from nnpipe.stages import Trained


# With this tag, a limit of Prefect can hold the trainings at one at a time.
@task(name="train", task_run_name="train-{request.name}", tags=["training"], persist_result=False)
def train_stage(request: TrainRequest) -> Trained:
    """Train, and log about ten of the epochs."""
    log = get_run_logger()

    def report(epoch: Epoch) -> None:
        if epoch.number % max(1, epoch.of // 10) == 0 or epoch.number == epoch.of:
            if not epoch.teacher:
                progress.show(epoch.number / epoch.of)
            log.info(
                f"{epoch.whose}epoch {epoch.number} of {epoch.of}: loss {epoch.loss:.4f}, "
                f"validation accuracy {100 * epoch.validation_accuracy:.2f} %"
            )

    root = Store(request.weights_dir).runs
    with (
        runs.open_run(root, request.run, label=request.name) as folder,
        Progress(f"training {request.name}") as progress,
    ):
        log.info("training into %s", folder)
        return stages.train(folder, request, on_epoch=report, on_line=log.info)


def train_once(request: TrainRequest, *, force: bool) -> Trained:
    """Train, unless there is a run with the same data, settings and code.

    A run without a name gets one that follows from these, so that the same request resumes a
    training that was interrupted.
    """
    data = datasets.load(request.dataset, request.data_dir).checksum
    own = digest(request.own) if request.own else ""
    start = _digest_of_start(request)
    named = request
    if not request.run and not force:
        facts = [data, own, start, request.engine, request.changes, runs.code_version()]
        name = f"{request.name}-{sha256(json.dumps(facts).encode())[:8]}"
        if _can_be_used(Store(request.weights_dir).runs / name):
            named = replace(request, run=name)

    def inputs(chosen: TrainRequest) -> dict[str, Any]:
        root = Store(request.weights_dir).root.resolve()
        # The content of the folder of the data counts, not its path.
        same = {"data": [data, own], "start": start, "data_dir": None, "weights_dir": root}
        return asdict(chosen) | same

    def outputs(trained: Trained) -> dict[Path, str | None]:
        return {trained.trained: trained.sha256, trained.run / runs.RECORD: None}

    return once(train_stage, named, inputs=inputs, outputs=outputs, force=force)


def _digest_of_start(request: TrainRequest) -> str:
    """Return the SHA-256 of the network that is adapted; empty if it is trained from scratch."""
    path = start_of(request)
    return sha256(read_bytes(path)) if path else ""


def _can_be_used(run: Path) -> bool:
    """Return False for a finished run whose record or network is damaged or missing."""
    if not (run / runs.RECORD).exists():
        return True
    try:
        if runs.read_record(run).engine == "torch":  # the export makes its weights again
            from nnpipe.torch_training import model

            model.load_model(run / runs.MODEL)
        else:
            weights.load(run / runs.WEIGHTS_FILE)
        return True
    except NnpipeError:
        return False


def _run_name() -> str:
    return f"train-{TrainRequest.pick(flow_run.parameters).name}"


# No timeout: nobody knows how long the epochs of a recipe take on this machine.
@flow(name="train", flow_run_name=_run_name, **HOOKS)
@described
def train(
    data: tuple[str, ...] = ("mnist",),
    start: str | None = None,
    drop_suspects: bool = False,
    engine: Engine = "torch",
    recipe: Recipe | None = None,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    device: str = "auto",
    run: str | None = None,
    weights_dir: Path | None = None,
    data_dir: Path = DATA,
    force: bool = False,
) -> Trained:
    """Train the network and keep the epoch with the best validation accuracy."""
    request = TrainRequest.pick(locals())
    return train_once(request, force=force)


if __name__ == "__main__":
    run_by_hand(train)
