"""The classifier: weights and preprocessing together, pictures in, digits out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
from PIL import Image

from nnpipe import calibration, drift
from nnpipe.errors import NnpipeError, SettingError, WeightsError
from nnpipe.network import Layer, Network, softmax
from nnpipe.pages import Page
from nnpipe.places import in_one_line
from nnpipe.preprocess import (
    PREPROCESSING_VERSION,
    SIDE,
    Candidate,
    Picture,
    Pixels,
    Prepared,
    as_inputs,
    prepare_many,
)
from nnpipe.preprocess.decoders import Opened
from nnpipe.settings import PARAMETERS, WeightsRequest
from nnpipe.weights import Weights, load

if TYPE_CHECKING:  # reading numbers takes OpenCV, which is loaded when it is needed
    from nnpipe.numbers.constraints import Wanted
    from nnpipe.numbers.reading import Number
    from nnpipe.numbers.ways import PreparedNumber

BATCH = 512
"""Pictures per matrix product: the activations of that many fit a processor's cache."""


SURE = 1.003
"""Confidence that leaves no doubt. It lies above 1, so that of two candidates with nearly the same
confidence the one with the better odds is chosen."""

REFUSED = 0.5
"""Doubt at which a refusal is more likely than a digit that is understood in a less simple way."""


@dataclass(frozen=True)
class Reading:
    """What was read from one picture. Readings are equal if all but their pixels are equal."""

    status: Literal["ok", "rejected", "error"]
    label: int | None = None  # 0 … 9; None unless the status is "ok"
    confidence: float | None = None  # the largest probability; None for an error
    # Ten, in [0, 1], to six digits; None for an error.
    probabilities: tuple[float, ...] | None = field(default=None, repr=False)
    reason: str = ""  # why it is rejected or an error; or a note about one that was read
    width: int | None = None  # of the picture, in its own pixels, upright; None for an error
    height: int | None = None
    # (28, 28), what the network was shown; None for an error.
    pixels: Pixels | None = field(default=None, repr=False, compare=False)


class Judgement(NamedTuple):
    """What the network says of the candidates of one picture."""

    chosen: int  # index of the candidate that is the answer
    probabilities: np.ndarray  # float64 (candidates, 10), to six digits


