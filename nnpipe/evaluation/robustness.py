"""How much a picture may change before the network misreads it.

The network alone is measured, on the 28×28 pixels it sees. Preprocessing, which undoes shifts,
scales and faint ink in people's pictures, does not come between.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnpipe.evaluation.classes import CLASSES
from nnpipe.evaluation.intervals import Estimate, wilson
from nnpipe.network import Array, Layer, Network

SIDE = 28
MOST = 10_000
"""So many pictures are changed at most, taken evenly from all."""

BLOCK = 256
"""So many pictures are changed together: they stay in the processor's cache."""


@dataclass(frozen=True)
class Series:
    """Accuracy under one kind of change, at growing strengths."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    unchanged: float  # the strength that changes nothing
    n: int  # pictures
    accuracy: tuple[Estimate, ...]  # one for each strength
    classes: tuple[tuple[float | None, ...], ...]  # ten digits' accuracies; None: no such picture


@dataclass(frozen=True)
class Change:
    """A kind of change, and how to get the logits of pictures so changed."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    unchanged: float
    logits: Callable[[Network, Array, float], Array]


def measure(network: Network, X: Array, labels: Array) -> tuple[Series, ...]:
    """Measure every kind of change in `CHANGES`.

    Args:
        network: with 784 inputs.
        X: inputs, shape (n, 784), in [0, 1].
        labels: shape (n,), integers in 0…9.
    """
    if len(X) > MOST:
        chosen = np.linspace(0, len(X) - 1, MOST).round().astype(int)
        X, labels = X[chosen], labels[chosen]
    return tuple(_series(change, network, X, labels) for change in CHANGES)


def _series(change: Change, network: Network, X: Array, labels: Array) -> Series:
    support = np.bincount(labels, minlength=CLASSES)
    accuracy, classes = [], []
    for strength in change.strengths:
        right = change.logits(network, X, strength).argmax(axis=1) == labels
        accuracy.append(wilson(int(right.sum()), len(X)))
        hits = np.bincount(labels, right, CLASSES)
        classes.append([float(h / n) if n else None for h, n in zip(hits, support, strict=True)])
    return Series(
        name=change.name,
        unit=change.unit,
        strengths=change.strengths,
        unchanged=change.unchanged,
        n=len(X),
        accuracy=tuple(accuracy),
        classes=tuple(zip(*classes, strict=True)),
    )


def through(network: Network, M: Array) -> Network:
    """The network that sees every picture changed by the matrix ``M``, shape (784, 784).

    Turning, scaling, moving and blurring are linear: each new pixel is a weighted sum of old ones.
    And (X M) W = X (M W), so ten thousand pictures need not be changed at all.
    """
    first, *others = network.layers
    return Network((Layer((M @ first.W).astype(first.W.dtype), first.b), *others))


