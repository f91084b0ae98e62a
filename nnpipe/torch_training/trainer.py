"""Training with PyTorch behind the interface that it shares with `numpy_training`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnpipe.datasets import Dataset
from nnpipe.epochs import Epoch, OnEpoch
from nnpipe.network import Network
from nnpipe.runs import CHECKPOINT, MODEL, belongs_to_another, checkpoints
from nnpipe.settings import DEFAULT_RECIPE, TrainRequest
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
    data: Dataset, request: TrainRequest, *, folder: Path, on_epoch: OnEpoch | None = None
) -> tuple[Network, list[Epoch]]:
    """Train a network, and write its PyTorch model into the folder of the run.

    Args:
        data: training digits, and validation digits that choose the best epoch.
        request: the settings.
        folder: of the run. A checkpoint in it is resumed.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: see `train.train`; or the folder has the checkpoint of another training.
        OutputError: the model or a checkpoint cannot be written.
    """
    recipe = _recipe(request)
    for checkpoint in checkpoints(folder):
        if not recipe.distillation and checkpoint.name != CHECKPOINT:  # a teacher's
            raise belongs_to_another(checkpoint)
    state, history = train_model(
        data,
        recipe,
        seed=request.seed,
        device=request.device,
        checkpoint=folder / CHECKPOINT,
        on_epoch=on_epoch,
    )
    model.save_model(folder / MODEL, state)
    return model.to_network(state), history


def _recipe(request: TrainRequest) -> recipes.Recipe:
    return recipes.recipe(request.recipe or DEFAULT_RECIPE, **request.changes)
