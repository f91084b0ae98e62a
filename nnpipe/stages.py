"""The stages of the pipeline, one plain function each: a request in, a small record out.

    download → train → evaluate → score

`export.export`, which `train` includes, and `scoring.score` are stages as well. The command line
and the flows are thin layers over them. A stage imports what it needs beyond NumPy and Pillow when
it runs.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nnpipe import datasets, labelled, runs, weights
from nnpipe.champions import Decision, champion_of
from nnpipe.champions.rules import judge
from nnpipe.datasets import Dataset, mnist
from nnpipe.epochs import Epoch, OnEpoch
from nnpipe.errors import EvaluationError, MissingExtraError, TrainingError, needs
from nnpipe.export import write_weights
from nnpipe.files import check_writable, sha256
from nnpipe.network import Network
from nnpipe.places import in_one_line
from nnpipe.records import read_bytes
from nnpipe.runs import WEIGHTS_FILE
from nnpipe.settings import (
    REPORTS,
    DataSet,
    DownloadRequest,
    Engine,
    EvaluateRequest,
    TrainRequest,
    command_line,
)


@dataclass(frozen=True)
class Downloaded:
    """A data set that was downloaded or drawn."""

    dataset: DataSet
    data_dir: Path


def download(
    request: DownloadRequest, *, fetch: Callable[[Path, str | None], None] = mnist.fetch
) -> Downloaded:
    """Download MNIST, or draw digits; see `datasets.prepare`."""
    name = datasets.prepare(request.dataset, request.data_dir, mirror=request.mirror, fetch=fetch)
    return Downloaded(name, request.data_dir)


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    run: Path
    weights: Path
    trained: Path  # the PyTorch model, to export weights from again; with NumPy, the weights
    best_epoch: int
    validation_accuracy: float
    seconds: float
    sha256: str  # of `trained`


class Trainer(Protocol):
    """What each engine offers: `numpy_training` and `torch_training.trainer`."""

    def settings(self, request: TrainRequest) -> tuple[str, dict[str, Any]]:
        """Return the name of the recipe and its settings, changed as requested."""

    def train(
        self, data: Dataset, request: TrainRequest, *, folder: Path, on_epoch: OnEpoch | None
    ) -> tuple[Network, list[Epoch]]:
        """Train a network; return it and all epochs."""


def train(folder: Path, request: TrainRequest, *, on_epoch: OnEpoch | None = None) -> Trained:
    """Train a network into a folder, resuming from a checkpoint in it, and write its weights.

    A run that is finished with the same settings is left as it is.

    Args:
        folder: made by `runs.open_run`.
        request: what to train, on what.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: a setting is wrong, or training diverged.
        DatasetError: the data set is missing or damaged.
        ExportError: the weights do not compute what PyTorch does.
        MissingExtraError: torch is requested and not installed.
    """
    trainer = _trainer(request.engine)
    recipe, parameters = trainer.settings(request)
    if (folder / runs.RECORD).exists():
        record = runs.read_record(folder)
        before = (record.engine, record.recipe, record.seed, record.dataset, record.parameters)
        if before != (request.engine, recipe, request.seed, request.dataset, parameters):
            raise TrainingError(f"{folder}: is finished, with other settings; choose another name")
    else:
        data = datasets.load(request.dataset, request.data_dir)
        network, history = trainer.train(data, request, folder=folder, on_epoch=on_epoch)
        record = runs.Record(
            engine=request.engine,
            recipe=recipe,
            seed=request.seed,
            parameters=parameters,
            dataset=data.name,
            dataset_checksum=data.checksum,
            created=runs.now(),
            git_commit=runs.git_commit(),
            seconds=round(sum(epoch.seconds for epoch in history), 3),
            history=history,
        )
        write_weights(folder, network, record=record, data=data)
        runs.write_record(folder, record)
        runs.remove_checkpoints(folder)
    trained = folder / (runs.MODEL if request.engine == "torch" else WEIGHTS_FILE)
    return Trained(
        run=folder,
        weights=folder / WEIGHTS_FILE,
        trained=trained,
        best_epoch=record.best.number,
        validation_accuracy=record.best.validation_accuracy,
        seconds=record.seconds,
        sha256=sha256(read_bytes(trained)),
    )


def _trainer(engine: Engine) -> Trainer:
    if engine == "numpy":
        from nnpipe import numpy_training

        return numpy_training
    with needs("train", "training with PyTorch"):
        from nnpipe.torch_training import trainer

        return trainer


@dataclass(frozen=True)
class Evaluated:
    """A report that was written."""

    report: Path
    n: int
    errors: int
    accuracy: float
    unreadable: int  # files of a folder
    sha256: str  # of metrics.json


def evaluate(request: EvaluateRequest) -> Evaluated:
    """Measure weights on test digits, or on a folder of labelled pictures, and write a report.

    Raises:
        WeightsError: the weights file, or the champion's, is missing or damaged.
        DatasetError: the data set is missing or damaged.
        EvaluationError: the folder is missing, or its pictures are not labelled.
        OutputError: the report cannot be written.
        MissingExtraError: the packages for reports are not installed.
    """
    with needs("report", "writing a report"):
        from nnpipe import report
    folder, champion = request.folder, champion_of(request.weights_dir)
    if folder and request.dataset:
        raise EvaluationError("name a data set to measure on, or a folder, not both")
    path = request.weights or champion
    trained_on = weights.load(path).metadata.dataset
    dataset = request.dataset or trained_on
    name = "champion" if path.resolve() == champion.resolve() else path.resolve().parent.name
    measured_on = folder.resolve().name if folder else "" if dataset == trained_on else dataset
    out = request.out or REPORTS / (f"{name}-on-{measured_on}" if measured_on else name)
    if folder and out.resolve().is_relative_to(folder.resolve()):
        raise EvaluationError(f"{out}: lies in the folder that is measured", advice="out")
    check_writable(out)
    report.check_folder(out)
    if folder:
        data, pictures = None, labelled.from_folder(folder)
    else:
        data = datasets.load(dataset, request.data_dir)
        pictures = labelled.from_dataset(data)
    decision = None
    if dataset == trained_on and not folder:
        decision = _judge(path, champion, data_dir=request.data_dir)
    reproduce = {"weights": request.weights, "dataset": None if folder else dataset}
    reproduce |= {"folder": folder, "data_dir": request.data_dir}
    measured = report.measure(
        path,
        pictures,
        champion=champion,
        data=data,
        name=name,
        command=in_one_line(command_line("evaluate", reproduce)),
        decision=decision,
    )
    with needs("report", "drawing plots"):
        metrics = report.write(out, measured, plots=request.plots)
    return Evaluated(
        report=out,
        n=metrics["n"],
        errors=metrics["errors"],
        accuracy=metrics["accuracy"]["value"],
        unreadable=len(pictures.unreadable),
        sha256=sha256((out / report.METRICS).read_bytes()),
    )


def _judge(path: Path, champion: Path, *, data_dir: Path) -> Decision | None:
    """Judge the weights for promotion; None if they are the champion, or torch is missing."""
    if champion.is_file() and path.read_bytes() == champion.read_bytes():
        return None
    with suppress(MissingExtraError):
        return judge(path, champion, data_dir=data_dir)
    return None
