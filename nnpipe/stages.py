"""The stages of the pipeline, one plain function each: paths and small values in and out.

    download → train → export → evaluate → score

The last one is `scoring.score`. The command line and the Prefect flows are both thin layers over
these. What a stage needs beyond NumPy and Pillow is imported when it runs.
"""

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpipe import calibration, datasets, drift, labelled, rules, runs, training, weights
from nnpipe.classifier import Classifier, champion, measured
from nnpipe.datasets import drawn, mnist
from nnpipe.epochs import Epoch, OnEpoch, check_settings
from nnpipe.errors import (
    EvaluationError,
    ExportError,
    MissingExtraError,
    TrainingError,
    needs,
)
from nnpipe.files import check_writable, sha256
from nnpipe.network import Array, Network, softmax
from nnpipe.places import in_one_line
from nnpipe.preprocess import PREPROCESSING_VERSION, SIDE, as_inputs
from nnpipe.records import read_bytes

DATA = Path("data")
WEIGHTS = Path("weights")
RUNS = WEIGHTS / "runs"
REPORTS = Path("reports")
ENGINES = ("torch", "numpy")


@dataclass(frozen=True)
class Downloaded:
    """A data set that is there."""

    dataset: str  # "mnist" or "drawn"
    data_dir: Path


def download(
    dataset: str = "auto",
    data_dir: Path = DATA,
    mirror: str | None = None,
    fetch: Callable[[Path, str | None], None] = mnist.fetch,
) -> Downloaded:
    """Download MNIST, or draw digits; see `datasets.prepare`."""
    return Downloaded(datasets.prepare(dataset, data_dir, mirror, fetch), data_dir)


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    run: Path
    best_epoch: int
    validation_accuracy: float
    seconds: float
    sha256: str  # of the PyTorch model; with NumPy, of the weights


