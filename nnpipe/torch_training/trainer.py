"""Training with PyTorch behind the interface that it shares with `numpy_training`."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpipe.adaptation import between, write_alike
from nnpipe.datasets import Dataset, Digits
from nnpipe.epochs import Epoch, OnEpoch
from nnpipe.network import Network
from nnpipe.preprocess import as_inputs
from nnpipe.runs import CHECKPOINT, MODEL, belongs_to_another, checkpoints
from nnpipe.settings import ADAPTED, DEFAULT_RECIPE, TrainRequest
from nnpipe.torch_training import model, recipes
from nnpipe.torch_training.train import train as train_model


def settings(request: TrainRequest) -> tuple[str, dict[str, Any]]:
    """Return the name of the recipe and its settings, changed as requested.

    Raises:
        SettingError: a setting is out of its range.
    """
    recipe = _recipe(request)
    return recipe.name, asdict(recipe)


def train(
    data: Dataset,
    request: TrainRequest,
    *,
    folder: Path,
    start: Network | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, list[Epoch]]:
    """Train a network, and write its PyTorch model into the folder of the run.

    Args:
        data: training digits, and validation digits that choose the best epoch.
        request: the settings.
        folder: of the run. A checkpoint in it is resumed.
        start: a network to adapt to ``data.own``; by default training begins from scratch.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: see `train.train`; or the folder has the checkpoint of another training.
        OutputError: the model or a checkpoint cannot be written.
    """
    recipe = _recipe(request)
    for checkpoint in checkpoints(folder):
        if not recipe.distillation and checkpoint.name != CHECKPOINT:  # a teacher's
            raise belongs_to_another(checkpoint)
    if start and data.own:
        alike = write_alike(
            data.own, data.training, network=start, rng=np.random.default_rng(request.seed)
        )
        more = map(np.concatenate, zip(data.training, alike, strict=True))
        data = replace(data, training=Digits(*more))
    state, history = train_model(
        data,
        recipe,
        seed=request.seed,
        device=request.device,
        start=start,
        checkpoint=folder / CHECKPOINT,
        on_epoch=on_epoch,
    )
    if start:
        digits = as_inputs(data.validation.images), data.validation.labels
        state = model.to_state_dict(between(start, model.to_network(state), validation=digits))
    model.save_model(folder / MODEL, state)
    return model.to_network(state), history


def _recipe(request: TrainRequest) -> recipes.Recipe:
    name = ADAPTED if request.start else request.recipe or DEFAULT_RECIPE
    return recipes.recipe(name, **request.changes)
