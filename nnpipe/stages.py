"""The stages of the pipeline, one plain function each: a request in, a small record out.

    download → train → export → evaluate → score

`train` includes the export. `scoring.score` is a stage as well. The command line and the flows are
thin layers over them. A stage imports what it needs beyond NumPy and Pillow when it runs.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from nnpipe import calibration, datasets, drift, ground_truth, runs, weights
from nnpipe.champions import champion_of
from nnpipe.champions.rules import judge, rival
from nnpipe.classifier import Classifier, feature_values
from nnpipe.datasets import Dataset, drawn, mnist
from nnpipe.epochs import Epoch, OnEpoch
from nnpipe.errors import (
    EvaluationError,
    ExportError,
    MissingExtraError,
    TrainingError,
    needs,
)
from nnpipe.files import check_writable, sha256, write_json
from nnpipe.material import gather
from nnpipe.network import Network, softmax
from nnpipe.places import in_one_line
from nnpipe.preprocess import PREPROCESSING_VERSION, as_inputs
from nnpipe.records import read_bytes
from nnpipe.runs import MODEL, WEIGHTS_FILE, Record
from nnpipe.settings import (
    REPORTS,
    DataSet,
    DownloadRequest,
    Engine,
    EvaluateRequest,
    ExportRequest,
    TrainRequest,
    command_line,
)

if TYPE_CHECKING:  # an extra, which is loaded when it is needed
    from nnpipe import report


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
        self,
        data: Dataset,
        request: TrainRequest,
        *,
        folder: Path,
        start: Network | None,
        on_epoch: OnEpoch | None,
    ) -> tuple[Network, list[Epoch]]:
        """Train a network, or adapt the one to start with; return it and all epochs."""


def train(
    folder: Path,
    request: TrainRequest,
    *,
    on_epoch: OnEpoch | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train a network into a folder, resuming from a checkpoint in it, and write its weights.

    A run that is finished with the same settings is left as it is.

    Args:
        folder: made by `runs.open_run`.
        request: what to train, on what.
        on_epoch: called after every epoch.
        on_line: called with sentences about one's own pictures.

    Raises:
        SettingError: a setting is out of its range.
        LabelError: a folder or a CSV file of one's own pictures cannot be used.
        TrainingError: the settings contradict each other, the folder holds a training with others,
            or training diverged.
        DatasetError: the data set is missing or damaged.
        ExportError: the weights do not compute what PyTorch does.
        MissingExtraError: torch is requested and not installed.
    """
    trainer = _trainer(request.engine)
    recipe, parameters = trainer.settings(request)
    material = gather(request, on_line=on_line)
    start, own, about = material.start, material.own, material.about
    if (folder / runs.RECORD).exists():
        record = runs.read_record(folder)
        before = (record.engine, record.recipe, record.seed, record.dataset, record.parameters)
        now = (request.engine, recipe, request.seed, request.dataset, parameters)
        origins = [one.network if one else "" for one in (record.origin, start and start.origin)]
        is_whole = own is None or (folder / runs.OWN).exists()
        if before != now or record.own != about or origins[0] != origins[1] or not is_whole:
            raise TrainingError(f"{folder}: is finished, with other settings; choose another name")
    else:
        data = datasets.load(request.dataset, request.data_dir)
        if own:
            own.save(folder / runs.OWN)
            data = replace(data, own=own.training, own_checksum=own.checksum)
        network, history = trainer.train(
            data, request, folder=folder, start=start and start.network, on_epoch=on_epoch
        )
        record = Record(
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
            own=about,
            origin=start and start.origin,
        )
        write_weights(folder, network, record=record, data=data)
        if own:
            report = material.measure(own, after=folder / WEIGHTS_FILE, data=data, on_line=on_line)
            write_json(folder / runs.OWN_REPORT, asdict(report))
            for line in report.lines():
                on_line(line)
        runs.write_record(folder, record)
        runs.remove_checkpoints(folder)
    trained = folder / (MODEL if request.engine == "torch" else WEIGHTS_FILE)
    accuracy = record.best.validation_accuracy
    if record.origin:  # the network lies between the old one and that of the last epoch
        accuracy = weights.load(folder / WEIGHTS_FILE).metadata.validation_accuracy or 0.0
    return Trained(
        run=folder,
        weights=folder / WEIGHTS_FILE,
        trained=trained,
        best_epoch=record.best.number,
        validation_accuracy=accuracy,
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
class Exported:
    """A weights file that computes what the trained network computes."""

    weights: Path
    digits: int  # test digits that NumPy and PyTorch read alike; 0: NumPy trained the network
    largest_difference: float  # of any probability
    test_accuracy: float  # in [0, 1]
    sha256: str  # of the weights


def export(request: ExportRequest) -> Exported:
    """Turn a run's PyTorch model into weights again; training does so at its end.

    Raises:
        ExportError: the model is missing or damaged, or NumPy does not compute what PyTorch does.
        TrainingError: the run is not finished.
        DatasetError: the data set is missing.
        MissingExtraError: torch is not installed.
    """
    run = request.run
    record = runs.read_record(run)
    if record.engine == "numpy":
        raise ExportError(f"{run}: was trained with NumPy, so it needs no export")
    with needs("train", "exporting a PyTorch model"):
        from nnpipe.torch_training import model
    network = model.to_network(model.load_model(run / MODEL))
    data = datasets.load(record.dataset, request.data_dir)
    if data.checksum != record.dataset_checksum:
        raise ExportError(
            f"{run}: was trained on other {record.dataset} digits than those in {request.data_dir}",
            advice="data_dir",
        )
    return write_weights(run, network, record=record, data=data, out=request.out)


def write_weights(
    run: Path, network: Network, *, record: Record, data: Dataset, out: Path | None = None
) -> Exported:
    """Write the weights of a run after checking that they compute what its PyTorch model does.

    The file also holds the calibration, which says what a probability is worth, and the reference,
    which says what the validation digits are like; `drift` compares pictures with it.

    Args:
        run: folder of the run, with the PyTorch model if its engine is "torch".
        network: the trained network.
        record: the record of the training.
        data: the data set of the training. Its validation digits give the calibration and the
            reference, its test digits the check.
        out: the file to write; by default ``model_weights.npz`` in the run.

    Raises:
        ExportError: NumPy does not compute what PyTorch does.
        OutputError: the file cannot be written.
    """
    out = out or run / WEIGHTS_FILE
    digits, difference = 0, 0.0
    if record.engine == "torch":
        from nnpipe.torch_training import model

        parity = model.check_parity(model.load_model(run / MODEL), network, digits=data.test)
        digits, difference = parity.digits, parity.largest_difference
    answers = network.logits(as_inputs(data.test.images)).argmax(axis=1)
    accuracy = float((answers == data.test.labels).mean())
    metadata = _describe(network, record, validation=data.validation, test_accuracy=accuracy)
    # The reference needs the digits as a scoring run reads them, preprocessing included.
    reader = Classifier(weights.Weights(network, metadata), metadata.rejection_threshold or 0.0)
    readings = reader.read_many(data.validation.images)
    weights.save(
        out,
        network,
        metadata=replace(metadata, reference=drift.describe(feature_values(readings))),
        golden=drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1),
    )
    return Exported(out, digits, difference, accuracy, sha256(out.read_bytes()))


