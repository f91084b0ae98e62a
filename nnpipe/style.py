"""The style of a hand: how its digits are turned, slanted, widened and heightened.

A few pictures tell little about shapes, but enough about these four numbers: those under which a
network reads the pictures best when the change is undone. Other digits can then be written in that
style, as many as one likes.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.datasets import Digits
from nnpipe.network import Network, softmax
from nnpipe.preprocess import SIDE, Pixels, as_inputs

Floats = npt.NDArray[np.floating[Any]]

Four = npt.NDArray[np.float64]
"""Angle in degrees, slant (shift per height), and the logarithms of width and height."""

USUAL = np.array([15, 0.3, 0.2, 0.2])
"""Standard deviation of the styles of hands, assumed: the fewer pictures, the nearer to none."""

FIRST = np.array([8, 0.15, 0.1, 0.1])
"""First steps of the search; they are halved when none leads further."""

HALVINGS = 5

TEMPERATURE = 5.0
"""Divides the logits. A network is too sure of what it reads right to tell how well it does."""

LEAST = 1e-3
"""Added to probabilities: a wrong label must not decide."""

SPREAD = np.array([4, 0.07, 0.05, 0.05])
"""Standard deviation of the digits of a hand."""

SHIFT = 1.0
"""Largest shift of a digit, in pixels."""


@dataclass(frozen=True, eq=False)
class Style:
    """How the digits of a hand differ from MNIST's."""

    values: Four

    @classmethod
    def of(cls, digits: Digits, *, network: Network) -> Self:
        """Return the most probable style of labelled pictures (maximum a posteriori).

        The four numbers are searched one after the other (coordinate ascent).
        """
        at = np.zeros(4)
        best, step = _fit(at, digits, network=network), FIRST.copy()
        for _ in range(HALVINGS):
            for number, sign in itertools.product(range(4), (1, -1)):
                change = sign * step * (np.arange(4) == number)
                while (value := _fit(at + change, digits, network=network)) > best:
                    at, best = at + change, value
            step /= 2
        return cls(at)

    def write(self, images: Pixels, rng: np.random.Generator) -> Pixels:
        """Write digits, (n, 28, 28), in this style, some of them more so, some less."""
        written = np.empty_like(images)
        for number, image in enumerate(images):
            values = self.values * rng.uniform(0.5, 1.5) + rng.normal(0, 1, 4) * SPREAD
            shift = rng.uniform(-SHIFT, SHIFT, 2)
            written[number] = _warp(image, np.linalg.inv(_matrix(values)), shift=shift)
        return written


def _fit(values: Four, digits: Digits, *, network: Network) -> float:
    """Return the log probability of the labels, and of the style itself, for each picture."""
    matrix = _matrix(values)
    pixels = np.array([_warp(image, matrix) for image in digits.images])
    shares = softmax(network.logits(as_inputs(pixels)) / np.float32(TEMPERATURE))
    rows = np.arange(len(digits.labels))
    prior = ((values / USUAL) ** 2).sum() / 2
    return float(np.log(shares[rows, digits.labels] + LEAST).mean() - prior / len(rows))


def _matrix(values: Four) -> Floats:
    """Return the matrix that maps a point of the changed picture to one of the picture."""
    angle, slant, width, height = values
    turn = cv2.getRotationMatrix2D((0, 0), angle, 1)[:, :2]
    return np.asarray(turn @ np.array([[1, slant], [0, 1]]) @ np.diag(np.exp([width, height])))


def _warp(image: Pixels, matrix: Floats, *, shift: npt.ArrayLike = (0.0, 0.0)) -> Pixels:
    middle = np.full(2, (SIDE - 1) / 2)
    whole = np.column_stack([matrix, middle - matrix @ middle + shift]).astype(np.float32)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, whole, (SIDE, SIDE), flags=how), np.uint8)
