"""Accuracy on pictures that are shifted, rotated, blurred or changed otherwise.

The changes are made to the 28×28 pixels that the network sees, after preprocessing. Preprocessing
undoes shifts, scales and faint ink in the pictures of users.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from nnpipe.evaluation.classes import CLASSES
from nnpipe.evaluation.statistics import Estimate, wilson
from nnpipe.network import Array, Layer, Network

SIDE = 28
MOST = 10_000
"""Pictures that are changed, at most; they are taken evenly from all."""

BLOCK = 256
"""Pictures that are changed together; they fit into the processor's cache."""


class Logits(Protocol):
    """A function that changes pictures and reads them."""

    def __call__(self, network: Network, X: Array, *, strength: float) -> Array:
        """Return the logits of changed pictures; X has shape (n, 784)."""


class Change(NamedTuple):
    """A kind of change."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    unchanged: float  # the strength that changes nothing
    logits: Logits


@dataclass(frozen=True)
class Series:
    """Accuracy under one kind of change, by its strength."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    unchanged: float
    n: int  # pictures
    accuracy: tuple[Estimate, ...]  # one for each strength
    classes: tuple[tuple[float | None, ...], ...]  # of the ten digits; None: no such picture


def measure(network: Network, X: Array, *, labels: Array) -> tuple[Series, ...]:
    """Measure accuracy under every change in `CHANGES`.

    Args:
        network: with 784 inputs.
        X: inputs, shape (n, 784), in [0, 1].
        labels: shape (n,), integers in 0…9.
    """
    if len(X) > MOST:
        chosen = np.linspace(0, len(X) - 1, MOST).round().astype(int)
        X, labels = X[chosen], labels[chosen]
    return tuple(_measure(change, network, X=X, labels=labels) for change in CHANGES)


def _measure(change: Change, network: Network, *, X: Array, labels: Array) -> Series:
    name, unit, strengths, unchanged, logits = change
    support = np.bincount(labels, minlength=CLASSES)
    accuracy, classes = [], []
    for strength in strengths:
        right = logits(network, X, strength=strength).argmax(axis=1) == labels
        accuracy.append(wilson(int(right.sum()), len(X)))
        hits = np.bincount(labels, right, CLASSES)
        classes.append([float(h / n) if n else None for h, n in zip(hits, support, strict=True)])
    by_digit = tuple(zip(*classes, strict=True))
    return Series(name, unit, strengths, unchanged, len(X), tuple(accuracy), by_digit)


def through(network: Network, M: Array) -> Network:
    """Return the network that does with X what ``network`` does with X M; M is (784, 784).

    Rotation, scaling, shifts and blur are linear: each new pixel is a weighted sum of old ones. As
    (X M) W = X (M W), the first weights are changed instead of ten thousand pictures.
    """
    first, *others = network.layers
    return Network((Layer((M @ first.W).astype(first.W.dtype), first.b), *others))


def warp(A: Array, offset: npt.ArrayLike = (0, 0)) -> Array:
    """Return the matrix of a linear map about the middle, with bilinear interpolation.

    Args:
        A: shape (2, 2); the pixel at p, (down, across) from the middle, comes from A p + offset.
        offset: (down, across) in pixels.

    Returns:
        Shape (784, 784), float32. Pixels from outside the picture are 0.
    """
    middle = (SIDE - 1) / 2
    targets = np.indices((SIDE, SIDE)).reshape(2, -1)
    sources = A @ (targets - middle) + middle + np.reshape(offset, (2, 1))
    corner = np.floor(sources).astype(int)
    M = np.zeros((SIDE * SIDE, SIDE * SIDE), np.float32)
    for step in np.indices((2, 2)).reshape(2, 4).T[:, :, np.newaxis]:
        at = corner + step
        weight = (1 - np.abs(sources - at)).prod(axis=0)
        inside = ((at >= 0) & (at < SIDE)).all(axis=0)
        M[(at[0] * SIDE + at[1])[inside], np.flatnonzero(inside)] += weight[inside]
    return M


def _linear(matrix: Callable[[float], Array]) -> Logits:
    """Make a linear change of a function from a strength to a matrix; see `through`."""

    def logits(network: Network, X: Array, *, strength: float) -> Array:
        return through(network, matrix(strength)).logits(X)

    return logits


