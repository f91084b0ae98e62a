"""Drawn digits: handwriting that nnpipe generates, in MNIST's format.

Each digit has several *forms*, the ways people write it. A form is one or more pen strokes, each a
few control points in ``forms.json``. A *writer* chooses a form, moves its control points, bends,
slants and stretches it, and draws it with a pen of random width. The code is vectorised over
writers. The labels and the generator determine everything: the same seed gives the same bytes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int64]

FORMS = json.loads(Path(__file__).with_name("forms.json").read_text(encoding="utf-8"))
"""Weight and strokes of each form of a digit. Coordinates are per cent of the digit's height, x to
the right and y down. "|" lifts the pen, "!" marks a sharp corner, and a smooth spline joins the
points. Weights are relative to the other forms of the digit. "american" has the forms of MNIST's
writers. "elsewhere" has forms that are rare there: a 1 with a long flag, a crossed 7, an open 4, a
hooked 9, a slashed 0."""

POINTS = 80
"""Points along a digit, at most about a pixel apart on the picture."""

BATCH = 512
"""Writers drawn at a time, which limits the memory and keeps the pixels in the cache."""

BOX, FIELD = 20, 28
"""MNIST's pixels a side: of the box that the ink fits into, and of the picture, centred by mass."""


class Hand(NamedTuple):
    """The forms of all labels as arrays, padded to the same number K of control points."""

    stretch: float  # standard deviation of the logarithm of a writer's width / height
    chance: Array  # (L, F) cumulative share of each form of a label
    controls: Array  # (F, K, 2) control points, in heights of the digit
    inward: Ints  # (F, K) the neighbour of each end of a stroke, and each other point itself
    stroke: Ints  # (F, K) stroke of each control point
    spline: Array  # (F, POINTS, K) maps control points to evenly spaced points
    hurried: Array  # (F, POINTS, K) the same with rounded corners
    lifted: NDArray[np.bool_]  # (F, POINTS) whether the pen is lifted before this point


def _spline(corner: list[bool], steps: int = 40) -> Array:
    """Return the Catmull-Rom weights, ((knots - 1) * steps, K), of a stroke with K points."""
    count = len(corner)
    knots = [k for k in range(count) for _ in range(1 + corner[k])]  # a corner is a double knot
    eye = np.eye(count)
    ends = 2 * eye[[0, -1]] - eye[[1, -2]]
    p = np.concatenate([ends[:1], eye[knots], ends[1:]])
    t = np.linspace(0, 1, steps)[:, None] ** np.arange(4)
    cubic = t @ [[0, 1, 0, 0], [-0.5, 0, 0.5, 0], [1, -2.5, 2, -0.5], [-0.5, 1.5, -1.5, 0.5]]
    return np.concatenate([cubic @ p[i : i + 4] for i in range(len(p) - 3)]).astype(np.float32)


