"""Training digits bent anew each time they are seen, on the device, all of a batch at once."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from nnpipe.preprocess import SIDE
from nnpipe.torch_training.recipes import Distortions


def distort(images: Tensor, by: Distortions, rng: torch.Generator) -> Tensor:
    """Bend every picture in its own way.

    A picture is bent by saying, for each pixel of the new one, where in the old one to look. That
    place is a weighted sum of fixed fields: x, y and 1 for the affine part, and smooth bumps for
    the elastic one. So all places of all pictures come from one matrix product.

    Args:
        images: shape (n, 1, 28, 28), background 0.
        by: how far.
        rng: a generator on the images' device.

    Returns:
        New pictures of the same shape; what comes in from outside is background.
    """
    n, device = len(images), images.device
    images = press(images, by.pen, rng)

    def evenly(amount: float) -> Tensor:
        return (torch.rand(n, generator=rng, device=device) * 2 - 1) * amount

    # Places run from −1 to 1 across the picture, so a pixel is this wide.
    pixel = 2 / SIDE
    angle, shear = evenly(math.radians(by.rotation)), evenly(by.shear)
    across, down = 1 + evenly(by.scale), 1 + evenly(by.scale)
    cos, sin = angle.cos(), angle.sin()
    x = torch.stack([cos * across, (shear * cos - sin) * across, evenly(by.shift * pixel)], 1)
    y = torch.stack([sin * down, (shear * sin + cos) * down, evenly(by.shift * pixel)], 1)
    affine = torch.stack([x, y], 1)
    elastic = torch.randn(n, 2, by.elastic_grid**2, generator=rng, device=device)
    amounts = torch.cat([affine, elastic * (by.elastic * pixel)], 2)
    places = (amounts @ _fields(by.elastic_grid, device)).view(n, 2, SIDE, SIDE)
    return functional.grid_sample(images, places.permute(0, 2, 3, 1), align_corners=False)


def press(images: Tensor, amount: float, rng: torch.Generator) -> Tensor:
    """Write every digit with another pen: each pixel goes some way to its brightest neighbour,
    or half as far to its darkest.
    """
    share = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device) * 2 - 1
    share = share * amount
    thicker = _extreme(images, torch.maximum) - images
    thinner = images - _extreme(images, torch.minimum)
    return images + torch.where(share > 0, share * thicker, 0.5 * share * thinner)


def _extreme(images: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Minimum or maximum over 3 × 3 pixels; much faster on the CPU than pooling."""
    padded = functional.pad(images, (1, 1, 1, 1))
    rows = extreme(extreme(padded[:, :, :-2], padded[:, :, 2:]), padded[:, :, 1:-1])
    return extreme(extreme(rows[..., :-2], rows[..., 2:]), rows[..., 1:-1])


@cache
def _fields(points: int, device: torch.device) -> Tensor:
    """The fields x, y and 1, and ``points²`` smooth bumps, as rows of shape (784,).

    Each bump is a Gaussian as wide as the distance to the next. Together they have norm 1 at every
    pixel, so that independent noise of variance 1 gives displacements of variance 1 everywhere.
    """
    middle = (torch.arange(SIDE, device=device) + 0.5) * (2 / SIDE) - 1
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    position = torch.linspace(0, points - 1, SIDE, device=device)
    bumps = torch.exp(-((torch.arange(points, device=device)[:, None] - position) ** 2))
    bumps = bumps / bumps.norm(dim=0)
    elastic = (bumps[:, None, :, None] * bumps[:, None, :]).reshape(points**2, SIDE**2)
    return torch.cat([torch.stack([x, y, torch.ones_like(x)]).view(3, SIDE**2), elastic])