@_linear
def _rotate(degrees: float) -> Array:
    angle = np.deg2rad(degrees)
    # The first axis points down, so this turns clockwise.
    return warp(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


@_linear
def _scale(factor: float) -> Array:
    return warp(np.eye(2) / factor)


@_linear
def _fade(factor: float) -> Array:
    return factor * np.eye(SIDE * SIDE, dtype=np.float32)


@_linear
def _blur(sigma: float) -> Array:
    if not sigma:
        return np.eye(SIDE * SIDE)
    at = np.arange(SIDE)
    bell = np.exp(-((at[:, np.newaxis] - at) ** 2) / (2 * sigma**2))
    # Scaled by the sum far from the border; near it, ink is lost to the outside.
    bell /= bell[SIDE // 2].sum()
    return np.kron(bell, bell)


def _shift(network: Network, X: Array, *, strength: float) -> Array:
    """Shift every fourth picture up, down, left and right, by a number of pixels."""
    logits = np.empty((len(X), CLASSES), np.float32)
    for first, way in enumerate(np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])[: len(X)]):
        shifted = through(network, warp(np.eye(2), strength * way))
        logits[first::4] = shifted.logits(X[first::4])
    return logits


def _in_blocks(network: Network, X: Array, *, change: Callable[[slice], Array]) -> Array:
    """Change pictures and return their logits, one block at a time."""
    blocks = [slice(first, first + BLOCK) for first in range(0, len(X), BLOCK)]
    return np.concatenate([network.logits(change(block)) for block in blocks])


def _thicken(network: Network, X: Array, *, strength: float) -> Array:
    """Grow or shrink strokes by pixels on each side; a half is the mean of both pictures."""
    spread = np.maximum if strength > 0 else np.minimum

    def thicken(block: slice) -> Array:
        pictures = X[block].reshape(-1, SIDE, SIDE)
        left = abs(strength)
        while left > 0:
            wider = pictures.copy()
            spread(wider[:, 1:], pictures[:, :-1], out=wider[:, 1:])
            spread(wider[:, :-1], pictures[:, 1:], out=wider[:, :-1])
            spread(wider[:, :, 1:], pictures[:, :, :-1], out=wider[:, :, 1:])
            spread(wider[:, :, :-1], pictures[:, :, 1:], out=wider[:, :, :-1])
            pictures = pictures + np.float32(min(left, 1)) * (wider - pictures)
            left -= 1
        return pictures.reshape(-1, SIDE * SIDE)

    return _in_blocks(network, X, change=thicken)


def _noise(network: Network, X: Array, *, strength: float) -> Array:
    """Add noise; all blocks share it, as drawing random numbers takes longest."""
    noise = np.random.default_rng(0).standard_normal((BLOCK, SIDE * SIDE), np.float32)
    noise *= np.float32(strength)
    return _in_blocks(network, X, change=lambda b: np.clip(X[b] + noise[: len(X[b])], 0, 1))


def _cover(network: Network, X: Array, *, strength: float) -> Array:
    """Cover a random square of the inner 20×20 pixels, where the digit is."""
    inner, size = 20, int(strength)
    corners = np.random.default_rng(0).random((2, len(X), 1))
    top, left = (corners * (inner - size + 1)).astype(int) + (SIDE - inner) // 2
    at = np.arange(SIDE)
    rows = (at >= top) & (at < top + size)  # (n, 28)
    columns = (at >= left) & (at < left + size)

    def cover(block: slice) -> Array:
        square = rows[block, :, np.newaxis] & columns[block, np.newaxis]
        return np.where(square.reshape(-1, SIDE * SIDE), np.float32(0), X[block])

    return _in_blocks(network, X, change=cover)


CHANGES = (
    Change("shift", "pixels, a quarter of the pictures each way", (0, 1, 2, 3, 4, 6), 0, _shift),
    Change("rotation", "degrees clockwise", (-45, -30, -15, 0, 15, 30, 45), 0, _rotate),
    Change("scale", "times the size", (0.5, 0.7, 0.85, 1, 1.15, 1.3, 1.4), 1, _scale),
    Change("stroke", "pixels thicker on each side", (-1, -0.5, 0, 0.5, 1, 1.5, 2), 0, _thicken),
    Change("blur", "standard deviation in pixels", (0, 0.5, 1, 1.5, 2, 3), 0, _blur),
    Change("noise", "standard deviation; full ink is 1", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 0, _noise),
    Change("contrast", "of the ink's strength", (0.1, 0.2, 0.4, 0.6, 0.8, 1), 1, _fade),
    Change("occlusion", "pixels, the side of a square", (0, 4, 6, 8, 10, 12), 0, _cover),
)
