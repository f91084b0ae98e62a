"""What a network is trained on besides the data set: digits of other hands, and what is no digit.

A network that has seen digits alone is sure of everything. Trained to spread its probabilities
evenly over whatever is no digit, it knows what it does not know (Hendrycks, Mazeika & Dietterich
2019, "Deep Anomaly Detection with Outlier Exposure", section 3).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpipe.datasets import drawn, strangers
from nnpipe.preprocess import SIDE, Pixels, as_inputs
from nnpipe.torch_training.recipes import Mixture

ABROAD = 60_000
STRANGERS = 24_000  # of letters, and as many scribbles


class Pools(NamedTuple):
    """Drawn pictures to pick from, (n, 1, 28, 28) float32 in [0, 1]."""

    abroad: Tensor
    labels: Tensor  # (n,) int64, of `abroad`
    strangers: Tensor


def draw_pools(seed: int, device: torch.device) -> Pools:
    """Draw the pools; the same seed gives the same pictures."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ABROAD) % 10
    nothing = np.zeros(STRANGERS, np.int64)

    def tensor(pixels: Pixels) -> Tensor:
        return torch.from_numpy(as_inputs(pixels)).view(-1, 1, SIDE, SIDE).to(device)

    return Pools(
        abroad=tensor(drawn.draw(labels, rng, drawn.ABROAD)),
        labels=torch.from_numpy(labels).to(device),
        strangers=torch.cat(
            [
                tensor(drawn.draw(nothing, rng, strangers.scribbles(rng))),
                tensor(drawn.draw(nothing, rng, strangers.letters())),
            ]
        ),
    )


def mix(
    images: Tensor, labels: Tensor, pools: Pools, by: Mixture, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Add digits of other hands, then strangers, to a batch.

    Returns:
        Images, and the labels of the digits among them. The strangers come last and have none.
    """
    device = images.device

    def some(share: float, of: int) -> Tensor:
        count = round(share * len(images))
        return torch.randint(of, (count,), generator=rng, device=device)

    abroad = some(by.abroad, len(pools.abroad))
    digits = torch.cat([images, pools.abroad[abroad]])
    labels = torch.cat([labels, pools.labels[abroad]])
    drawn_strangers = pools.strangers[some(by.strangers / 2, len(pools.strangers))]
    first, second = (some(by.strangers / 2, len(digits)) for _ in range(2))
    spoiled = spoil(digits[first], digits[second], labels[first], labels[second], rng)
    return torch.cat([digits, drawn_strangers, spoiled]), labels


def spoil(a: Tensor, b: Tensor, a_labels: Tensor, b_labels: Tensor, rng: torch.Generator) -> Tensor:
    """Make strangers of two digits each: cut and joined, laid over each other, or turned.

    Args:
        a: shape (n, 1, 28, 28).
        b: the same.
        a_labels: shape (n,).
        b_labels: the same.
        rng: a generator on their device.

    Returns:
        Pictures of the shape of ``a``, hardly any of which shows a digit.
    """
    n, device = len(a), a.device

    def choose(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (n, 1, 1, 1), generator=rng, device=device)

    # Two halves of a 3 are a 3, so the second of a kind is laid on its side.
    same = (a_labels == b_labels).view(n, 1, 1, 1)
    b = torch.where(same, b.transpose(2, 3), b)
    cut, place = choose(11, 18), torch.arange(SIDE, device=device)
    above, left = place.view(1, 1, SIDE, 1) < cut, place.view(1, 1, 1, SIDE) < cut
    over = torch.maximum(a, b)
    turns = torch.stack([a.transpose(2, 3), a.transpose(2, 3).flip(2), a.flip(3), a.flip(2)])
    turn = choose(0, 4).view(n)
    turned = turns[turn, torch.arange(n, device=device)]
    # A mirrored 2 is nearly a 5, and 0, 1 and 8 stay what they are when they are turned.
    lying = ((a_labels == 2) | (a_labels == 5)) & (turn >= 2)
    turned = torch.where(lying.view(n, 1, 1, 1), a.transpose(2, 3), turned)
    symmetric = (a_labels == 0) | (a_labels == 1) | (a_labels == 8)
    crossed = torch.maximum(a, b.transpose(2, 3))
    turned = torch.where(symmetric.view(n, 1, 1, 1), crossed, turned)
    ways = torch.stack([torch.where(above, a, b), torch.where(left, a, b), over, turned])
    return ways[choose(0, 4).view(n), torch.arange(n, device=device)]
