"""Export: a trained network becomes a weights file that computes the same.

The file also holds the calibration, which says what a probability is worth, and the reference,
which says what the validation digits are like; `drift` compares pictures with it.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnpipe import calibration, datasets, drift, weights
from nnpipe.classifier import Classifier, feature_values
from nnpipe.datasets import Dataset, drawn
from nnpipe.errors import ExportError, needs
from nnpipe.files import sha256
from nnpipe.network import Network, softmax
from nnpipe.preprocess import PREPROCESSING_VERSION, as_inputs
from nnpipe.runs import MODEL, WEIGHTS_FILE, Record, read_record
from nnpipe.settings import ExportRequest


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
    record = read_record(run)
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
        validation_accuracy=record.best.validation_accuracy,
        test_accuracy=test_accuracy,
        temperature=temperature,
        rejection_threshold=thresholds[str(calibration.DEFAULT_RATE)],
        rejection_thresholds=thresholds,
        error_thresholds=calibration.error_thresholds(confidences, right),
    )
