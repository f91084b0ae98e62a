"""What a training learns from beside its data set: a network to start with, and own pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnpipe import ground_truth, weights
from nnpipe.adaptation import Replay
from nnpipe.champions import champion_of
from nnpipe.champions.rules import floor_of, own_pictures
from nnpipe.classifier import Classifier
from nnpipe.datasets import Dataset
from nnpipe.errors import LabelError, SettingError
from nnpipe.network import Network
from nnpipe.own.collecting import collect
from nnpipe.own.measuring import (
    OwnReport,
    Point,
    compare_digits,
    compare_held_out,
    forecast,
    learning_curve,
)
from nnpipe.own.pictures import Mask, OwnPictures
from nnpipe.preprocess import as_inputs
from nnpipe.settings import TrainRequest
from nnpipe.weights import Origin, OwnData


class Start(NamedTuple):
    """The network that an adaptation begins with."""

    path: Path
    network: Network
    origin: Origin


@dataclass(frozen=True)
class Material:
    """What a training learns from beside its data set."""

    reader: Path  # weights of the network that reads own pictures before
    start: Start | None = None  # None: training begins from scratch
    own: OwnPictures | None = None
    about: OwnData | None = None  # of ``own``
    known: Mask | None = None  # which of these the network to start with has learned from
    suspects: tuple[str, ...] = ()  # files whose label may be wrong
    seed: int = 0

    def measure(
        self, own: OwnPictures, *, after: Path, data: Dataset, on_line: Callable[[str], None]
    ) -> OwnReport:
        """Measure what learning from own pictures brought.

        Args:
            own: the pictures.
            after: weights of the trained network.
            data: the data set of the training.
            on_line: called with sentences about the progress.
        """
        before, now = Classifier.load(self.reader), Classifier.load(after)
        curve = list[Point]()
        if self.start and self.known is not None:
            curve = learning_curve(
                own,
                before,
                known=self.known,
                replay=Replay.of(self.start.network, data.training, seed=self.seed),
                validation=(as_inputs(data.validation.images), data.validation.labels),
                on_step=lambda done, of: on_line(f"learning curve: {done} of {of} networks"),
            )
        name = f"{ground_truth.title(data.name)} validation digits"
        return OwnReport(
            compare_digits(name, data.validation, before=before, after=now),
            compare_held_out(own, before=before, after=now),
            curve,
            forecast(curve),
            list(self.suspects),
        )


def gather(request: TrainRequest, *, on_line: Callable[[str], None]) -> Material:
    """Read what a training learns from beside its data set.

    Args:
        request: of the training.
        on_line: called with sentences about own pictures.

    Raises:
        SettingError: settings contradict each other.
        LabelError: a folder or a CSV file of own pictures cannot be used.
        TrainingError: pictures of an earlier training are missing or damaged.
        WeightsError: the network to start with is missing or damaged.
    """
    reader = start_of(request) or _champion(request)
    start, before = _start(request)
    if not (request.own or start):
        return Material(reader)
    collection = collect(
        request.own, Classifier.load(reader), before=before, drop_suspects=request.drop_suspects
    )
    for line in collection.lines():
        on_line(line)
    own = collection.pictures
    if not len(own.training.labels):
        raise LabelError("all own pictures are held out, and none is left to learn from; add some")
    beside = [weights.load(f).metadata for f in {reader, _champion(request)} if f.exists()]
    floor = max((floor_of(m) for m in beside if m.dataset == request.dataset), default=0.0)
    return Material(
        reader,
        start,
        own,
        OwnData(own.checksum, len(own), int(own.held_out.sum()), floor),
        np.isin(own.keys, before.keys if before else []),
        tuple(map(str, collection.suspects)),
        request.seed,
    )


def start_of(request: TrainRequest) -> Path | None:
    """Return the weights file of the network that is adapted; None to train from scratch."""
    if request.start is None:
        return None
    return _champion(request) if request.start == "champion" else Path(request.start)


def _champion(request: TrainRequest) -> Path:
    """Return the champion of the store; in a new store, the one that comes with nnpipe."""
    own = champion_of(request.weights_dir)
    return own if own.exists() else champion_of(None)


def _start(request: TrainRequest) -> tuple[Start | None, OwnPictures | None]:
    """Return the network to adapt and its own pictures; None to train from scratch."""
    path = start_of(request)
    if path is None:
        if request.drop_suspects and not request.own:
            raise SettingError("drop_suspects is set without pictures of your own in data")
        return None, None
    if request.recipe:
        raise SettingError("recipe is set with from; an adaptation has no recipes")
    network, metadata = weights.load(path)
    before = own_pictures(path, metadata)
    if not (request.own or before):
        raise SettingError(
            "from is set, and data names no pictures of your own; there is nothing to adapt to"
        )
    first = metadata.origin or metadata
    origin = Origin(weights.digest_of(network), engine=first.engine, recipe=first.recipe)
    return Start(path, network, origin), before
