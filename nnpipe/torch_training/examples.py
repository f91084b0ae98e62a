"""What a training shows its network, epoch by epoch: pictures, and the answers wanted for them."""

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
    """A batch to learn from."""

    images: Tensor  # (n, 784) float32 in [0, 1]
    targets: Tensor  # (n, 10) float32: the probabilities wanted, times the weight in the loss


def _shuffled(rows: Tensor, seed: int, number: int) -> tuple[torch.Generator, Tensor]:
    """An epoch's random stream, and the order of the rows that was drawn from it first."""
    rng = torch.Generator(rows.device).manual_seed(seed * 1_000_003 + number)
    return rng, torch.randperm(len(rows), generator=rng, device=rows.device)


class Fresh:
    """The training digits in random order, each once an epoch, mixed and bent anew each time."""

    def __init__(self, digits: Pool, pools: Pools | None, recipe: Recipe, seed: int) -> None:
        """Take ``digits`` and ``pools``, on the device, as ``recipe`` says."""
        self.digits, self.pools, self.recipe, self.seed = digits, pools, recipe, seed
        self.steps = math.ceil(len(digits.labels) / recipe.batch_size)

    def batches(self, number: int) -> Iterator[Examples]:
        """The batches of an epoch, which is counted from 1 and has a random stream of its own."""
        return (examples for examples, _ in self.batches_of_both(number))

    def batches_of_both(self, number: int) -> Iterator[tuple[Examples, int]]:
        """Batches, each with the number of its digits; what comes after them is none."""
        images, labels = self.digits
        rng, order = _shuffled(labels, self.seed, number)
        for batch in torch.split(order, self.recipe.batch_size):
            x, y = images[batch], labels[batch]
            if self.recipe.mixture and self.pools:
                x, y = mix(x, y, self.pools, self.recipe.mixture, rng)
            if self.recipe.distortions:
                x = distort(x, self.recipe.distortions, rng)
            yield Examples(x.flatten(1), self._targets(y, len(x))), len(y)

    def _targets(self, labels: Tensor, n: int) -> Tensor:
        """One-hot for digits, even for strangers; weighted so that the mean over the batch is the
        mean over its digits plus the mean over its strangers times their weight.
        """
        targets = functional.one_hot(labels, 10).float()
        strangers = n - len(labels)
        if not (strangers and self.recipe.mixture):
            return targets
        share = self.recipe.mixture.weight / strangers / 10
        return torch.cat([targets / len(labels), targets.new_full((strangers, 10), share)]) * n


class Answered:
    """Examples with the teachers' answers instead of labels.

    A teacher takes ten times as long for a picture as the network that learns from it. So pictures
    and answers are kept, a byte for a pixel, and shown again ``rounds`` epochs later, in another
    order (Choi et al. 2019, "Faster Neural Network Training with Data Echoing").
    """

    def __init__(self, fresh: Fresh, teachers: list[nn.Module], by: Distillation) -> None:
        """Ask ``teachers`` about what is ``fresh``."""
        self.fresh, self.teachers, self.by = fresh, teachers, by
        self.steps = fresh.steps
        self.rounds: dict[int, Examples] = {}

    def batches(self, number: int) -> Iterator[Examples]:
        """The batches of an epoch, which is counted from 1."""
        chosen = (number - 1) % self.by.rounds + 1
        if chosen not in self.rounds:
            self.rounds[chosen] = self._ask(chosen)
        images, targets = self.rounds[chosen]
        _, order = _shuffled(images, self.fresh.seed, number)
        for batch in torch.split(order, math.ceil(len(images) / self.steps)):
            yield Examples(images[batch].float() / 255, targets[batch])

    def _ask(self, number: int) -> Examples:
        """A round of all digits, images in [0, 255] as uint8, with answers."""
        parts = []
        for (images, targets), digits in self.fresh.batches_of_both(number):
            pixels = (images * 255).round().to(torch.uint8)
            softened = answer(self.teachers, pixels[:digits].float() / 255, self.by.temperature)
            # Nobody knows what a stranger is.
            weights = targets[:digits].sum(1, keepdim=True)
            parts.append((pixels, torch.cat([weights * softened, targets[digits:]])))
        images, targets = (torch.cat(part) for part in zip(*parts, strict=True))
        return Examples(images, targets)