def train(
    run: Path,
    dataset: str = "mnist",
    data_dir: Path = DATA,
    engine: str = "torch",
    recipe: str | None = None,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    device: str = "auto",
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train into the folder ``run``, going on from a checkpoint that is there.

    A run that is finished already, with the same settings, is left as it is.

    Engine "torch" leaves ``pytorch_model.pth``, which `export` turns into weights. Engine "numpy",
    the trainer from scratch, leaves ``model_weights.npz`` itself.

    Args:
        run: a folder made by `runs.open_run`.
        dataset: "mnist" or "drawn", below ``data_dir``.
        data_dir: where data sets are kept.
        engine: "torch" or "numpy".
        recipe: for torch, see `torch_training.recipes`.
        seed: of everything random.
        epochs: by default the recipe's, and 10 for NumPy.
        batch_size: by default the recipe's, and 128 for NumPy.
        lr: by default the recipe's, and 0.01 for NumPy.
        device: for torch: "auto", "cuda", "mps" or "cpu".
        on_epoch: called after every epoch.

    Raises:
        TrainingError: a setting is wrong, or training diverged.
        DatasetError: the data set is missing or damaged.
        MissingExtraError: torch is asked for and not installed.
    """
    if not 0 <= seed < 2**32:
        raise TrainingError(f"the seed must lie in 0…{2**32 - 1}, not {seed}")
    if engine == "numpy":
        if recipe not in (None, "sgd"):
            raise TrainingError(f"recipe '{recipe}' is for --engine torch; NumPy has no recipes")
        recipe = "sgd"
        parameters: dict[str, Any] = {
            "epochs": 10 if epochs is None else epochs,
            "batch_size": 128 if batch_size is None else batch_size,
            "lr": 0.01 if lr is None else lr,
            "momentum": 0.9,
        }
        check_settings(**parameters)
    elif engine == "torch":
        with needs("train", "training with --engine torch"):
            from nnpipe.torch_training import model, recipes
            from nnpipe.torch_training import train as torch_train
        chosen = recipes.recipe(
            recipe or recipes.DEFAULT, epochs=epochs, batch_size=batch_size, lr=lr
        )
        recipe, parameters = chosen.name, asdict(chosen)
    else:
        raise TrainingError(f"there is no engine '{engine}'; choose {' or '.join(ENGINES)}")

    if (run / runs.RECORD).exists():
        record = runs.read_record(run)
        settings = (record.engine, record.recipe, record.seed, record.dataset, record.parameters)
        if settings != (engine, recipe, seed, dataset, parameters):
            raise TrainingError(f"{run}: is finished, with other settings; choose another name")
        return _trained(run, record)

    data = datasets.load(dataset, data_dir)
    if engine == "numpy":
        network, history = _train_numpy(data, seed, parameters, on_epoch)
    else:
        checkpoint = run / runs.CHECKPOINT
        state, history = torch_train.train(
            data, chosen, seed=seed, device=device, checkpoint=checkpoint, on_epoch=on_epoch
        )
    record = runs.Record(
        engine=engine,
        recipe=recipe,
        seed=seed,
        parameters=parameters,
        dataset=data.name,
        dataset_checksum=data.checksum,
        created=runs.now(),
        git_commit=runs.git_commit(),
        seconds=round(sum(epoch.seconds for epoch in history), 3),
        history=history,
    )
    if engine == "numpy":
        _, accuracy = training.loss_and_accuracy(
            network, as_inputs(data.test.images), data.test.labels
        )
        _write_weights(run / runs.WEIGHTS, network, record, data.validation, accuracy)
    else:
        model.save_model(run / runs.MODEL, state)
    runs.write_record(run, record)
    runs.remove_checkpoints(run)
    return _trained(run, record)


def _trained(run: Path, record: runs.Record) -> Trained:
    result = run / (runs.MODEL if record.engine == "torch" else runs.WEIGHTS)
    digest = sha256(read_bytes(result))
    best = record.best
    return Trained(run, best.number, best.validation_accuracy, record.seconds, digest)


def _train_numpy(
    data: datasets.Dataset, seed: int, parameters: dict[str, Any], on_epoch: OnEpoch | None
) -> tuple[Network, list[Epoch]]:
    X, V = as_inputs(data.training.images), as_inputs(data.validation.images)
    mean, deviation = X.mean(), X.std()
    network, history = training.train(
        Network.initialise(np.random.default_rng(seed)),
        ((X - mean) / deviation, data.training.labels),
        ((V - mean) / deviation, data.validation.labels),
        seed=seed,
        augment=shift_by_a_pixel,
        on_epoch=on_epoch,
        **parameters,
    )
    return training.fold_standardisation(network, float(mean), float(deviation)), history


def shift_by_a_pixel(X: Array, rng: np.random.Generator) -> Array:
    """Move a batch of pictures, shape (n, 784), by −1, 0 or 1 pixels across and down.

    A digit stays what it is wherever it stands, and the network is to learn that, too: it is worth
    half a point of accuracy. What leaves on one side comes in on the other; that is background.
    """
    across, down = rng.integers(-1, 2, size=2)
    pictures = X.reshape(-1, SIDE, SIDE)
    return np.roll(pictures, (down, across), axis=(1, 2)).reshape(X.shape)


@dataclass(frozen=True)
class Exported:
    """Weights that were shown to compute what PyTorch computes."""

    weights: Path
    digits: int
    largest_difference: float
    test_accuracy: float
    sha256: str  # of the weights


def export(run: Path, data_dir: Path = DATA, out: Path | None = None) -> Exported:
    """Turn a run's ``pytorch_model.pth`` into ``model_weights.npz``, and prove them equal.

    Args:
        run: the folder of a finished run.
        data_dir: where the data set it was trained on is kept; its test digits are the proof.
        out: where to, by default into the run's folder.

    Raises:
        ExportError: the model is missing, damaged, or the export does not compute what it does.
        TrainingError: the run is not finished.
        DatasetError: the data set is missing.
    """
    record = runs.read_record(run)
    if record.engine == "numpy":
        raise ExportError(f"{run}: was trained with NumPy, its {runs.WEIGHTS} is there already")
    with needs("train", "exporting a PyTorch model"):
        from nnpipe.torch_training import model
    state = model.load_model(run / runs.MODEL)
    network = model.to_network(state)
    data = datasets.load(record.dataset, data_dir)
    if data.checksum != record.dataset_checksum:
        raise ExportError(
            f"{run}: was trained on other {record.dataset} digits than lie in {data_dir}; "
            "train again, or name the folder that holds them with --data-dir"
        )
    parity = model.check_parity(state, network, data.test)
    out = out or run / runs.WEIGHTS
    _write_weights(out, network, record, data.validation, parity.accuracy)
    digest = sha256(out.read_bytes())
    return Exported(out, parity.digits, parity.largest_difference, parity.accuracy, digest)


def _write_weights(
    path: Path,
    network: Network,
    record: runs.Record,
    validation: datasets.Digits,
    test_accuracy: float,
) -> None:
    """Write weights, with what probabilities are worth and what the validation digits are like."""
    logits = network.logits(as_inputs(validation.images))
    temperature = calibration.fit_temperature(logits, validation.labels)
    p = softmax(logits / temperature)
    thresholds = calibration.thresholds(p.max(axis=1))
    right = p.argmax(axis=1) == validation.labels
    threshold = thresholds[str(calibration.DEFAULT_RATE)]
    metadata = weights.Metadata(
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
        validation_accuracy=record.best.validation_accuracy,
        test_accuracy=test_accuracy,
        temperature=temperature,
        rejection_threshold=threshold,
        rejection_thresholds=thresholds,
        error_thresholds=calibration.error_thresholds(p.max(axis=1), right),
    )
    # They are read as pictures are: what is compared with them will have gone the same way.
    reader = Classifier(weights.Model(network, metadata), threshold)
    readings = reader.read_many(list(validation.images))
    weights.save(
        path,
        network,
        replace(metadata, reference=drift.describe(measured(readings))),
        golden=drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1),
    )


@dataclass(frozen=True)
class Evaluated:
    """A report that was written."""

    report: Path
    n: int
    errors: int
    accuracy: float
    unreadable: int  # files of a folder
    sha256: str  # of metrics.json


def evaluate(
    weights_file: Path | None = None,
    dataset: str | None = None,
    data_dir: Path = DATA,
    out: Path | None = None,
    folder: Path | None = None,
    plots: bool = True,
) -> Evaluated:
    """Measure weights on test digits, or on a folder of labelled pictures, and write a report.

    Args:
        weights_file: by default the champion that comes with nnpipe.
        dataset: by default the one the weights were trained on.
        data_dir: where data sets are kept.
        out: the report's folder; by default ``reports/<run>``, with ``-on-<what>`` if that is not
            the data set the weights were trained on.
        folder: pictures to measure on instead, one sub-folder for each digit.
        plots: whether to draw plots, too.

    Raises:
        WeightsError: the weights file, or the champion's, is missing or damaged.
        DatasetError: the data set is missing or damaged.
        EvaluationError: the folder is missing, or its pictures are not labelled.
        OutputError: the report cannot be written.
        MissingExtraError: the packages for reports are not installed.
    """
    with needs("report", "writing a report"):
        from nnpipe import report
    if folder and dataset:
        raise EvaluationError("name a data set to measure on, or a folder, not both")
    path = weights_file or champion()
    trained_on = weights.load(path).metadata.dataset
    dataset = dataset or trained_on
    who = "champion" if path.resolve() == champion().resolve() else path.resolve().parent.name
    on = folder.resolve().name if folder else dataset if dataset != trained_on else ""
    out = out or REPORTS / (f"{who}-on-{on}" if on else who)
    if folder and out.resolve().is_relative_to(folder.resolve()):
        raise EvaluationError(f"{out}: lies in the folder that is measured; name another --out")
    check_writable(out)
    report.check_folder(out)

    options = {"--weights": weights_file, "--dataset": None if folder else dataset}
    options |= {"--folder": folder, "--data-dir": data_dir if data_dir != DATA else None}
    given = [str(word) for option in options.items() if option[1] for word in option]
    command = shlex.join(["nnpipe", "evaluate", *given])
    if folder:
        data, pictures = None, labelled.from_folder(folder)
    else:
        data = datasets.load(dataset, data_dir)
        pictures = labelled.from_dataset(data)
    decision = _judge(path, data_dir) if dataset == trained_on and not folder else None
    measured = report.measure(path, pictures, data, who, in_one_line(command), decision)
    with needs("report", "drawing plots"):
        found = report.write(out, measured, plots)
    return Evaluated(
        report=out,
        n=found["n"],
        errors=found["errors"],
        accuracy=found["accuracy"]["value"],
        unreadable=len(pictures.unreadable),
        sha256=sha256((out / report.METRICS).read_bytes()),
    )


def _judge(path: Path, data_dir: Path) -> rules.Decision | None:
    """Whether the weights may replace the champion; None if they are it, or torch is missing."""
    if path.read_bytes() == champion().read_bytes():
        return None
    with suppress(MissingExtraError):
        return rules.judge(path, champion(), data_dir)
    return None