def compile_forms(forms: Sequence[Iterable[tuple[float, str]]], *, stretch: float = 0.18) -> Hand:
    """Turn the forms of labels 0, 1, … into arrays."""
    drawn = [(label, weight, text) for label, some in enumerate(forms) for weight, text in some]
    count = len(drawn)
    width = max(len(text.replace("|", "").split()) for _, _, text in drawn)
    share = np.zeros((len(forms), count), np.float32)
    controls = np.zeros((count, width, 2), np.float32)
    inward = np.tile(np.arange(width), (count, 1))
    stroke = np.zeros((count, width), np.int64)
    spline = np.zeros((count, POINTS, width), np.float32)
    hurried = np.zeros_like(spline)
    lifted = np.zeros((count, POINTS), np.bool_)
    i = np.arange(POINTS)
    nearby = np.exp(-(((i[:, None] - i) / 4.0) ** 2))
    for f, (label, weight, text) in enumerate(drawn):
        share[label, f] = weight
        dense, owner, k = [], [], 0
        for s, part in enumerate(text.split("|")):
            marks = part.split()
            xy = [[float(v) / 100 for v in mark.rstrip("!").split(",")] for mark in marks]
            here = slice(k, k + len(marks))
            controls[f, here] = xy
            stroke[f, here] = s
            inward[f, k], inward[f, here.stop - 1] = k + 1, here.stop - 2
            rows = _spline([mark.endswith("!") for mark in marks])
            dense.append(np.pad(rows, ((0, 0), (k, width - here.stop))))
            owner += [s] * len(rows)
            k = here.stop
        table, owners = np.concatenate(dense), np.array(owner)
        step = np.hypot(*np.diff(table @ controls[f], axis=0).T) * (np.diff(owners) == 0)
        along = np.concatenate([[0.0], np.cumsum(step)])
        pick = np.searchsorted(along, np.linspace(0, along[-1] * 0.9999, POINTS))
        spline[f] = table[pick]
        lifted[f, 1:] = np.diff(owners[pick]) > 0
        blur = nearby * (owners[pick][:, None] == owners[pick])
        hurried[f] = (blur / blur.sum(1, keepdims=True)) @ spline[f]
    total = np.cumsum(share, axis=1)  # divided by its last column, so that it ends at exactly 1
    return Hand(stretch, total / total[:, -1:], controls, inward, stroke, spline, hurried, lifted)


AMERICAN = compile_forms(list(FORMS["american"].values()))
ABROAD = compile_forms(list((FORMS["american"] | FORMS["elsewhere"]).values()), stretch=0.3)


def _spread(rng: np.random.Generator, n: int) -> Callable[..., Array]:
    """Return ``normal(scale, *shape)``: normal random numbers of mean 0, shape (n, *shape)."""

    def normal(scale: float, *shape: int) -> Array:
        return scale * rng.standard_normal((n, *shape), dtype=np.float32)

    return normal


def _skeletons(labels: Ints, rng: np.random.Generator, *, hand: Hand) -> tuple[Ints, Array]:
    """Return the form (n,) and the path of the pen (n, POINTS, 2) of one writer per label."""
    normal, n = _spread(rng, len(labels)), len(labels)
    form = (rng.random(n)[:, None] >= hand.chance[labels]).sum(1)
    p = hand.controls[form]
    k = p.shape[1]
    # Strokes start and end early or late, are shifted, and miss their control points.
    p = p + normal(0.15, k, 1) * (p - np.take_along_axis(p, hand.inward[form][..., None], 1))
    p = p + np.take_along_axis(normal(0.03, k, 2), hand.stroke[form][..., None], 1)
    p = p + normal(0.045, k, 2)
    # Writers in a hurry round the corners.
    hurry = rng.random((n, 1, 1), dtype=np.float32)
    crisp = hand.spline[form]
    path = (crisp + hurry * (hand.hurried[form] - crisp)) @ p
    # Smooth waves across the digit bend it.
    path = path - 0.5 * (path.min(1, keepdims=True) + path.max(1, keepdims=True))
    for _ in range(3):
        phase = path @ normal(3.0, 2, 1) + 2 * np.pi * rng.random((n, 1, 1), dtype=np.float32)
        path = path + np.sin(phase) * normal(0.04, 1, 2)
    # Width, slant to the right, rotation.
    path = path * np.exp(normal(hand.stretch, 1, 2))
    turn, slant = normal(0.1), 0.12 + normal(0.22)
    x, y = path[..., 0], path[..., 1]
    x = x - slant[:, None] * y
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    return form, np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def strokes(label: int, rng: np.random.Generator, *, hand: Hand = AMERICAN) -> list[Array]:
    """Return the strokes of a digit, each (points, 2) float32: x right, y down, both in [0, 1]."""
    form, path = _skeletons(np.array([label]), rng, hand=hand)
    path = path[0] - path[0].min(0)
    return np.split(path / path.max(), np.flatnonzero(hand.lifted[form[0]]))