@dataclass(frozen=True, eq=False)
class Classifier:
    """Weights that read pictures. Threads may share it. It is equal only to itself."""

    weights: Weights
    threshold: float = 0.0  # a picture with less confidence is rejected as unlike any digit

    @classmethod
    def load(
        cls, source: str | Path | bytes | bytearray | None = None, reject_rate: float | None = None
    ) -> "Classifier":
        """Load a weights file, by default the champion that comes with nnpipe.

        Args:
            source: the weights file, or its content.
            reject_rate: share of digits like the validation digits that may be rejected as unlike
                any digit, in [0, 0.1]. The higher it is, the fewer letters and scribbles are read
                as digits. By default the file decides; at 0 nothing is rejected for its confidence.

        Raises:
            WeightsError: the file is damaged, for another preprocessing, or not for digits; or a
                rate is given and the file holds no thresholds.
            SettingError: the rate is out of its range.
        """
        if source is None:
            source = champion()
        source = bytes(source) if isinstance(source, (bytes, bytearray)) else Path(source)
        name = source if isinstance(source, Path) else "the weights"
        weights = load(source)
        metadata, sizes = weights.metadata, weights.network.sizes
        if metadata.preprocessing_version != PREPROCESSING_VERSION:
            raise WeightsError(
                f"{name}: was made for preprocessing version {metadata.preprocessing_version}, "
                f"and this nnpipe has {PREPROCESSING_VERSION}",
                advice="export",
            )
        if (sizes[0], sizes[-1]) != (SIDE * SIDE, 10):
            raise WeightsError(f"{name}: has layers {sizes}, expected 784 inputs and 10 outputs")
        if reject_rate is None:
            return cls(weights, metadata.rejection_threshold or 0.0)
        PARAMETERS["reject_rate"].check("reject_rate", reject_rate)
        if reject_rate == 0:
            return cls(weights)
        if not metadata.rejection_thresholds:
            raise WeightsError(f"{name}: holds no rejection thresholds", advice="export")
        return cls(weights, calibration.threshold(metadata.rejection_thresholds, reject_rate))

    @overload
    def read(self, picture: Picture) -> Reading: ...

    @overload
    def read(self, picture: Picture, *, digits: str | int, **constraints: Any) -> "Number": ...

    def read(
        self, picture: Picture, *, digits: str | int | None = None, **constraints: Any
    ) -> "Reading | Number":
        """Read one picture, in this process, without a limit of time or memory.

        Args:
            picture: a path, the bytes of a file, a file open in the mode ``"rb"``, a
                `pages.Page`, a Pillow image, or an array of shape (h, w), or of shape (h, w, 3 or
                4) and type uint8.
            digits: how many digits its number has: "any", 4, or "2-6". By default one digit is
                expected, and a picture of several is rejected.
            constraints: what numbers are possible: ``valid``, ``check`` and ``between``; and the
                ``separators`` to keep; see `numbers.constraints.wanted`.

        Returns:
            A picture that cannot be read has the status "error" and a reason.

        Raises:
            TypeError: an object of this type is no picture, or there is no such argument.
            SettingError: ``digits`` or a constraint has another form.
        """
        if digits is None:
            if constraints:
                raise TypeError(f"{min(constraints)} is for numbers; say how many digits they have")
            return self.read_many([picture])[0]
        from nnpipe.numbers.constraints import wanted
        from nnpipe.numbers.ways import prepare_many as cut_many

        numbers = wanted(digits, **constraints)
        timed = cut_many([_check_type(picture)], separators=bool(numbers.separators))
        return self.read_numbers([one.result for one in timed], numbers)[0]

    def read_numbers(
        self,
        prepared: Sequence["PreparedNumber | NnpipeError"],
        wanted: "Wanted",
        *,
        keep: bool = False,
    ) -> list["Number"]:
        """Read what `numbers.ways.prepare` returned or raised for each picture, in their order.

        With ``keep``, numbers without constraints have their candidates as well.
        """
        from nnpipe.numbers.reading import Number, read_number

        pixels = [
            lattice.pixels
            for p in prepared
            if not isinstance(p, NnpipeError)
            for lattice in p.lattices
        ]
        shown = np.concatenate([np.empty((0, SIDE, SIDE), np.uint8), *pixels])
        ends = np.cumsum([len(some) for some in pixels])
        parts = iter(np.split(self.probabilities(shown), ends[:-1]) if pixels else [])
        numbers = []
        for p in prepared:
            if isinstance(p, NnpipeError):
                numbers.append(Number("error", reason=in_one_line(p)))
                continue
            number = read_number(p, [next(parts) for _ in p.lattices], wanted=wanted, keep=keep)
            if p.alone and len(number.label or "") == 1:
                (alone,) = self.read_prepared([p.alone])
                number = _confirmed(number, alone)
            numbers.append(number)
        return numbers

    def read_many(self, pictures: Iterable[Picture]) -> list[Reading]:
        """Read pictures, in their order; a picture does not affect the others. See `read`."""
        if isinstance(pictures, str):
            raise TypeError("expected several pictures, not one path")
        return self.read_prepared(
            [timed.result for timed in prepare_many(map(_check_type, pictures))]
        )

    def read_prepared(self, prepared: Sequence[Prepared | NnpipeError]) -> list[Reading]:
        """Read what `prepare` returned or raised for each picture, in their order."""
        judgements = iter(self.judge([p for p in prepared if isinstance(p, Prepared)]))
        return [
            self._reading(p, next(judgements))
            if isinstance(p, Prepared)
            else Reading("error", reason=in_one_line(p))
            for p in prepared
        ]

    def judge(self, prepared: Sequence[Prepared]) -> list[Judgement]:
        """Choose a candidate of each picture; see `choose`."""
        pixels = [candidate.pixels for p in prepared for candidate in p.candidates]
        exact = self.probabilities(np.array(pixels, np.uint8).reshape(-1, SIDE, SIDE))
        ends = np.cumsum([len(p.candidates) for p in prepared])
        parts = np.split(exact.round(6), ends[:-1]) if prepared else []
        return [
            Judgement(choose(p.candidates, shares.max(axis=1).tolist()), shares)
            for p, shares in zip(prepared, parts, strict=True)
        ]

    @cached_property
    def network(self) -> Network:
        """The network in float64.

        BLAS adds in an order that depends on the number of rows, the threads and the processor.
        In float64 this does not change the six digits of a probability: the same pixels get the
        same digits alone and in a batch, on every machine. But OpenCV scales some pictures
        differently, by a grey level, if it was built for another processor.
        """
        layers = self.weights.network.layers
        return Network(tuple(Layer(*(a.astype(np.float64) for a in layer)) for layer in layers))

    def probabilities(self, pixels: Pixels) -> np.ndarray:
        """Probabilities, float64 (n, 10), of MNIST-like pictures of shape (n, 28, 28)."""
        return softmax(self.logits(pixels) / self.weights.metadata.temperature)

    def logits(self, pixels: Pixels) -> np.ndarray:
        """Logits, float64 (n, 10), of MNIST-like pictures of shape (n, 28, 28)."""
        batches = [pixels[first : first + BATCH] for first in range(0, len(pixels), BATCH)]
        logits = [self.network.logits(as_inputs(batch)) for batch in batches]
        return np.concatenate([np.empty((0, 10)), *logits])

    def _reading(self, prepared: Prepared, judgement: Judgement) -> Reading:
        _, pixels, refusal, _ = prepared.candidates[judgement.chosen]
        probabilities = tuple(judgement.probabilities[judgement.chosen].tolist())
        confidence = max(probabilities)
        if not refusal and confidence < self.threshold:
            refusal = f"unlike any digit: the confidence is below {self.threshold:.0%}"
        return Reading(
            status="rejected" if refusal else "ok",
            label=None if refusal else probabilities.index(confidence),
            confidence=confidence,
            probabilities=probabilities,
            reason="; ".join(filter(None, (refusal, prepared.note))),
            width=prepared.width,
            height=prepared.height,
            pixels=pixels,
        )


