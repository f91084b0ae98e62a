"""What a network is trained on besides the data set: digits as other countries write them and as
`preprocess` draws them, and what is no digit.

A network that has seen digits alone is sure of everything. Trained to spread its probabilities
evenly over whatever is no digit, it knows what it does not know (Hendrycks, Mazeika & Dietterich
2019, "Deep Anomaly Detection with Outlier Exposure", section 3).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpipe.datasets import Digits, drawn, redrawn, strangers
from nnpipe.preprocess import SIDE, Pixels, as_inputs
from nnpipe.torch_training.recipes import Mixture

ABROAD = 60_000
REDRAWN = 40_000
STRANGERS = 24_000  # of letters, and as many scribbles


class Pool(NamedTuple):
    """Digits to pick from."""

    images: Tensor  # (n, 1, 28, 28) float32 in [0, 1]
    labels: Tensor  # (n,) int64


class Pools(NamedTuple):
    """All there is to pick from."""

    abroad: Pool
    redrawn: Pool
    strangers: Tensor  # images like a pool's


def draw_pools(digits: Digits, seed: int, device: torch.device) -> Pools:
    """Draw the pools, one of them from training digits; the same seed gives the same pictures."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ABROAD) % 10
    nothing = np.zeros(STRANGERS, np.int64)
    some = rng.permutation(len(digits.labels))[:REDRAWN]

    def tensor(pixels: Pixels) -> Tensor:
        return torch.from_numpy(as_inputs(pixels)).view(-1, 1, SIDE, SIDE).to(device)

    def pool(pixels: Pixels, labels: np.ndarray) -> Pool:
        return Pool(tensor(pixels), torch.from_numpy(labels.astype(np.int64)).to(device))

    return Pools(
        abroad=pool(drawn.draw(labels, rng, drawn.ABROAD), labels),
        redrawn=pool(redrawn.redraw_all(digits.images[some], rng), digits.labels[some]),
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
    """Add digits abroad, digits redrawn, and strangers, to a batch.

    Returns:
        Images, and the labels of the digits among them. The strangers come last and have none.
    """
    device = images.device

    def some(share: float, of: int) -> Tensor:
        count = round(share * len(images))
        return torch.randint(of, (count,), generator=rng, device=device)

    abroad = some(by.abroad, len(pools.abroad.labels))
    redrawn = some(by.redrawn, len(pools.redrawn.labels))
    digits = torch.cat([images, pools.abroad.images[abroad], pools.redrawn.images[redrawn]])
    labels = torch.cat([labels, pools.abroad.labels[abroad], pools.redrawn.labels[redrawn]])
    nothing = pools.strangers[some(by.strangers, len(pools.strangers))]
    return torch.cat([digits, nothing]), labels
