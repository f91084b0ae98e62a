"""Training with PyTorch. The data live on the device, and nothing leaves it within an epoch."""

import copy
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnpipe.datasets import Dataset, Digits
from nnpipe.epochs import Epoch, OnEpoch, check_loss
from nnpipe.errors import TrainingError
from nnpipe.files import replacing
from nnpipe.network import Network
from nnpipe.preprocess import SIDE, as_inputs
from nnpipe.torch_training.examples import Answered, Fresh
from nnpipe.torch_training.mixture import Pool, draw_pools
from nnpipe.torch_training.model import StateDict, build, to_state_dict
from nnpipe.torch_training.precision import products
from nnpipe.torch_training.recipes import Recipe
from nnpipe.torch_training.teachers import build_teacher
from nnpipe.torch_training.update import Update

SECONDS_BETWEEN_CHECKPOINTS = 5.0
MEASURED_AT_ONCE = 1000


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        TrainingError: there is no such device on this machine.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name.split(":")[0]):
        here = ", ".join(device for device, there in available.items() if there)
        raise TrainingError(f"there is no device '{name}' on this machine; it has {here}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise TrainingError(f"'{name}' is no device; use auto, cuda, cuda:0, mps or cpu") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(f"there is no device '{name}': {torch.cuda.device_count()} are here")
    return device


class _Progress(NamedTuple):
    """All there is to know after an epoch; with it, training goes on as if never interrupted."""

    model: StateDict
    average: StateDict
    optimiser: dict[str, Any]
    best: StateDict
    history: list[Epoch]


def train(
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[StateDict, list[Epoch]]:
    """Train from He-initialised weights; the state dict of the best validation epoch, or of the
    last if the recipe says so, on the CPU, and all epochs, those of teachers first.

    Args:
        dataset: trained on its training part; the epoch is chosen on its validation part.
        recipe: see `recipe`.
        seed: of the first weights, the shuffling and the distortions.
        device: see `choose_device`.
        checkpoint: where the state is kept every few seconds; if it is there, training goes on
            from it and ends with the weights that an uninterrupted training would have.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: the device is not there, the loss is no longer a finite number, or the
            checkpoint is damaged or of a training with other settings.
        OutputError: the checkpoint cannot be written.
    """
    place = choose_device(device)
    digits, validation = _on_device(dataset.training, place), _on_device(dataset.validation, place)
    pools = draw_pools(dataset.training, seed, place) if recipe.mixture else None
    fresh = Fresh(digits, pools, recipe, seed)
    settings = {"recipe": asdict(recipe), "seed": seed, "dataset": dataset.checksum}

    teachers, taught = list[nn.Module](), list[Epoch]()
    if by := recipe.distillation:
        for number in range(1, by.teachers + 1):
            teacher = build_teacher(by.width, seed=seed * 1000 + number).to(place)
            state, epochs = _fit(
                teacher,
                Fresh(digits, pools, recipe.teacher, seed * 1000 + number),
                validation,
                recipe.teacher,
                checkpoint and checkpoint.with_stem(f"{checkpoint.stem}-teacher-{number}"),
                settings | {"teacher": number},
                on_epoch,
                number,
            )
            teacher.load_state_dict(state)
            teachers.append(teacher.eval())
            taught += epochs

    model = build().to(place)
    model.load_state_dict(to_state_dict(Network.initialise(np.random.default_rng(seed))))
    examples = Answered(fresh, teachers, by) if by else fresh
    best, history = _fit(model, examples, validation, recipe, checkpoint, settings, on_epoch)
    return best, taught + history


def _on_device(digits: Digits, device: torch.device) -> Pool:
    images = torch.from_numpy(as_inputs(digits.images)).view(-1, 1, SIDE, SIDE)
    labels = torch.from_numpy(digits.labels.astype(np.int64))
    return Pool(images.to(device), labels.to(device))


def _fit(
    model: nn.Module,
    examples: Fresh | Answered,
    validation: Pool,
    recipe: Recipe,
    checkpoint: Path | None,
    settings: dict[str, Any],
    on_epoch: OnEpoch | None,
    teacher: int = 0,
) -> tuple[StateDict, list[Epoch]]:
    """Train a model, from the checkpoint if there is one; the state of its best epoch."""
    average = copy.deepcopy(model).eval() if recipe.averaging else model
    update = Update(model, average, recipe, examples)
    best, history = _state(average), list[Epoch]()
    if checkpoint and checkpoint.exists():
        progress = _load_checkpoint(checkpoint, settings)
        model.load_state_dict(progress.model)
        average.load_state_dict(progress.average)
        update.load(progress.optimiser)
        best, history = progress.best, progress.history
    saved = time.monotonic()

    for number in range(len(history) + 1, recipe.epochs + 1):
        start = time.perf_counter()
        model.train()
        update.total.zero_()
        shown = 0
        with products(fast=True):
            for step, rows in enumerate(examples.rows(number), (number - 1) * examples.steps):
                update.prepare(step, recipe.epochs * examples.steps)
                update(rows)
                shown += len(rows)
        loss = float(update.total) / shown
        check_loss(loss, number, recipe.lr)
        validation_loss, accuracy = _measure(average, *validation)
        check_loss(validation_loss, number, recipe.lr)
        highest = max((epoch.validation_accuracy for epoch in history), default=-1.0)
        if recipe.keep_last or accuracy > highest:
            best = _state(average)
        seconds = time.perf_counter() - start
        epoch = Epoch(number, recipe.epochs, loss, validation_loss, accuracy, seconds, teacher)
        history.append(epoch)
        late = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
        if checkpoint and (late or number == recipe.epochs):
            _save_checkpoint(
                checkpoint,
                settings,
                _Progress(
                    _state(model), _state(average), update.optimiser.state_dict(), best, history
                ),
            )
            saved = time.monotonic()
        if on_epoch:
            on_epoch(epoch)
    return best, history


@torch.no_grad()
@products(fast=False)
def _measure(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy, and the share in [0, 1] of images read right, in full precision."""
    logits = torch.cat([model(part.flatten(1)) for part in torch.split(images, MEASURED_AT_ONCE)])
    hits = int((logits.argmax(1) == labels).sum())
    return float(functional.cross_entropy(logits, labels)), hits / len(labels)


def _state(model: nn.Module) -> StateDict:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _save_checkpoint(path: Path, settings: dict[str, Any], progress: _Progress) -> None:
    content = progress._asdict() | {
        "settings": settings,
        "history": [asdict(epoch) for epoch in progress.history],
    }
    with replacing(path) as stream:
        torch.save(content, stream)


def _load_checkpoint(path: Path, settings: dict[str, Any]) -> _Progress:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.pop("settings")
        content["history"] = [Epoch(**epoch) for epoch in content["history"]]
        progress = _Progress(**content) if found == settings else None
    except Exception as error:  # a damaged pickle can raise anything
        raise TrainingError(
            f"{path}: is damaged ({type(error).__name__}); remove it to train from the beginning"
        ) from error
    if progress is None:
        raise TrainingError(
            f"{path}: belongs to a training with other settings; give the run another name, or "
            "remove it to train from the beginning"
        )
    return progress
