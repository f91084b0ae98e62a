"""Weights and preprocessing together: pictures in, digits out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from nnpipe import calibration, drift
from nnpipe.errors import NnpipeError, WeightsError
from nnpipe.network import Layer, Network, softmax
from nnpipe.places import in_one_line
from nnpipe.preprocess import (
    PREPROCESSING_VERSION,
    SIDE,
    Picture,
    Pixels,
    Prepared,
    as_inputs,
    prepare_many,
)
from nnpipe.weights import Metadata, Weights, load

_BATCH = 512
"""Pictures in one matrix product: the activations of so many fit a processor's cache."""


class Reading(NamedTuple):
    """What was read from one picture."""

    status: Literal["ok", "rejected", "error"]
    label: int | None = None  # 0 … 9; only when status is "ok"
    confidence: float | None = None  # the largest probability; None for an error
    probabilities: tuple[float, ...] | None = None  # ten, in [0, 1], to six digits; None: an error
    reason: str = ""  # why it is rejected or an error; or what to know of one that was read
    width: int | None = None
    height: int | None = None
    pixels: Pixels | None = None  # (28, 28), what the network was shown; None for an error


@dataclass(frozen=True)
class Classifier:
    """A loaded model that reads pictures; it keeps no state, so threads may share it."""

    weights: Weights
    threshold: float = 0.0  # what is read with less confidence is rejected as no digit

    @classmethod
    def load(cls, path: str | Path | None = None, reject_rate: float | None = None) -> "Classifier":
        """Load a weights file, by default the champion that comes with nnpipe.

        Args:
            path: the weights file.
            reject_rate: which share of digits like the validation digits may be rejected as unlike
                any digit, in [0, 0.1]; the more, the fewer letters and scribbles are read as
                digits. By default what the file says; at 0 nothing is rejected for its confidence.

        Raises:
            WeightsError: the file is damaged, for another preprocessing, or not for digits; or a
                rate is asked for and the file holds no thresholds.
            NnpipeError: the rate is out of its range.
        """
        path = Path(path) if path else champion()
        weights = load(path)
        if weights.metadata.preprocessing_version != PREPROCESSING_VERSION:
            raise WeightsError(
                f"{path}: was made for preprocessing version "
                f"{weights.metadata.preprocessing_version}, and this nnpipe has "
                f"{PREPROCESSING_VERSION}; export it again with 'nnpipe export'"
            )
        if (weights.network.sizes[0], weights.network.sizes[-1]) != (SIDE * SIDE, 10):
            raise WeightsError(
                f"{path}: has layers {weights.network.sizes}, expected 784 inputs and 10 outputs"
            )
        return cls(weights, _threshold(path, weights.metadata, rate=reject_rate))

    def read(self, picture: Picture) -> Reading:
        """Read one picture; one that cannot be read has status "error" and a reason.

        The picture is read in this process. A limit of time or memory is up to the caller.
        """
        return self.read_many([picture])[0]

    def read_many(self, pictures: Sequence[Picture]) -> list[Reading]:
        """Read pictures, each as if it were alone; the results come in their order."""
        return self.read_prepared([timed.result for timed in prepare_many(pictures)])

    def read_prepared(self, prepared: Sequence[Prepared | NnpipeError]) -> list[Reading]:
        """Read what `prepare` gave or raised for each picture; the results come in that order."""
        readable = [p for p in prepared if isinstance(p, Prepared)]
        shown = np.stack([p.pixels for p in readable]) if readable else np.empty((0, SIDE, SIDE))
        exact = self.probabilities(shown.astype(np.uint8))
        probabilities = iter(exact.round(6).tolist())
        return [
            self._reading(p, tuple(next(probabilities)))
            if isinstance(p, Prepared)
            else Reading("error", reason=in_one_line(p))
            for p in prepared
        ]

    @cached_property
    def network(self) -> Network:
        """The network in float64.

        BLAS adds in an order that depends on the number of rows, on the threads and on the
        processor, and a picture must get the same six digits alone and in a batch, here and
        elsewhere. So it computes with twice as many digits as float32 has.
        """
        layers = self.weights.network.layers
        return Network(tuple(Layer(*(a.astype(np.float64) for a in layer)) for layer in layers))

    def probabilities(self, pixels: Pixels) -> np.ndarray:
        """Probabilities, float64 (n, 10), of MNIST-like pictures of shape (n, 28, 28)."""
        return softmax(self.logits(pixels) / self.weights.metadata.temperature)

    def logits(self, pixels: Pixels) -> np.ndarray:
        """Logits, float64 (n, 10), of MNIST-like pictures of shape (n, 28, 28)."""
        result = np.empty((len(pixels), 10))
        for first in range(0, len(pixels), _BATCH):
            part = slice(first, first + _BATCH)
            result[part] = self.network.logits(as_inputs(pixels[part]))
        return result

    def _reading(self, prepared: Prepared, probabilities: tuple[float, ...]) -> Reading:
        confidence = max(probabilities)
        refusal = prepared.refusal
        if not refusal and confidence < self.threshold:
            refusal = f"unlike any digit: the confidence is below {self.threshold:.0%}"
        return Reading(
            "rejected" if refusal else "ok",
            None if refusal else probabilities.index(confidence),
            confidence,
            probabilities,
            f"{refusal}; {prepared.note}"
            if refusal and prepared.note
            else refusal or prepared.note,
            prepared.width,
            prepared.height,
            prepared.pixels,
        )


def measured(readings: Iterable[Reading]) -> drift.Values:
    """The features, for `drift` to compare, of those pictures that could be read."""
    read = [reading for reading in readings if reading.status != "error"]
    shares = np.array([reading.probabilities for reading in read], np.float64).reshape(-1, 10)
    pixels = np.array([reading.pixels for reading in read], np.uint8).reshape(-1, SIDE * SIDE)
    return {
        "labels": shares.argmax(axis=1),
        "confidences": shares.max(axis=1),
        "rejections": np.array([reading.status == "rejected" for reading in read], np.intp),
        "ink": pixels.sum(axis=1, dtype=np.uint32) / (255 * SIDE * SIDE),
    }


def champion() -> Path:
    """The weights file that comes with nnpipe: in the wheel, or in the repository's ``weights``."""
    package = Path(__file__).parent
    shipped = package / "model_weights.npz"
    return shipped if shipped.exists() else package.parent / "weights" / "model_weights.npz"


def _threshold(path: Path, metadata: Metadata, *, rate: float | None) -> float:
    if rate is None:
        return metadata.rejection_threshold or 0.0
    if not 0 <= rate <= max(calibration.RATES):
        raise NnpipeError(
            f"the rate of rejected digits must lie in 0…{max(calibration.RATES)}, not {rate}"
        )
    if rate == 0:
        return 0.0
    if not metadata.rejection_thresholds:
        raise WeightsError(f"{path}: holds no rejection thresholds; export it again")
    return calibration.threshold(metadata.rejection_thresholds, rate)
