"""The flow ``train``: train a network in its own folder below ``weights/runs``."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.assets import materialize
from prefect.runtime import flow_run

from flows.caching import once
from flows.download import DATA_ASSET
from flows.interface import HOOKS, Progress, described, run_by_hand
from nnpipe import datasets, stages
from nnpipe.champions import Store
from nnpipe.epochs import Epoch
from nnpipe.runs import RECORD, open_run
from nnpipe.settings import DATA, DataSet, Engine, Recipe, TrainRequest
from nnpipe.stages import Trained

MODEL_ASSET = "nnpipe://model"


def _inputs(request: TrainRequest) -> dict[str, Any]:
    return asdict(request) | {
        "data": datasets.load(request.dataset, request.data_dir).checksum,
        "data_dir": None,  # the content of the folder counts, not its path
        "weights_dir": Store(request.weights_dir).root.resolve(),
    }


@materialize(
    MODEL_ASSET,
    name="train",
    task_run_name="train-{request.name}",
    asset_deps=[DATA_ASSET],
    persist_result=False,
)
def train_stage(request: TrainRequest) -> Trained:
    """Train, and log about ten of the epochs."""
    log = get_run_logger()
    progress = Progress(f"training {request.name}")

    def report(epoch: Epoch) -> None:
        if epoch.number % max(1, epoch.of // 10) == 0 or epoch.number == epoch.of:
            if not epoch.teacher:
                progress.show(epoch.number / epoch.of)
            log.info(
                f"{epoch.whose}epoch {epoch.number} of {epoch.of}: loss {epoch.loss:.4f}, "
                f"validation accuracy {100 * epoch.validation_accuracy:.2f} %"
            )

    with open_run(Store(request.weights_dir).runs, request.run, label=request.name) as folder:
        log.info("training into %s", folder)
        return stages.train(folder, request, on_epoch=report)


def train_once(request: TrainRequest, *, force: bool) -> Trained:
    """Train, unless there is a run with the same data, settings and code."""

    def outputs(trained: Trained) -> dict[Path, str | None]:
        return {trained.trained: trained.sha256, trained.run / RECORD: None}

    return once(train_stage, request, inputs=_inputs, outputs=outputs, force=force)


def _run_name() -> str:
    return f"train-{TrainRequest.pick(flow_run.parameters).name}"


@flow(name="train", flow_run_name=_run_name, **HOOKS)
@described
def train(
    dataset: DataSet = "mnist",
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
    return train_once(TrainRequest.pick(locals()), force=force)


if __name__ == "__main__":
    run_by_hand(train)
