"""Training with NumPy: the data preparation around `training.train`, which works from scratch."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpipe.adaptation import Replay, adapt
from nnpipe.adaptation import Settings as Adaptation
from nnpipe.datasets import Dataset
from nnpipe.epochs import Epoch, OnEpoch, Sgd
from nnpipe.errors import TrainingError
from nnpipe.network import Array, Network
from nnpipe.preprocess import SIDE, as_inputs
from nnpipe.runs import belongs_to_another, checkpoints
from nnpipe.settings import ADAPTED, NUMPY_RECIPE, TrainRequest
from nnpipe.training import fold_standardisation
from nnpipe.training import train as train_from_scratch


def settings(request: TrainRequest) -> tuple[str, dict[str, Any]]:
    """Return the name of the recipe and its settings, changed as requested.

    Raises:
        SettingError: a setting is out of its range.
        TrainingError: a recipe is requested.
    """
    if request.start:
        changes = {
            name: request.changes[name] for name in ("epochs", "lr") if name in request.changes
        }
        return ADAPTED, asdict(replace(Adaptation(), **changes))
    if request.recipe:
        raise TrainingError(
            f"recipe '{request.recipe}' is for engine 'torch'; NumPy has no recipes"
        )
    return NUMPY_RECIPE, asdict(Sgd(**request.changes))


def train(
    data: Dataset,
    request: TrainRequest,
    *,
    folder: Path,
    start: Network | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, list[Epoch]]:
    """Train a network; return it as it was after its best epoch, and all epochs.

    Args:
        data: its validation digits choose the best epoch.
        request: the settings.
        folder: of the run; training is too short to need checkpoints in it.
        start: a network to adapt to ``data.own``; by default training begins from scratch.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: training diverged, or the folder has the checkpoint of another training.
    """
    for checkpoint in checkpoints(folder):
        raise belongs_to_another(checkpoint)
    V = as_inputs(data.validation.images)
    if start and data.own:
        return adapt(
            start,
            data.own,
            replay=Replay.of(start, data.training, seed=request.seed),
            validation=(V, data.validation.labels),
            settings=Adaptation(**settings(request)[1]),
            seed=request.seed,
            on_epoch=on_epoch,
        )
    images, labels = data.examples
    X = as_inputs(images)
    mean, deviation = X.mean(), X.std()
    network, history = train_from_scratch(
        Network.initialise(np.random.default_rng(request.seed)),
        ((X - mean) / deviation, labels),
        validation=((V - mean) / deviation, data.validation.labels),
        settings=Sgd(**settings(request)[1]),
        seed=request.seed,
        augment=shift_by_a_pixel,
        on_epoch=on_epoch,
    )
    return fold_standardisation(network, mean=float(mean), deviation=float(deviation)), history


def shift_by_a_pixel(X: Array, rng: np.random.Generator) -> Array:
    """Shift a batch of pictures, shape (n, 784), by −1, 0 or 1 pixels across and down.

    A shifted digit is the same digit. Learning this is worth half a point of accuracy. Pixels that
    leave on one side enter on the other, but they are background.
    """
    across, down = rng.integers(-1, 2, size=2)
    pictures = X.reshape(-1, SIDE, SIDE)
    return np.roll(pictures, (down, across), axis=(1, 2)).reshape(X.shape)
