"""Training with PyTorch. The data live on the device, and nothing leaves it within an epoch."""

import copy
import math
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
from nnpipe.torch_training.distortions import distort
from nnpipe.torch_training.mixture import Pools, draw_pools, mix
from nnpipe.torch_training.model import StateDict, build, to_state_dict
from nnpipe.torch_training.recipes import Recipe, schedule

SECONDS_BETWEEN_CHECKPOINTS = 5.0


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
    """Train from He-initialised weights; the state dict of the best validation epoch, on the CPU.

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
    model = build().to(place)
    model.load_state_dict(to_state_dict(Network.initialise(np.random.default_rng(seed))))
    average = copy.deepcopy(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=place.type != "mps")
    images, labels = _on_device(dataset.training, place)
    validation = _on_device(dataset.validation, place)
    pools = draw_pools(dataset.training, seed, place) if recipe.mixture else None
    settings = {"recipe": asdict(recipe), "seed": seed, "dataset": dataset.checksum}

    best, history = _state(average), list[Epoch]()
    if checkpoint and checkpoint.exists():
        progress = _load_checkpoint(checkpoint, settings)
        model.load_state_dict(progress.model)
        average.load_state_dict(progress.average)
        optimiser.load_state_dict(progress.optimiser)
        best, history = progress.best, progress.history
    saved = time.monotonic()

    for number in range(len(history) + 1, recipe.epochs + 1):
        start = time.perf_counter()
        # Each epoch has a random stream of its own, so that a resumed training needs no other.
        rng = torch.Generator(place).manual_seed(seed * 1_000_003 + number)
        loss = _run_epoch(model, average, optimiser, recipe, images, labels, pools, number, rng)
        check_loss(loss, number, recipe.lr)
        validation_loss, accuracy = _measure(average, *validation)
        check_loss(validation_loss, number, recipe.lr)
        if accuracy > max((epoch.validation_accuracy for epoch in history), default=-1.0):
            best = _state(average)
        seconds = time.perf_counter() - start
        history.append(Epoch(number, recipe.epochs, loss, validation_loss, accuracy, seconds))
        if checkpoint and time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
            _save_checkpoint(
                checkpoint,
                settings,
                _Progress(_state(model), _state(average), optimiser.state_dict(), best, history),
            )
            saved = time.monotonic()
        if on_epoch:
            on_epoch(history[-1])
    return best, history


def _on_device(digits: Digits, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) float32 in [0, 1] and labels (n,) int64, each as one tensor."""
    images = torch.from_numpy(as_inputs(digits.images)).view(-1, 1, SIDE, SIDE)
    return images.to(device), torch.from_numpy(digits.labels.astype(np.int64)).to(device)


def _run_epoch(
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    pools: Pools | None,
    number: int,
    rng: torch.Generator,
) -> float:
    """Go over all digits once, in random order; return the mean loss of the weights on the way."""
    n = len(images)
    steps = math.ceil(n / recipe.batch_size)
    order = torch.randperm(n, generator=rng, device=images.device)
    total = torch.zeros((), device=images.device)
    for step, batch in enumerate(torch.split(order, recipe.batch_size), start=(number - 1) * steps):
        if recipe.schedule:
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * schedule(step / (recipe.epochs * steps))
        x, y = images[batch], labels[batch]
        if recipe.mixture and pools:
            x, y = mix(x, y, pools, recipe.mixture, rng)
        if recipe.distortions:
            x = distort(x, recipe.distortions, rng)
        logits = model(x.flatten(1))
        loss = functional.cross_entropy(logits[: len(y)], y)
        if recipe.mixture and len(y) < len(logits):
            # Cross-entropy with even probabilities, which strangers are to get.
            strangers = -logits[len(y) :].log_softmax(1).mean()
            loss = loss + recipe.mixture.weight * strangers
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        # At first the mean spans few steps, lest it remember the weights before training.
        _pull(average, model, max(1 - recipe.averaging, 9 / (10 + step)) if recipe.averaging else 1)
        total += loss.detach() * len(batch)
    return float(total) / n


@torch.no_grad()
def _pull(average: nn.Module, model: nn.Module, share: float) -> None:
    """Move the mean of the weights some way to the weights; without averaging, all the way."""
    pairs = zip(average.parameters(), model.parameters(), strict=True)
    for mean, weight in pairs:
        mean.lerp_(weight, share)


@torch.no_grad()
def _measure(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy, and the share in [0, 1] of images read right."""
    logits = model(images.flatten(1))
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