def _describe(
    network: Network, record: Record, *, validation: datasets.Digits, test_accuracy: float
) -> weights.Metadata:
    """Return the metadata of a network, with its calibration and without a reference."""
    logits = network.logits(as_inputs(validation.images))
    temperature = calibration.fit_temperature(logits, validation.labels)
    p = softmax(logits / temperature)
    confidences, right = p.max(axis=1), p.argmax(axis=1) == validation.labels
    thresholds = calibration.thresholds(confidences)
    return weights.Metadata(
        layer_sizes=network.sizes,
        preprocessing_version=PREPROCESSING_VERSION,
        dataset=record.dataset,
        dataset_checksum=record.dataset_checksum,
        recipe=record.recipe,
        seed=record.seed,
        engine=record.engine,
        created=record.created,
        git_commit=record.git_commit,
        parameters=record.parameters,
        own=record.own,
        origin=record.origin,
        validation_accuracy=float(right.mean())
        if record.origin
        else record.best.validation_accuracy,
        test_accuracy=test_accuracy,
        temperature=temperature,
        rejection_threshold=thresholds[str(calibration.DEFAULT_RATE)],
        rejection_thresholds=thresholds,
        error_thresholds=calibration.error_thresholds(confidences, right),
    )


@dataclass(frozen=True)
class Evaluated:
    """A report that was written."""

    report: Path
    n: int
    errors: int
    accuracy: float
    unreadable: int  # files of a folder, or of a CSV file
    sha256: str  # of metrics.json
    what: str = "digits"  # or "numbers"


