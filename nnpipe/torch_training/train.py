"""Training with PyTorch. The data stay on the device, and nothing leaves it within an epoch."""

import copy
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nnpipe.datasets import Dataset
from nnpipe.epochs import Epoch, OnEpoch, check_loss
from nnpipe.errors import TrainingError
from nnpipe.network import Network
from nnpipe.runs import belongs_to_another
from nnpipe.torch_training.examples import Answered, Fresh
from nnpipe.torch_training.mixture import Pool, draw_pools, to_pool
from nnpipe.torch_training.model import StateDict, build, save_model, to_state_dict
from nnpipe.torch_training.precision import products
from nnpipe.torch_training.recipes import Recipe
from nnpipe.torch_training.teachers import build_teacher
from nnpipe.torch_training.update import Update
from nnpipe.weights import digest_of

SECONDS_BETWEEN_CHECKPOINTS = 5.0

MEASURED_AT_ONCE = 1000
"""Pictures."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        TrainingError: this machine has no such device.
    """
    devices = ["mps"] if torch.backends.mps.is_available() else []
    if torch.cuda.is_available():
        devices = ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    devices.append("cpu")
    if name not in ("auto", *devices):
        raise TrainingError(
            f"there is no device '{name}' on this machine, only {', '.join(devices)}"
        )
    return torch.device(devices[0] if name == "auto" else name)


def train(
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    start: Network | None = None,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[StateDict, list[Epoch]]:
    """Train from the weights of another network, or from He-initialised ones.

    Args:
        dataset: its validation digits choose the best epoch.
        recipe: see `recipe`.
        seed: of the initial weights, the shuffling and the distortions.
        device: see `choose_device`.
        start: the network to begin with.
        checkpoint: file of the state, written every few seconds. If it exists, training resumes
            from it and ends with the same weights as without the interruption.
        on_epoch: called after every epoch.

    Returns:
        The state dict, on the CPU, of the best epoch, or of the last if the recipe says so; and all
        epochs, those of teachers first.

    Raises:
        TrainingError: the device does not exist, the loss is no longer a finite number, or the
            checkpoint is damaged or belongs to other settings.
        OutputError: the checkpoint cannot be written.
    """
    torch_device = choose_device(device)
    digits = to_pool(dataset.examples, torch_device)
    pools = draw_pools(dataset.training, seed=seed, device=torch_device) if recipe.mixture else None
    settings = {"recipe": asdict(recipe), "seed": seed, "dataset": dataset.checksum}
    settings |= {"own": dataset.own_checksum, "start": digest_of(start) if start else ""}
    fit = partial(_fit, validation=to_pool(dataset.validation, torch_device), on_epoch=on_epoch)
    examples: Fresh | Answered
    examples = fresh = Fresh(digits, pools, recipe=recipe, seed=seed)

    teachers, teacher_epochs = list[nn.Module](), list[Epoch]()
    if by := recipe.distillation:
        for number in range(1, by.teachers + 1):
            teacher = build_teacher(by.width, seed=seed * 1000 + number).to(torch_device)
            state, epochs = fit(
                teacher,
                Fresh(digits, pools, recipe=recipe.teacher(by), seed=seed * 1000 + number),
                recipe=recipe.teacher(by),
                checkpoint=checkpoint
                and checkpoint.with_stem(f"{checkpoint.stem}-teacher-{number}"),
                settings=settings | {"teacher": number},
                teacher=number,
            )
            teacher.load_state_dict(state)
            teachers.append(teacher.eval())
            teacher_epochs += epochs
        examples = Answered(fresh, teachers, by=by)

    model = build().to(torch_device)
    first = start or Network.initialise(np.random.default_rng(seed))
    model.load_state_dict(to_state_dict(first))
    best, history = fit(model, examples, recipe=recipe, checkpoint=checkpoint, settings=settings)
    return best, teacher_epochs + history


def _fit(
    model: nn.Module,
    examples: Fresh | Answered,
    *,
    validation: Pool,
    recipe: Recipe,
    checkpoint: Path | None,
    settings: dict[str, Any],
    on_epoch: OnEpoch | None,
    teacher: int = 0,
) -> tuple[StateDict, list[Epoch]]:
    """Train a model, from the checkpoint if it exists; return its best state and all epochs."""
    average = copy.deepcopy(model).eval() if recipe.averaging else model
    update = Update(model, average=average, recipe=recipe, examples=examples)
    best, history = _state(average), list[Epoch]()
    if checkpoint and checkpoint.exists():
        progress = _load_checkpoint(checkpoint, settings)
        model.load_state_dict(progress["model"])
        average.load_state_dict(progress["average"])
        update.load(progress["optimiser"])
        best, history = progress["best"], progress["history"]
    saved = time.monotonic()

    for number in range(len(history) + 1, recipe.epochs + 1):
        start = time.perf_counter()
        model.train()
        update.total.zero_()
        count = 0
        with products(fast=True):
            for step, rows in enumerate(examples.rows(number), (number - 1) * examples.steps):
                update.prepare(step, recipe.epochs * examples.steps)
                update(rows)
                count += len(rows)
        loss = float(update.total) / count
        check_loss(loss, epoch=number, lr=recipe.lr)
        validation_loss, accuracy = _measure(average, validation)
        check_loss(validation_loss, epoch=number, lr=recipe.lr)
        highest = max((epoch.validation_accuracy for epoch in history), default=-1.0)
        if recipe.keep_last or accuracy > highest:
            best = _state(average)
        seconds = time.perf_counter() - start
        epoch = Epoch(number, recipe.epochs, loss, validation_loss, accuracy, seconds, teacher)
        history.append(epoch)
        checkpoint_due = time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS
        if checkpoint and (checkpoint_due or number == recipe.epochs):
            progress = {
                "settings": settings,
                "model": _state(model),
                "average": _state(average),
                "optimiser": update.optimiser.state_dict(),
                "best": best,
                "history": [asdict(epoch) for epoch in history],
            }
            save_model(checkpoint, progress)
            saved = time.monotonic()
        if on_epoch:
            on_epoch(epoch)
    return best, history


@torch.no_grad()
@products(fast=False)
def _measure(model: nn.Module, digits: Pool) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy in [0, 1], computed in full precision."""
    batches = torch.split(digits.images, MEASURED_AT_ONCE)
    logits = torch.cat([model(batch.flatten(1)) for batch in batches])
    hits = int((logits.argmax(1) == digits.labels).sum())
    return float(functional.cross_entropy(logits, digits.labels)), hits / len(digits.labels)


def _state(model: nn.Module) -> StateDict:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        progress: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        progress["history"] = [Epoch(**epoch) for epoch in progress["history"]]
        is_same = progress["settings"] == settings
    except Exception as error:  # a damaged pickle can raise anything
        raise TrainingError(
            f"{path}: is damaged ({type(error).__name__}); remove it to train from the beginning"
        ) from error
    if not is_same:
        raise belongs_to_another(path)
    return progress
