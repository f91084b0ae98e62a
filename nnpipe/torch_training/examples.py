"""The examples of a training, epoch by epoch: pictures and their targets."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnpipe.torch_training.distortions import distort
from nnpipe.torch_training.mixture import Pool, Pools, mix
from nnpipe.torch_training.recipes import Distillation, Recipe
from nnpipe.torch_training.teachers import answer


class Examples(NamedTuple):
    """A batch of examples."""

    images: Tensor  # (n, 784) float32 in [0, 1]
    targets: Tensor  # (n, 10) float32: probabilities × the weight in the loss


class Fresh:
    """The training digits in random order, each once per epoch, mixed and distorted each time."""

    def __init__(self, digits: Pool, pools: Pools | None, *, recipe: Recipe, seed: int) -> None:
        """Prepare examples from digits and pools on the device, as a recipe says."""
        self.digits, self.pools, self.recipe, self.seed = digits, pools, recipe, seed
        self.steps = math.ceil(len(digits.labels) / recipe.batch_size)
        self.rng = torch.Generator(digits.labels.device)

    def rows(self, number: int) -> Iterator[Tensor]:
        """Return the rows of each batch of an epoch, int64 (n,); epochs are numbered from 1.

        Each epoch has its own random stream, which `batch` also draws from.
        """
        order = _shuffled(self.digits.labels, self.rng, seed=self.seed, number=number)
        return iter(torch.split(order, self.recipe.batch_size))

    def batch(self, rows: Tensor) -> Examples:
        """Return the batch of these rows."""
        return self.batch_of_both(rows)[0]

    def batch_of_both(self, rows: Tensor) -> tuple[Examples, int]:
        """Return a batch and the number of its digits; the pictures after them are strangers."""
        x, y = self.digits.images[rows], self.digits.labels[rows]
        if self.recipe.mixture and self.pools:
            x, y = mix(x, y, pools=self.pools, by=self.recipe.mixture, rng=self.rng)
        if self.recipe.distortions:
            x = distort(x, self.recipe.distortions, rng=self.rng)
        return Examples(x.flatten(1), self._targets(y, len(x))), len(y)

    def _targets(self, labels: Tensor, n: int) -> Tensor:
        """Return one-hot targets for digits and uniform ones for strangers.

        With their weights, the mean loss of the batch is the mean of its digits plus the weighted
        mean of its strangers.
        """
        targets = functional.one_hot(labels, 10).float()
        strangers = n - len(labels)
        if not (strangers and self.recipe.mixture):
            return targets
        share = self.recipe.mixture.weight / strangers / 10
        return torch.cat([targets / len(labels), targets.new_full((strangers, 10), share)]) * n


class Answered:
    """Examples with the teachers' answers as targets.

    A teacher takes ten times as long per picture as the network. So pictures, a byte per pixel, and
    answers are stored and shown again ``rounds`` epochs later, in another order (Choi et al.
    2019, "Faster Neural Network Training with Data Echoing").
    """

    def __init__(self, fresh: Fresh, teachers: list[nn.Module], *, by: Distillation) -> None:
        """Ask the teachers about fresh examples."""
        self.fresh, self.teachers, self.by = fresh, teachers, by
        self.steps = fresh.steps
        self.rng = torch.Generator(fresh.rng.device)
        self.filled = set[int]()
        self.images = self.targets = torch.empty(0)  # (rounds, n, …) after the first round

    def rows(self, number: int) -> Iterator[Tensor]:
        """Return the rows of each batch of an epoch; epochs are numbered from 1."""
        slot = (number - 1) % self.by.rounds
        if slot not in self.filled:
            self._ask(slot)
        n = self.images.shape[1]
        order = _shuffled(self.images[slot], self.rng, seed=self.fresh.seed, number=number)
        return iter(torch.split(order + slot * n, math.ceil(n / self.steps)))

    def batch(self, rows: Tensor) -> Examples:
        """Return the batch of these rows."""
        images, targets = self.images.flatten(0, 1)[rows], self.targets.flatten(0, 1)[rows]
        return Examples(images.float() / 255, targets)

    def _ask(self, slot: int) -> None:
        """Fill a slot, numbered from 0, with images in 0…255 and the teachers' answers."""
        parts = []
        for rows in self.fresh.rows(slot + 1):
            (images, targets), digits = self.fresh.batch_of_both(rows)
            pixels = (images * 255).round().to(torch.uint8)
            digit_images = pixels[:digits].float() / 255
            softened = answer(self.teachers, digit_images, temperature=self.by.temperature)
            weights = targets[:digits].sum(1, keepdim=True)
            parts.append((pixels, torch.cat([weights * softened, targets[digits:]])))
        images, targets = (torch.cat(part) for part in zip(*parts, strict=True))
        if not self.filled:
            self.images = images.new_empty(self.by.rounds, *images.shape)
            self.targets = targets.new_empty(self.by.rounds, *targets.shape)
        self.images[slot], self.targets[slot] = images, targets
        self.filled.add(slot)


def _shuffled(of: Tensor, rng: torch.Generator, *, seed: int, number: int) -> Tensor:
    """Start the random stream of an epoch, and draw the order of its rows from it."""
    rng.manual_seed(seed * 1_000_003 + number)
    return torch.randperm(len(of), generator=rng, device=of.device)