def warp(A: Array, offset: tuple[float, float] = (0.0, 0.0)) -> Array:
    """The matrix of a linear map of the plane about the middle, with bilinear interpolation.

    Args:
        A: shape (2, 2); the pixel at p, (down, across) from the middle, comes from A p + offset.
        offset: in pixels.

    Returns:
        Shape (784, 784), float32. What comes from outside of the picture is 0.
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


def _turn(network: Network, X: Array, degrees: float) -> Array:
    angle = np.deg2rad(degrees)
    # Rows point down, so this turns clockwise, as one sees it.
    A = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return through(network, warp(A)).logits(X)


def _scale(network: Network, X: Array, factor: float) -> Array:
    return through(network, warp(np.eye(2) / factor)).logits(X)


def _shift(network: Network, X: Array, pixels: float) -> Array:
    """Every fourth picture goes up, down, left and right."""
    logits = np.empty((len(X), CLASSES), np.float32)
    for first, (down, across) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)]):
        M = warp(np.eye(2), (down * pixels, across * pixels))
        if len(X) > first:
            logits[first::4] = through(network, M).logits(X[first::4])
    return logits


def _blur(network: Network, X: Array, sigma: float) -> Array:
    if not sigma:
        return network.logits(X)
    at = np.arange(SIDE)
    bell = np.exp(-((at[:, np.newaxis] - at) ** 2) / (2 * sigma**2))
    # Far from the border each column sums to the same; there, ink leaves for the outside.
    bell /= bell[SIDE // 2].sum()
    return through(network, np.kron(bell, bell)).logits(X)


def _in_blocks(network: Network, X: Array, change: Callable[[slice], Array]) -> Array:
    """Change pictures and read them, some at a time."""
    blocks = [slice(first, first + BLOCK) for first in range(0, len(X), BLOCK)]
    return np.concatenate([network.logits(change(block)) for block in blocks])


def _thicken(network: Network, X: Array, pixels: float) -> Array:
    """Grow or shrink strokes by so many pixels on each side; halves go half of the way."""
    spread = np.maximum if pixels > 0 else np.minimum

    def thick(block: slice) -> Array:
        pictures = X[block].reshape(-1, SIDE, SIDE)
        left = abs(pixels)
        while left > 0:
            wider = pictures.copy()
            spread(wider[:, 1:], pictures[:, :-1], out=wider[:, 1:])
            spread(wider[:, :-1], pictures[:, 1:], out=wider[:, :-1])
            spread(wider[:, :, 1:], pictures[:, :, :-1], out=wider[:, :, 1:])
            spread(wider[:, :, :-1], pictures[:, :, 1:], out=wider[:, :, :-1])
            pictures = pictures + np.float32(min(left, 1)) * (wider - pictures)
            left -= 1
        return pictures.reshape(-1, SIDE * SIDE)

    return _in_blocks(network, X, thick)


def _noise(network: Network, X: Array, sigma: float) -> Array:
    """Random numbers take longer than all else here, so the blocks share them."""
    noise = np.random.default_rng(0).standard_normal((BLOCK, SIDE * SIDE), np.float32)
    noise *= np.float32(sigma)
    return _in_blocks(network, X, lambda block: np.clip(X[block] + noise[: len(X[block])], 0, 1))


def _fade(network: Network, X: Array, strength: float) -> Array:
    return through(network, np.eye(SIDE * SIDE, dtype=np.float32) * np.float32(strength)).logits(X)


def _cover(network: Network, X: Array, side: float) -> Array:
    """Make a square of paper somewhere in the inner 20×20 pixels, where the digit is."""
    inner, size = 20, int(side)
    corners = np.random.default_rng(0).random((2, len(X), 1))
    top, left = (corners * (inner - size + 1)).astype(int) + (SIDE - inner) // 2
    at = np.arange(SIDE)
    rows = (at >= top) & (at < top + size)  # (n, 28)
    columns = (at >= left) & (at < left + size)

    def covered(block: slice) -> Array:
        square = rows[block, :, np.newaxis] & columns[block, np.newaxis]
        return np.where(square.reshape(-1, SIDE * SIDE), np.float32(0), X[block])

    return _in_blocks(network, X, covered)


CHANGES = (
    Change("shift", "pixels, a quarter of the pictures each way", (0, 1, 2, 3, 4, 6), 0, _shift),
    Change("rotation", "degrees clockwise", (-45, -30, -15, 0, 15, 30, 45), 0, _turn),
    Change("scale", "times the size", (0.5, 0.7, 0.85, 1, 1.15, 1.3, 1.4), 1, _scale),
    Change("stroke", "pixels thicker on each side", (-1, -0.5, 0, 0.5, 1, 1.5, 2), 0, _thicken),
    Change("blur", "standard deviation in pixels", (0, 0.5, 1, 1.5, 2, 3), 0, _blur),
    Change("noise", "standard deviation; full ink is 1", (0, 0.1, 0.2, 0.3, 0.4, 0.5), 0, _noise),
    Change("contrast", "of the ink's strength", (0.1, 0.2, 0.4, 0.6, 0.8, 1), 1, _fade),
    Change("occlusion", "pixels, the side of a square", (0, 4, 6, 8, 10, 12), 0, _cover),
)