def choose(candidates: Sequence[Candidate], confidences: Sequence[float]) -> int:
    """Return the index of the candidate that leaves the least doubt.

    The doubt of a candidate is what its confidence lacks to a little more than 1, times its odds. A
    refusal is chosen only if it is the simplest way and all others leave more doubt than
    `REFUSED`.
    """

    def doubt(index: int) -> float:
        if candidates[index].refusal:
            return REFUSED if index == 0 else math.inf
        return (SURE - confidences[index]) * candidates[index].odds

    return min(range(len(candidates)), key=doubt)


def _confirmed(number: "Number", alone: Reading) -> "Number":
    """Return a number of one digit if its picture is read as that digit, or else a rejected one."""
    if alone.status == "ok" and str(alone.label) == number.label:
        return number
    from nnpipe.numbers.constraints import NOT_SURE

    reason = NOT_SURE
    if alone.status == "ok":
        reason = f"may be a {number.label} or a {alone.label}"
    return replace(
        number,
        status="rejected",
        label=None,
        second=number.label,
        second_confidence=number.confidence,
        reason=reason,
        digits=(),
        candidates=(),
    )


def _check_type(picture: Picture) -> Picture:
    """Return the picture, if its type is one that can be read.

    Raises:
        TypeError: it is not.
    """
    kinds = str, Path, bytes, bytearray, Page, Opened, Image.Image, np.ndarray
    if not isinstance(picture, kinds):
        if not hasattr(picture, "read"):
            raise TypeError(
                f"an object of the type {type(picture).__name__} is no picture; expected a path, "
                "bytes, an open file, a Pillow image or an array"
            )
        if hasattr(picture, "encoding"):  # only files that are open for text have one
            raise TypeError("the file is open for text; open it with the mode 'rb'")
    return picture


def feature_values(readings: Iterable[Reading]) -> drift.Values:
    """The values of each feature that `drift` compares, for the pictures that could be read."""
    read = [reading for reading in readings if reading.status != "error"]
    shares = np.array([reading.probabilities for reading in read], np.float64).reshape(-1, 10)
    pixels = np.array([reading.pixels for reading in read], np.uint8).reshape(-1, SIDE * SIDE)
    return {
        "labels": shares.argmax(axis=1),
        "confidences": shares.max(axis=1),
        "rejections": np.array([reading.status == "rejected" for reading in read], np.intp),
        "ink": pixels.sum(axis=1, dtype=np.uint32) / (255 * SIDE * SIDE),
    }


def file_of(request: WeightsRequest) -> Path:
    """Return the weights file that is asked for.

    If there was never a champion in the folder, as in that of a new office, it is the one that
    comes with nnpipe.

    Raises:
        SettingError: both a file and a folder are named, or there is no such folder.
    """
    if request.weights and request.weights_dir:
        raise SettingError("weights and weights_dir are both set; name one of them")
    if folder := request.weights_dir:
        if not folder.is_dir():
            raise SettingError(f"{folder}: there is no such folder of weights")
        own = folder / champion().name
        is_new = not own.exists() and not any((folder / FORMER).glob(f"*/{own.name}"))
        return champion() if is_new else own
    return request.weights or champion()


FORMER = "former"
"""Folder of former champions, below that of the champion."""


def champion() -> Path:
    """Return the weights file that comes with nnpipe, in the wheel or in the repository."""
    package = Path(__file__).parent
    shipped = package / "model_weights.npz"
    return shipped if shipped.exists() else package.parent / "weights" / "model_weights.npz"
