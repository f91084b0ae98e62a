"""Training pictures beside the data set: other countries' digits, redrawn digits, and strangers.

A network that has only seen digits is sure of everything. If it learns to give all ten digits the
same probability for pictures of anything else, it is unsure of such pictures (Hendrycks, Mazeika &
Dietterich 2019, "Deep Anomaly Detection with Outlier Exposure", section 3).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpipe.datasets import Digits, drawn, redrawn, strangers
from nnpipe.preprocess import SIDE, Pixels, as_inputs
from nnpipe.torch_training.recipes import Mixture

ABROAD, REDRAWN, STRANGERS = 60_000, 40_000, 24_000
"""Pictures of each kind: digits drawn, digits presented again, letters, and as many scribbles."""


class Pool(NamedTuple):
    """Digits to choose from."""

    images: Tensor  # (n, 1, 28, 28) float32 in [0, 1]
    labels: Tensor  # (n,) int64


class Pools(NamedTuple):
    """All pictures to choose from."""

    abroad: Pool
    redrawn: Pool
    strangers: Tensor  # images, as in a pool: scribbles, letters, and misunderstood pictures


def to_pool(digits: Digits, device: torch.device) -> Pool:
    """Copy digits to a device."""
    labels = torch.from_numpy(digits.labels.astype(np.int64))
    return Pool(_to_images(digits.images, device), labels.to(device))


def _to_images(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(as_inputs(pixels)).view(-1, 1, SIDE, SIDE).to(device)


def draw_pools(digits: Digits, *, seed: int, device: torch.device) -> Pools:
    """Draw the pools, some of them from training digits; the same seed gives the same pictures."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ABROAD) % 10
    none = np.zeros(STRANGERS, np.int64)
    some = rng.permutation(len(digits.labels))[:REDRAWN]
    abroad = Digits(drawn.draw(labels, rng, hand=drawn.ABROAD), labels)
    again = redrawn.redraw(digits.images[some], rng)
    scribbles = drawn.draw(none, rng, hand=strangers.scribbles(rng))
    letters = drawn.draw(none, rng, hand=strangers.letters())
    others = _to_images(np.concatenate([scribbles, letters, again.strangers]), device)
    shown = Digits(again.digits, digits.labels[some][again.rows])
    return Pools(to_pool(abroad, device), to_pool(shown, device), others)


def mix(
    images: Tensor, labels: Tensor, *, pools: Pools, by: Mixture, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Add pictures of all pools to a batch.

    Returns:
        Images, and the labels of the digits among them. Strangers come last and have no labels.
    """

    def choose(share: float, of: Tensor) -> Tensor:
        size = (round(share * len(images)),)
        return torch.randint(len(of), size, generator=rng, device=images.device)

    abroad = choose(by.abroad, pools.abroad.labels)
    redrawn = choose(by.redrawn, pools.redrawn.labels)
    others = pools.strangers[choose(by.strangers, pools.strangers)]
    images = torch.cat([images, pools.abroad.images[abroad], pools.redrawn.images[redrawn], others])
    return images, torch.cat([labels, pools.abroad.labels[abroad], pools.redrawn.labels[redrawn]])
