"""Adapting a trained network to pictures of one's own, without forgetting what it can read.

A network that only sees new pictures forgets the others (McCloskey & Cohen 1989, "Catastrophic
Interference in Connectionist Networks"). So each batch *replays* other digits, with the answers
that the network itself gave to them before (Li & Hoiem 2016, "Learning without Forgetting"). Others
are written in the `style` of the new ones. The result lies between the old weights and the new ones
(Wortsman et al. 2022, "Robust Fine-Tuning of Zero-Shot Models"): as near to the new ones as the
validation digits allow.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.datasets import Digits
from nnpipe.datasets.redrawn import redraw
from nnpipe.epochs import Epoch, OnEpoch, check_loss
from nnpipe.network import Array, Layer, Network, softmax
from nnpipe.preprocess import SIDE, Pixels, as_inputs
from nnpipe.style import Style
from nnpipe.training import Examples, copy, loss_and_accuracy, step

STEPS = 20
"""Steps of the way from the old weights to the new ones."""

MAY_RISE = 1.05
"""How much the loss on the validation digits may rise. It tells more than the accuracy, which
changes by a few digits at random. At a rise of 5 %, the accuracy on MNIST's test digits falls by
0.04 points on average; see ``benchmarks/own_pictures.py``."""

WRITTEN = 6000
"""Training digits that are written in the style of the own pictures."""

REDRAWN = 6000
"""Training digits that are redrawn as people present them, for the replay."""

AS_OFTEN = 4
"""How often each of those counts, beside the training digits as they are."""

ROTATION, SHEAR, SCALE, SHIFT = 9.0, 0.15, 0.1, 1.0
"""Largest distortions of an own picture: degrees, shift per height, share, pixels."""


@dataclass(frozen=True)
class Settings:
    """Settings of an adaptation."""

    epochs: int = 10
    steps: int = 120  # of each epoch
    replayed: int = 352  # pictures of a batch that are replayed
    written: int = 96  # those that are written in the style of one's own
    own: int = 64  # one's own
    lr: float = 0.015  # at the start; it falls to 0 along a cosine (Loshchilov & Hutter 2017)
    momentum: float = 0.9


class Replay(NamedTuple):
    """Training digits, and what a network answered before it was adapted."""

    digits: Digits
    X: Array  # (n, 784) float32 in [0, 1]: these, and some of them redrawn
    cumulated: Array  # (n, 10): sums of the probabilities of the digits up to each one

    @classmethod
    def of(cls, network: Network, digits: Digits, *, seed: int) -> "Replay":
        """Return training digits, some of them redrawn, with scribbles, and a network's answers."""
        rng = np.random.default_rng(seed)
        some = digits.images[rng.permutation(len(digits.images))[:REDRAWN]]
        again = redraw(some, rng)
        pixels = [digits.images, *[again.digits] * AS_OFTEN, again.strangers]
        X = as_inputs(np.concatenate(pixels))
        parts = [softmax(network.logits(part)) for part in np.array_split(X, len(X) // 5000 + 1)]
        return cls(digits, X, np.concatenate(parts).cumsum(axis=1))

    def draw(self, count: int, rng: np.random.Generator) -> Examples:
        """Draw pictures, and for each a label with the probability that the network gave it.

        On average, the gradient is that of the cross-entropy with all ten probabilities.
        """
        rows = rng.integers(0, len(self.X), count)
        labels = (self.cumulated[rows] < rng.random((count, 1))).sum(axis=1)
        return self.X[rows], np.minimum(labels, 9)


def adapt(
    network: Network,
    own: Digits,
    *,
    replay: Replay,
    validation: Examples,
    settings: Settings | None = None,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, list[Epoch]]:
    """Adapt a network to pictures; return the new one and all epochs.

    Args:
        network: not changed.
        own: what to learn; each time a picture is seen it is distorted a little.
        replay: what not to forget.
        validation: what to measure forgetting on.
        settings: see `Settings`.
        seed: of the batches and the distortions.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: the loss is no longer a finite number.
    """
    settings = settings or Settings()
    rng = np.random.default_rng(seed)
    new = copy(network)
    written = write_alike(own, replay.digits, network=network, rng=rng)
    velocity = [Layer(np.zeros_like(W), np.zeros_like(b)) for W, b in new.layers]
    history = list[Epoch]()
    total = settings.epochs * settings.steps
    for number in range(1, settings.epochs + 1):
        start, loss = time.perf_counter(), 0.0
        for done in range((number - 1) * settings.steps, number * settings.steps):
            X, y = replay.draw(settings.replayed, rng)
            new_ones = rng.integers(0, len(own.labels), settings.own)
            alike = rng.integers(0, len(written.labels), settings.written)
            pixels = [distort(own.images[new_ones], rng), written.images[alike]]
            X = np.concatenate([X, as_inputs(np.concatenate(pixels))])
            y = np.concatenate([y, own.labels[new_ones], written.labels[alike]])
            loss, gradients = new.gradients(X, y)
            check_loss(loss, epoch=number, lr=settings.lr)
            lr = settings.lr * (1 + np.cos(np.pi * done / total)) / 2
            step(new, gradients, velocity=velocity, lr=lr, momentum=settings.momentum)
        validation_loss, accuracy = loss_and_accuracy(new, validation)
        seconds = time.perf_counter() - start
        history.append(Epoch(number, settings.epochs, loss, validation_loss, accuracy, seconds))
        if on_epoch:
            on_epoch(history[-1])
    return between(network, new, validation=validation), history


def write_alike(
    own: Digits, digits: Digits, *, network: Network, rng: np.random.Generator
) -> Digits:
    """Return some digits as the hand of one's own pictures would write them."""
    rows = rng.permutation(len(digits.labels))[:WRITTEN]
    style = Style.of(own, network=network)
    return Digits(style.write(digits.images[rows], rng), digits.labels[rows])


def between(old: Network, new: Network, *, validation: Examples) -> Network:
    """Return the network nearest to the new one whose loss is hardly higher than the old one's.

    Args:
        old: before it was adapted.
        new: after it was adapted.
        validation: what the loss is measured on; see `MAY_RISE`.
    """
    allowed = loss_and_accuracy(old, validation)[0] * MAY_RISE
    for share in np.arange(STEPS, 0, -1) / STEPS:
        mixed = Network(
            tuple(
                Layer(*(a + (b - a) * a.dtype.type(share) for a, b in zip(one, other, strict=True)))
                for one, other in zip(old.layers, new.layers, strict=True)
            )
        )
        if loss_and_accuracy(mixed, validation)[0] <= allowed:
            return mixed
    return old


def distort(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Turn, slant, scale and shift pictures, (n, 28, 28), a little, each in another way."""
    distorted = np.empty_like(pixels)
    middle = np.full(2, (SIDE - 1) / 2)
    for number, picture in enumerate(pixels):
        angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        slant = np.array([[1, rng.uniform(-SHEAR, SHEAR)], [0, 1]])
        matrix = turn @ slant @ np.diag(1 + rng.uniform(-SCALE, SCALE, 2))
        offset = middle - matrix @ middle + rng.uniform(-SHIFT, SHIFT, 2)
        whole = np.column_stack([matrix, offset]).astype(np.float32)
        distorted[number] = cv2.warpAffine(picture, whole, (SIDE, SIDE))
    return distorted
