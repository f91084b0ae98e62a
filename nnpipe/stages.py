"""The stages of the pipeline, one plain function each: paths and small values in and out.

    download → train → export → evaluate → score

The last one is `scoring.score`. The command line and the Prefect flows are both thin layers over
these. What a stage needs beyond NumPy and Pillow is imported when it runs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnpipe import calibration, datasets, runs, training, weights
from nnpipe.classifier import Classifier, champion
from nnpipe.datasets import drawn, mnist
from nnpipe.epochs import Epoch, OnEpoch, check_settings
from nnpipe.errors import ExportError, MissingExtraError, TrainingError
from nnpipe.evaluation import evaluate as compare
from nnpipe.files import sha256
from nnpipe.network import Array, Network, softmax
from nnpipe.preprocess import PREPROCESSING_VERSION, SIDE, as_inputs

DATA = Path("data")
RUNS = Path("weights/runs")
REPORTS = Path("reports")
ENGINES = ("torch", "numpy")


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Turn a failing import into one sentence that says which extra brings the package.

    Raises:
        MissingExtraError: an import in the block failed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what} needs {error.name}, which is not installed: pip install 'nnpipe[{extra}]'"
        ) from None


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
    (run / runs.CHECKPOINT).unlink(missing_ok=True)
    return _trained(run, record)


def _trained(run: Path, record: runs.Record) -> Trained:
    return Trained(run, record.best.number, record.best.validation_accuracy, record.seconds)


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
    return Exported(out, parity.digits, parity.largest_difference, parity.accuracy)


def _write_weights(
    path: Path,
    network: Network,
    record: runs.Record,
    validation: datasets.Digits,
    test_accuracy: float,
) -> None:
    """Write weights with what the validation digits tell about their probabilities."""
    logits = network.logits(as_inputs(validation.images))
    temperature = calibration.fit_temperature(logits, validation.labels)
    thresholds = calibration.thresholds(softmax(logits / temperature).max(axis=1))
    weights.save(
        path,
        network,
        weights.Metadata(
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
            rejection_threshold=thresholds[str(calibration.DEFAULT_RATE)],
            rejection_thresholds=thresholds,
        ),
        golden=drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1),
    )


@dataclass(frozen=True)
class Evaluated:
    """A report that was written."""

    report: Path
    n: int
    errors: int
    accuracy: float


def evaluate(
    weights_file: Path | None = None,
    dataset: str | None = None,
    data_dir: Path = DATA,
    out: Path | None = None,
) -> Evaluated:
    """Measure weights on the test digits of a data set and write a report.

    Args:
        weights_file: by default the champion that comes with nnpipe.
        dataset: by default the one the weights were trained on.
        data_dir: where data sets are kept.
        out: the report's folder; by default ``reports/<run>``, or ``reports/<run>-on-<dataset>``
            if that is not the data set the weights were trained on.

    Raises:
        WeightsError: the weights file is missing or damaged.
        DatasetError: the data set is missing or damaged.
        OutputError: the report cannot be written.
    """
    with needs("report", "writing a report"):
        from nnpipe import report
    path = weights_file or champion()
    classifier = Classifier.load(path)
    metadata = classifier.model.metadata
    data = datasets.load(dataset or metadata.dataset, data_dir)
    start = time.perf_counter()
    probabilities = classifier.probabilities(data.test.images)
    evaluation = compare(data.test.labels, probabilities)
    about = {
        "weights": path.name,
        "weights_sha256": sha256(path.read_bytes()),
        "measured_on": f"{data.name}, test part",
        "measured_on_checksum": data.checksum,
        "trained_on": metadata.dataset,
        "engine": metadata.engine,
        "recipe": metadata.recipe,
        "seed": metadata.seed,
        "validation_accuracy": metadata.validation_accuracy,
        "trained": metadata.created,
        "git_commit": metadata.git_commit,
        "temperature": round(metadata.temperature, 4),
        "rejection_threshold": round(classifier.threshold, 4),
        "rejected_by_it": int((probabilities.max(axis=1) < classifier.threshold).sum()),
        "seconds_to_read": round(time.perf_counter() - start, 3),
    }
    if out is None:
        is_champion = path.resolve() == champion().resolve()
        name = "champion" if is_champion else path.resolve().parent.name
        out = REPORTS / (name if data.name == metadata.dataset else f"{name}-on-{data.name}")
    report.write(out, evaluation, about)
    return Evaluated(out, evaluation.n, evaluation.errors, evaluation.accuracy)
