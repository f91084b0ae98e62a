"""Random distortions of training digits, on the device, a batch at a time."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from nnpipe.preprocess import SIDE
from nnpipe.torch_training.recipes import Distortions


def distort(images: Tensor, by: Distortions, *, rng: torch.Generator) -> Tensor:
    """Distort each picture at random.

    Each pixel of the new picture is looked up at some place of the old one. The place is a weighted
    sum of fixed fields: x, y and 1 for the affine part, and smooth bumps for the elastic part. So
    one matrix product gives all places of all pictures.

    Args:
        images: shape (n, 1, 28, 28), background 0.
        by: the largest distortions.
        rng: a generator on the device of the images.

    Returns:
        New pictures of the same shape; pixels from outside are background.
    """
    n, device = len(images), images.device
    images = press(images, by.pen, rng=rng)

    def uniform(amount: float) -> Tensor:
        return (torch.rand(n, generator=rng, device=device) * 2 - 1) * amount

    pixel = 2 / SIDE  # places are in [−1, 1]
    angle, shear = uniform(math.radians(by.rotation)), uniform(by.shear)
    across, down = 1 + uniform(by.scale), 1 + uniform(by.scale)
    cos, sin = angle.cos(), angle.sin()
    x = torch.stack([cos * across, (shear * cos - sin) * across, uniform(by.shift * pixel)], 1)
    y = torch.stack([sin * down, (shear * sin + cos) * down, uniform(by.shift * pixel)], 1)
    affine = torch.stack([x, y], 1)
    elastic = torch.randn(n, 2, by.elastic_grid**2, generator=rng, device=device)
    amounts = torch.cat([affine, elastic * (by.elastic * pixel)], 2)
    places = (amounts @ _fields(by.elastic_grid, device)).view(n, 2, SIDE, SIDE)
    return functional.grid_sample(images, places.permute(0, 2, 3, 1), align_corners=False)


def press(images: Tensor, amount: float, *, rng: torch.Generator) -> Tensor:
    """Change the width of the strokes at random.

    The level of each pixel moves towards that of its brightest neighbour, or half as far towards
    that of the darkest, by a share in [0, amount] that all pixels of a picture have in common.
    """
    share = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device) * 2 - 1
    share = share * amount
    thicker = _extreme(images, torch.maximum) - images
    thinner = images - _extreme(images, torch.minimum)
    return images + torch.where(share > 0, share * thicker, 0.5 * share * thinner)


def _extreme(images: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the minimum or maximum of 3 × 3 pixels; on the CPU, pooling is much slower."""
    padded = functional.pad(images, (1, 1, 1, 1))
    rows = extreme(extreme(padded[:, :, :-2], padded[:, :, 2:]), padded[:, :, 1:-1])
    return extreme(extreme(rows[..., :-2], rows[..., 2:]), rows[..., 1:-1])


@cache
def _fields(points: int, device: torch.device) -> Tensor:
    """Return the fields x, y and 1, and ``points²`` smooth bumps, as rows of shape (784,).

    Each bump is a Gaussian as wide as the distance to the next. At each pixel, all bumps together
    have norm 1, so independent noise of variance 1 gives displacements of variance 1.
    """
    middle = (torch.arange(SIDE, device=device) + 0.5) * (2 / SIDE) - 1
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    position = torch.linspace(0, points - 1, SIDE, device=device)
    bumps = torch.exp(-((torch.arange(points, device=device)[:, None] - position) ** 2))
    bumps = bumps / bumps.norm(dim=0)
    elastic = (bumps[:, None, :, None] * bumps[:, None, :]).reshape(points**2, SIDE**2)
    return torch.cat([torch.stack([x, y, torch.ones_like(x)]).view(3, SIDE**2), elastic])