class Found(NamedTuple):
    """The weights to measure, and the champion to compare them with."""

    path: Path
    champion: Path
    trained_on: str  # name of the data set
    digests: list[str | None]  # SHA-256 of both files; None: it cannot be read


def find_weights(request: EvaluateRequest) -> Found:
    """Find the weights to measure, and the champion.

    Raises:
        WeightsError: the weights file is missing or damaged.
    """
    champion = champion_of(request.weights_dir)
    path = request.weights or champion
    metadata = weights.load(path).metadata
    champion = rival(metadata, champion)
    digests = list[str | None]()
    for file in (path, champion):
        digests.append(None)
        with suppress(OSError):
            digests[-1] = sha256(read_bytes(file))
    return Found(path, champion, metadata.dataset, digests)


def evaluate(request: EvaluateRequest) -> Evaluated:
    """Measure weights on test digits or on labelled pictures, and write a report.

    Raises:
        WeightsError: the weights file, or the champion's, is missing or damaged.
        DatasetError: the data set is missing or damaged.
        EvaluationError: the folder or the CSV file is missing, or its pictures are not labelled.
        SettingError: ``digits`` has another form.
        OutputError: the report cannot be written.
        MissingExtraError: the packages for reports are not installed.
    """
    with needs("report", "writing a report"):
        from nnpipe import report
    folder, labels = request.folder, request.labels
    if folder and request.dataset:
        raise EvaluationError("name a data set to measure on, or a folder, not both")
    if labels and (folder or request.dataset):
        raise EvaluationError(
            "labels are set, and so is a data set or a folder; expected one of them"
        )
    if request.digits and not labels:
        raise EvaluationError("digits is set without labels, and is only for pictures of numbers")
    found = find_weights(request)
    path, champion, trained_on, _ = found
    name = "champion" if path.resolve() == champion.resolve() else path.resolve().parent.name
    measured_on = str(request.dataset or trained_on)
    if pictures := folder or (labels and labels.resolve().parent):
        measured_on = pictures.resolve().name
    elif measured_on == trained_on:
        measured_on = ""
    out = request.out or REPORTS / (f"{name}-on-{measured_on}" if measured_on else name)
    if folder and out.resolve().is_relative_to(folder.resolve()):
        raise EvaluationError(f"{out}: lies in the folder that is measured", advice="out")
    check_writable(out)
    report.check_folder(out)
    measured, unreadable = _measure(request, found, name=name)
    if find_weights(request) != found:  # a promotion has replaced a file between two reads
        return evaluate(request)
    with needs("report", "drawing plots"):
        metrics = report.write(out, measured, plots=request.plots)
    return Evaluated(
        report=out,
        n=metrics["n"],
        errors=metrics["errors"],
        accuracy=metrics["accuracy"]["value"],
        unreadable=unreadable,
        sha256=sha256((out / report.METRICS).read_bytes()),
        what="numbers" if labels else "digits",
    )


def _measure(
    request: EvaluateRequest, found: Found, *, name: str
) -> "tuple[report.Measured | report.MeasuredNumbers, int]":
    """Measure weights; return the content of the report, and how many files are unreadable."""
    from nnpipe import report

    path, champion, trained_on, digests = found
    folder, labels = request.folder, request.labels
    dataset = None if folder or labels else request.dataset or trained_on
    options = {"weights": request.weights, "dataset": dataset, "folder": folder, "labels": labels}
    options |= {"digits": request.digits, "data_dir": request.data_dir}
    command = in_one_line(command_line("evaluate", options))
    if labels:
        classifier = Classifier.load(path)
        numbers = ground_truth.from_csv(labels, classifier, digits=request.digits or "any")
        content = report.measure_numbers(
            path, numbers, classifier=classifier, name=name, command=command
        )
        return content, len(numbers.unreadable)
    if folder:
        pictures = ground_truth.from_folder(folder, Classifier.load(path))
    else:
        pictures = ground_truth.from_dataset(datasets.load(dataset or trained_on, request.data_dir))
    decision = None
    if dataset == trained_on and digests[0] != digests[1]:
        with suppress(MissingExtraError):  # the report then has no decision
            decision = judge(path, champion, data_dir=request.data_dir)
    measured = report.measure(
        path, pictures, champion=champion, name=name, command=command, decision=decision
    )
    return measured, len(pictures.unreadable)