def _ink(path: Array, rng: np.random.Generator) -> Array:
    """Draw paths (n, POINTS, 2) with random pens; return ink (BOX, BOX, n) in [0, 1]."""
    normal, n = _spread(rng, len(path)), len(path)
    radius = np.clip(1.3 * np.exp(normal(0.27)), 0.75, 2.6)
    nib = radius[:, None] * np.exp(normal(0.1, 2))  # wider in one direction
    low, high = path.min(1), path.max(1)
    scale = ((BOX - 2 * nib) / np.maximum(high - low, 1e-3)).min(1)
    path = (path - 0.5 * (low + high)[:, None]) * scale[:, None, None] + BOX / 2
    along = np.linspace(0, 1, POINTS, dtype=np.float32)
    phase = 2 * np.pi * rng.random((n, 1), dtype=np.float32)
    pressure = np.exp(normal(0.12, 1) * np.sin(phase + along * (4 + normal(3.0, 1))))
    # The distance, in radii of the pen, from each pixel to the nearest point. Writers are the last
    # axis, so that the innermost loops run over long contiguous rows.
    pixel = np.arange(BOX, dtype=np.float32)[:, None, None] + 0.5
    reach = nib[:, None] * pressure[..., None]
    square = ((pixel[..., None] - path) / reach) ** 2
    square = np.ascontiguousarray(square.transpose(3, 2, 0, 1))  # (2, POINTS, BOX, n)
    nearest = np.full((BOX, BOX, n), np.inf, np.float32)
    scratch = np.empty_like(nearest)
    for dx, dy in zip(square[0], square[1], strict=True):
        np.add(dx[None, :], dy[:, None], out=scratch)
        np.minimum(nearest, scratch, out=nearest)
    # Ink fades over a little more than a pixel, as on a digit that was scanned and shrunk.
    return np.clip((1 - np.sqrt(nearest)) * radius * 0.8 + 0.5, 0, 1)


def _centred(ink: Array) -> NDArray[np.uint8]:
    """Place ink (BOX, BOX, n) in pictures (n, FIELD, FIELD), centred by mass, by whole pixels."""
    pixel = np.arange(BOX)
    mass = np.maximum(ink.sum((0, 1)), 1e-3)
    images = np.zeros((ink.shape[2], FIELD, FIELD), np.uint8)
    corner = []
    for profile in (ink.sum(1), ink.sum(0)):
        middle = (pixel[:, None] * profile).sum(0) / mass
        at = np.clip(np.rint(FIELD / 2 - middle), 1, FIELD - BOX - 1)
        corner.append(at.astype(np.int64)[:, None] + pixel)
    rows, columns = corner
    who = np.arange(len(images))[:, None, None]
    grey = np.rint(255 * ink).astype(np.uint8).transpose(2, 0, 1)
    images[who, rows[:, :, None], columns[:, None, :]] = grey
    return images


def draw(
    labels: NDArray[np.integer], rng: np.random.Generator, *, hand: Hand = AMERICAN
) -> NDArray[np.uint8]:
    """Draw one digit per label, each by another writer.

    Args:
        labels: shape (n,), 0 to 9; only 0 for hands that do not write digits.
        rng: the source of all chance.
        hand: the forms that writers choose from.

    Returns:
        Pictures, shape (n, 28, 28), uint8, white ink (255) on black (0).
    """
    digits = np.asarray(labels, np.int64)
    if ((digits < 0) | (digits > 9)).any():
        raise ValueError("labels must be whole numbers from 0 to 9")
    images = np.zeros((len(digits), FIELD, FIELD), np.uint8)
    for start in range(0, len(digits), BATCH):
        batch = slice(start, start + BATCH)
        _, path = _skeletons(digits[batch], rng, hand=hand)
        images[batch] = _centred(_ink(path, rng))
    return images
