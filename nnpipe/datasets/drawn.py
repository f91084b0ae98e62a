"""Drawn digits: handwriting the project draws itself, in MNIST's format.

Each digit is known in several *forms*, the ways people write it.  A form is one or more pen
strokes, given below by hand as a few control points.  A *writer* picks a form, moves its
control points, bends, slants and stretches the whole, and goes over it with a pen of their
own width.  Everything is vectorised over writers, uses NumPy alone, and depends on nothing
but the labels and the generator: the same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int64]

# Weight and strokes of every form.  Coordinates are percent of the digit's height, x to the
# right and y down; "|" lifts the pen and "!" marks a sharp corner.  Points are joined by a
# smooth spline.  Weights only count against the other forms of the same digit.
FORMS: dict[int, list[tuple[float, str]]] = {
    0: [
        (4.0, "45,2 20,10 4,40 6,70 25,97 50,97 70,70 74,40 62,10 42,2 30,6"),
        (2.0, "30,0 12,15 4,50 12,85 28,100 44,86 52,50 46,15 30,2"),
        (2.0, "60,8 40,0 14,20 4,60 20,96 50,94 72,60 66,18 50,6 30,16"),
        (1.0, "20,10 45,2 70,25 72,60 50,97 22,94 4,62 8,28 28,4"),
        (1.0, "38,4 14,18 4,55 20,95 50,96 72,62 66,22 46,4 34,18 62,14"),
        (1.0, "28,2 8,25 4,60 22,97 50,96 70,65 68,25 52,8"),
        (0.2, "45,2 20,10 4,40 6,70 25,97 50,97 70,70 74,40 62,10 42,2 | 72,8 8,92"),
        (1.0, "50,4 24,8 4,40 8,78 30,98 60,84 70,50 60,20 38,4 44,24 56,34"),
    ],
    1: [
        (10.0, "12,0 12,33 12,67 12,100"),
        (0.8, "0,22 22,0! 22,33 22,67 22,100"),
        (0.6, "8,12 20,0! 20,33 20,67 20,100"),
        (1.0, "5,22 28,0! 28,50 28,100 | 2,100 28,99 56,100"),
        (0.2, "28,0 28,50 28,100 | 2,100 28,99 56,100"),
    ],
    2: [
        (3.0, "4,22 22,3 56,2 70,22 56,50 28,76 2,98! 36,96 82,98"),
        (3.0, "6,20 26,2 58,4 66,26 50,56 20,92 2,88 14,74 42,88 86,94"),
        (1.5, "4,8 36,4 70,4! 36,50 2,98! 42,97 80,97"),
        (2.0, "6,28 12,8 40,0 66,12 62,38 38,66 4,98! 46,98 80,96"),
        (2.0, "4,16 30,0 62,8 62,34 38,66 10,92 -2,80 16,68 40,82 64,98 92,84"),
        (1.0, "16,34 4,20 22,2 56,2 72,22 56,52 26,80 4,96! 28,88 56,98 86,92"),
        (1.5, "2,20 22,2 50,8 52,34 30,66 6,92 -8,78 10,64 38,78 66,92 92,86"),
        (1.0, "2,30 24,4 50,2 58,20 44,48 20,80 4,98! 30,90 62,90"),
        (4.0, "10,20 26,2 50,4 58,26 56,54 38,86 14,98 2,84 16,68 42,80 70,98"),
        (3.0, "10,12 34,0 56,12 56,44 44,78 16,96 2,80 22,68 50,86 64,90"),
        (1.5, "4,10 40,0 58,20 54,50 40,80 12,96 4,90! 30,84 60,92"),
        (2.5, "14,26 8,10 30,0 54,10 54,30 36,60 14,92 0,84 12,64 40,80 70,98"),
        (1.5, "6,14 30,4 52,12 58,32 50,62 28,90 6,94 4,78 22,70 42,84 58,98"),
        (1.5, "0,20 30,2 64,6 70,26 44,52 14,80 4,98! 44,90 84,92 116,88"),
        (1.5, "0,16 34,0 70,10 66,36 36,68 6,86 -6,74 20,66 56,80 90,92 120,80"),
        (1.5, "4,20 36,0 70,16 64,52 40,86 8,96 -8,80 12,66 44,76 68,90 84,100"),
        (1.0, "20,36 4,20 20,4 48,4 54,26 36,54 6,88 -4,76 20,68 40,84 60,92 88,78"),
    ],
    3: [
        (3.0, "6,14 28,0 54,10 52,34 28,46! 58,56 64,80 36,100 2,88"),
        (3.0, "8,10 34,0 54,16 46,38 26,47 50,54 62,76 40,98 4,92"),
        (1.5, "6,2 30,2 58,2! 28,40! 56,50 64,78 38,100 2,90"),
        (1.5, "6,10 34,0 54,16 40,44 24,50 30,40 54,56 58,80 32,100 2,90"),
        (1.5, "4,16 30,0 56,12 46,40 12,48! 50,54 60,78 34,100 4,84"),
        (1.0, "4,10 40,2 50,10 30,40! 48,52 52,74 34,98"),
        (1.0, "2,8 24,5 46,4! 24,40! 46,52 46,80 20,100"),
        (1.0, "4,14 30,2 62,8 50,26 34,40! 56,52 56,76 36,100"),
        (1.0, "2,10 34,2 60,4! 36,34! 56,50 60,72 48,98"),
        (1.0, "14,6 40,2 50,16 38,36 20,40! 56,50 58,84 28,100 0,92"),
        (1.0, "2,8 34,0 52,14 38,34 20,40! 48,48 62,62 48,82"),
        (0.7, "14,30 6,10 32,0 54,14 46,36 26,44! 56,54 58,80 32,100 4,90"),
        (1.0, "24,14 44,2 54,14 40,34 24,44! 58,52 62,78 34,100 4,92"),
    ],
    4: [
        (4.0, "10,2 4,28 2,56! 34,56 68,52 | 56,4 52,50 48,100"),
        (2.2, "8,4 4,36 16,54 36,52 56,36 | 60,2 54,50 46,100"),
        (1.5, "50,0! 26,30 0,62! 36,62 72,60 | 50,0 50,50 48,100"),
        (1.0, "46,100 48,50 50,0! 24,34 0,62! 36,62 70,62"),
        (1.2, "6,2 2,34 12,54 40,54 56,30 60,4! 54,50 44,100"),
        (1.5, "12,2 8,26 2,52! 34,54 66,52 | 44,28 42,65 40,100"),
        (1.0, "38,4 20,28 4,50! 30,54 66,48 | 42,4 42,50 36,100"),
        (1.0, "30,0! 18,28 4,56! 24,56 44,54 | 34,2 36,50 34,100"),
        (1.0, "40,0! 24,22 6,46! 34,46 60,44 | 40,0 44,50 40,100"),
        (1.0, "8,6 4,28 10,44 34,42 54,26 | 58,0 48,50 40,100"),
        (0.7, "44,0! 24,24 4,44! 30,48 66,46 | 56,24 46,60 36,100"),
    ],
    5: [
        (3.0, "62,2 36,2 16,4! 10,42! 36,36 58,54 54,84 28,100 2,90"),
        (4.0, "14,4 12,24 10,44! 34,38 58,52 58,80 34,100 2,92 | 14,4 40,3 70,0"),
        (1.0, "16,10 13,26 10,46! 34,38 58,52 58,80 34,100 2,92 | 26,4 48,2 72,-2"),
        (2.0, "64,4 34,2 14,18 20,40 46,48 58,70 44,96 4,94"),
        (1.0, "62,2 36,2 16,4! 12,40! 40,38 60,58 48,94 14,98 0,84 14,74"),
        (1.5, "44,4 14,10! 8,46! 36,36 62,60 44,94 12,98 2,78"),
        (1.5, "80,0 50,4 26,10! 14,44! 36,44 46,64 34,90 4,98"),
        (1.0, "10,6 8,26 8,46! 34,40 54,60 44,92 20,98 2,86 | 10,6 36,2 56,4"),
        (1.0, "8,18 6,32 4,46! 30,36 56,50 54,84 26,100 4,88 | 8,18 44,14 96,8"),
        (0.7, "50,4 30,4 14,14 8,44! 40,32 66,52 54,90 24,98 6,82 16,68"),
    ],
    6: [
        (3.0, "44,0 16,30 2,68 16,98 44,96 54,74 38,58 14,66 4,76"),
        (2.0, "56,6 34,4 10,34 2,70 20,98 48,92 54,68 34,56 8,72"),
        (2.0, "30,0 10,40 4,75 24,99 52,86 50,62 26,56 6,74"),
        (2.0, "12,0 6,40 4,80 20,99 40,88 38,68 20,64 6,80"),
        (1.0, "40,0 14,34 2,72 22,99 52,92 56,68 34,60 22,72 30,84"),
        (2.0, "24,0 4,40 8,84 34,98 64,80 62,54 40,52 20,86"),
        (2.0, "10,0 4,40 6,80 26,98 56,84 60,62 40,54 14,84"),
    ],
    7: [
        (5.0, "0,6 30,4 60,2! 40,45 24,100"),
        (3.0, "2,10 30,6 56,4 52,30 36,64 28,100"),
        (1.5, "4,22 4,4! 30,3 58,2! 40,45 26,100"),
        (1.5, "4,32 6,6 32,8 62,0! 44,45 30,100"),
        (2.0, "0,6 30,4 60,2! 40,45 24,100 | 16,52 36,50 58,48"),
        (1.5, "0,20 12,2 34,10 60,2! 38,50 26,100"),
        (1.0, "4,22 4,4! 30,3 58,2! 40,45 26,100 | 16,52 36,50 58,48"),
        (1.5, "2,14 28,4 54,6 50,34 36,64 28,100 | 24,50 44,48 68,46"),
        (0.6, "2,40 6,6! 30,4 56,2! 52,50 48,100"),
        (0.6, "6,20 24,4 48,8 46,34 28,66 18,100 | 10,54 34,50 60,46"),
    ],
    8: [
        (3.0, "56,14 34,0 10,10 14,34 40,54 50,80 28,100 6,84 18,58 44,36 56,12"),
        (2.5, "64,12 38,0 12,10 14,30 36,50 46,76 30,98 12,84 24,60 46,38 66,8"),
        (2.0, "66,8 38,0 12,14 28,42 52,64 50,92 22,98 10,80 34,50 68,2"),
        (1.5, "34,46 10,32 12,6 36,0 58,14 52,38 34,48 6,64 8,90 34,100 60,88 58,60 32,46"),
        (1.0, "34,2 14,14 16,36 34,46 54,34 54,14 32,2 | 34,46 8,60 8,90 34,100 60,88 60,62 34,46"),
        (1.5, "40,2 58,14 44,38 16,58 6,82 26,100 46,82 36,56 12,36 10,12 40,0"),
        (1.0, "14,22 30,0 54,12 44,36 14,62 8,88 32,100 50,84 40,58 12,34 16,10"),
        (2.0, "60,10 40,2 14,8 12,30 42,52 54,80 30,100 4,84 14,60 40,36 64,14"),
        (1.0, "46,10 26,6 18,22 34,40 56,64 48,92 18,98 4,78 22,50 48,26 46,8"),
        (1.0, "50,0 24,6 14,22 26,40 44,60 40,92 14,98 6,76 20,54 52,16"),
        (1.0, "60,14 30,12 8,22 18,40 44,56 46,88 20,100 6,84 16,62 40,44 62,18"),
        (1.0, "76,14 50,16 24,4 10,16 22,38 46,60 44,90 18,100 4,84 18,60 44,40 70,18"),
        (1.5, "70,4 44,30 16,66 8,90 30,100 44,80 30,54 10,34 12,12 34,4 48,14"),
        (1.5, "60,10 34,4 8,18 12,40 36,58 34,88 14,100 4,84 20,62 50,40 70,14"),
        (0.7, "36,14 20,4 8,18 22,40 44,60 44,90 18,100 6,84 20,58 48,30 56,8 36,16"),
        (1.5, "34,2 10,16 12,38 32,62 40,86 28,100 18,88 30,60 54,36 56,12 32,0"),
        (1.0, "62,8 36,10 20,4 14,18 28,34 46,56 44,88 16,100 4,80 18,56 38,34 64,6"),
    ],
    9: [
        (3.0, "50,10 26,2 4,18 8,42 32,44 50,14! 48,50 46,100"),
        (3.0, "52,8 28,0 4,22 14,46 40,38 52,8 50,50 40,100"),
        (1.5, "52,10 28,0 4,20 12,44 40,40 54,12 54,60 44,94 18,100 4,88"),
        (2.0, "54,12 30,0 4,22 14,44 42,36 54,12 44,50 22,100"),
        (1.0, "46,8 20,2 2,24 14,46 40,40 50,20 | 54,2 52,50 48,100"),
        (1.0, "40,2 14,10 4,32 18,46 42,36 54,8! 50,50 44,100"),
        (1.0, "56,20 44,2 16,6 4,28 20,42 56,22! 46,60 36,100"),
        (1.5, "40,6 18,2 4,16 14,32 32,26 42,6 40,50 36,100"),
        (1.0, "56,14 30,2 6,18 14,42 40,40 50,30 48,60 40,90 10,98"),
        (0.7, "60,12 30,2 4,14 10,36 44,32 62,14! 56,50 40,76 28,100"),
        (1.2, "34,0 14,12 4,32 18,40 40,28 52,8 46,50 34,100"),
        (1.2, "28,8 12,14 6,30 20,38 40,30 48,4! 44,50 40,100"),
        (1.0, "40,4 24,0 4,16 8,36 26,36 44,4! 44,50 34,100"),
        (1.0, "46,14 30,2 12,8 4,30 22,40 44,24! 42,60 38,100"),
        (1.5, "58,4 30,6 8,22 10,40 34,40 52,20! 48,56 42,100"),
        (1.0, "50,0 22,10 4,30 16,42 40,34 52,16! 44,54 34,100"),
    ],
}

# The forms that other countries write and MNIST's American writers hardly do: a 1 whose flag is as
# long as a stroke, a crossed 7, an open 4, a hooked 9, a slashed 0.
ELSEWHERE: dict[int, list[tuple[float, str]]] = {
    0: [
        (1.0, "45,2 20,10 4,40 6,70 25,97 50,97 70,70 74,40 62,10 42,2 30,6 | 66,12 10,88"),
        (0.5, "40,0 14,14 2,50 14,88 40,100 66,86 76,50 64,14 40,0 | 84,-4 -6,104"),
        (1.0, "48,0 14,14 0,50 14,88 50,100 86,86 100,50 86,14 48,0"),
    ],
    1: [
        (3.0, "0,44 20,24 38,0! 38,50 38,100"),
        (3.0, "0,30 16,16 30,0! 30,50 30,100"),
        (2.0, "0,62 24,34 44,0! 44,50 44,100"),
        (1.0, "0,80 24,42 42,0! 42,50 42,100"),
        (1.0, "0,100 24,52 44,0! 44,50 44,100"),
        (0.7, "0,88 22,48 42,0! 42,50 40,98 | 16,100 42,98 72,100"),
        (1.5, "0,36 22,26 36,0! 34,50 32,100"),
        (1.5, "0,34 18,18 32,0! 32,50 32,100 | 6,100 32,99 60,100"),
        (1.0, "0,22 20,14 36,0! 36,50 36,100 | 2,100 36,99 70,100"),
    ],
    4: [
        (2.0, "34,0 16,30 0,60! 34,60 76,58 | 52,34 50,66 48,100"),
        (2.0, "24,0 14,26 2,54! 30,54 66,52 | 48,20 46,60 44,100"),
        (1.0, "56,0! 28,32 0,66! 40,66 80,66 | 56,0 56,50 56,100"),
        (1.0, "10,0 6,26 2,50! 30,50 56,50 | 56,0 55,50 54,100"),
        (0.7, "42,0 20,24 0,48! 30,45 64,42! 54,70 44,100"),
    ],
    7: [
        (3.0, "0,4 30,4 62,0! 44,48 28,100 | 14,50 38,48 62,46"),
        (2.0, "0,18 4,4! 32,4 64,0! 46,48 32,100 | 18,52 40,50 66,48"),
        (1.0, "0,10 18,0 40,8 64,0! 42,46 30,100 | 10,54 36,50 64,44"),
        (1.0, "0,2 30,2 60,0! 56,50 50,100 | 30,52 54,50 78,48"),
        (1.0, "0,22 2,2! 30,2 62,2! 46,50 34,100"),
        (1.5, "0,24 8,4 30,8 66,0! 46,48 26,100 | 0,56 36,53 80,50"),
        (1.0, "4,20 14,2 34,10 60,2! 42,50 30,100 | -4,64 36,58 84,56"),
    ],
    9: [
        (2.0, "54,12 30,0 4,20 14,44 42,38 56,10! 58,50 50,86 24,100 2,88"),
        (1.5, "50,8 24,0 2,22 16,46 46,38 56,8! 56,60 40,94 12,98 0,82"),
        (1.0, "52,10 26,0 4,24 20,46 48,34 54,8! 54,52 52,100"),
        (1.0, "48,12 24,0 4,18 18,38 44,30 50,8! 54,46 58,74 38,98 0,96"),
        (1.0, "56,10 30,0 10,14 16,34 40,36 54,12 50,40 62,66 50,92 20,100 -6,94 6,80"),
        (1.0, "50,14 28,0 8,14 14,34 36,36 52,14! 58,44 50,80 26,98 0,100"),
        (1.0, "44,4 16,6 4,24 20,38 40,28 48,8 60,40 58,74 34,96 0,98"),
    ],
}

POINTS = 80  # samples along a digit: at most about one pixel apart once drawn
BATCH = 512  # writers drawn at a time: bounds the memory and keeps the pixels in the cache
BOX, FIELD = 20, 28  # MNIST: the ink fits a 20 x 20 box, centred by mass in a 28 x 28 field


class Hand(NamedTuple):
    """All forms of a table as arrays, padded to the same number K of control points."""

    stretch: float  # how much writers differ in width to height, as a spread of its logarithm
    chance: Array  # (L, F) cumulative share of each form among those of a label
    controls: Array  # (F, K, 2) control points in units of the digit's height
    inward: Ints  # (F, K) for a stroke's end its neighbour, for any other point itself
    stroke: Ints  # (F, K) the stroke that a control point belongs to
    spline: Array  # (F, POINTS, K) maps control points to points evenly along the strokes
    hurried: Array  # (F, POINTS, K) the same with every corner cut
    lifted: NDArray[np.bool_]  # (F, POINTS) the pen was lifted before this point


def _spline(corner: list[bool], steps: int = 40) -> Array:
    """Catmull-Rom weights, ((knots - 1) * steps, K), of one stroke with K control points."""
    count = len(corner)
    knots = [k for k in range(count) for _ in range(1 + corner[k])]  # a corner is a double knot
    eye = np.eye(count)
    ends = 2 * eye[[0, -1]] - eye[[1, -2]]
    p = np.concatenate([ends[:1], eye[knots], ends[1:]])
    t = np.linspace(0, 1, steps)[:, None] ** np.arange(4)
    cubic = t @ [[0, 1, 0, 0], [-0.5, 0, 0.5, 0], [1, -2.5, 2, -0.5], [-0.5, 1.5, -1.5, 0.5]]
    return np.concatenate([cubic @ p[i : i + 4] for i in range(len(p) - 3)]).astype(np.float32)


def compile_forms(forms: dict[int, list[tuple[float, str]]], stretch: float = 0.18) -> Hand:
    """Turn a table of forms into arrays; its labels count from 0."""
    drawn = [(label, weight, text) for label in forms for weight, text in forms[label]]
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
    total = np.cumsum(share, axis=1)  # divided by its own last column it ends at exactly 1
    return Hand(stretch, total / total[:, -1:], controls, inward, stroke, spline, hurried, lifted)


AMERICAN = compile_forms(FORMS)
ABROAD = compile_forms({digit: ELSEWHERE.get(digit, FORMS[digit]) for digit in range(10)}, 0.3)


def _spread(rng: np.random.Generator, n: int) -> Callable[..., Array]:
    """Return ``normal(scale, *shape)``: centred draws of that spread, (n, *shape)."""

    def normal(scale: float, *shape: int) -> Array:
        return scale * rng.standard_normal((n, *shape), dtype=np.float32)

    return normal


def _skeletons(labels: Ints, rng: np.random.Generator, hand: Hand = AMERICAN) -> tuple[Ints, Array]:
    """Return the form (n,) and the pen's path (n, POINTS, 2) of one writer per label."""
    normal, n = _spread(rng, len(labels)), len(labels)
    form = (rng.random(n)[:, None] >= hand.chance[labels]).sum(1)
    p = hand.controls[form]
    k = p.shape[1]
    # A stroke starts and ends early or late, sits off its place, and misses its marks.
    p = p + normal(0.15, k, 1) * (p - np.take_along_axis(p, hand.inward[form][..., None], 1))
    p = p + np.take_along_axis(normal(0.03, k, 2), hand.stroke[form][..., None], 1)
    p = p + normal(0.045, k, 2)
    # Whoever writes in a hurry cuts the corners.
    hurry = rng.random((n, 1, 1), dtype=np.float32)
    crisp = hand.spline[form]
    path = (crisp + hurry * (hand.hurried[form] - crisp)) @ p
    # Smooth waves across the whole digit bend it without breaking it.
    path = path - 0.5 * (path.min(1, keepdims=True) + path.max(1, keepdims=True))
    for _ in range(3):
        phase = path @ normal(3.0, 2, 1) + 2 * np.pi * rng.random((n, 1, 1), dtype=np.float32)
        path = path + np.sin(phase) * normal(0.04, 1, 2)
    # Hand and paper: width, slant to the right, turn.
    path = path * np.exp(normal(hand.stretch, 1, 2))
    turn, slant = normal(0.1), 0.12 + normal(0.22)
    x, y = path[..., 0], path[..., 1]
    x = x - slant[:, None] * y
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    return form, np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def strokes(label: int, rng: np.random.Generator, hand: Hand = AMERICAN) -> list[Array]:
    """Return one digit's strokes, each (points, 2) float32: x right, y down, both in [0, 1]."""
    form, path = _skeletons(np.array([label]), rng, hand)
    path = path[0] - path[0].min(0)
    return np.split(path / path.max(), np.flatnonzero(hand.lifted[form[0]]))


def _ink(path: Array, rng: np.random.Generator) -> Array:
    """Go over paths (n, POINTS, 2) with a pen: ink (BOX, BOX, n) from 0 to 1."""
    normal, n = _spread(rng, len(path)), len(path)
    radius = np.clip(1.3 * np.exp(normal(0.27)), 0.75, 2.6)
    nib = radius[:, None] * np.exp(normal(0.1, 2))  # wider one way than the other
    low, high = path.min(1), path.max(1)
    scale = ((BOX - 2 * nib) / np.maximum(high - low, 1e-3)).min(1)
    path = (path - 0.5 * (low + high)[:, None]) * scale[:, None, None] + BOX / 2
    along = np.linspace(0, 1, POINTS, dtype=np.float32)
    phase = 2 * np.pi * rng.random((n, 1), dtype=np.float32)
    pressure = np.exp(normal(0.12, 1) * np.sin(phase + along * (4 + normal(3.0, 1))))
    # Distance in pen radii of every pixel to the nearest point; the writers come last so that
    # the innermost loops run over long contiguous rows.
    pixel = np.arange(BOX, dtype=np.float32)[:, None, None] + 0.5
    reach = nib[:, None] * pressure[..., None]
    square = ((pixel[..., None] - path) / reach) ** 2
    square = np.ascontiguousarray(square.transpose(3, 2, 0, 1))  # (2, POINTS, BOX, n)
    nearest = np.full((BOX, BOX, n), np.inf, np.float32)
    scratch = np.empty_like(nearest)
    for dx, dy in zip(square[0], square[1], strict=True):
        np.add(dx[None, :], dy[:, None], out=scratch)
        np.minimum(nearest, scratch, out=nearest)
    # The ink fades over a little more than a pixel, as a scanned and shrunk digit's does.
    return np.clip((1 - np.sqrt(nearest)) * radius * 0.8 + 0.5, 0, 1)


def _centred(ink: Array) -> NDArray[np.uint8]:
    """Put ink (BOX, BOX, n) into the field (n, FIELD, FIELD) by whole pixels, centred by mass."""
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
    labels: NDArray[np.integer], rng: np.random.Generator, hand: Hand = AMERICAN
) -> NDArray[np.uint8]:
    """Draw one digit per label, each by a writer of its own who has learnt to write by ``hand``.

    ``labels`` is (n,), whole numbers from 0 to 9; hands that write no digits know 0 alone.  Returns
    (n, 28, 28) uint8, white ink (255) on black (0).  The images depend on nothing but the labels
    and the generator's state.
    """
    digits = np.asarray(labels, np.int64)
    if ((digits < 0) | (digits > 9)).any():
        raise ValueError("labels must be whole numbers from 0 to 9")
    images = np.zeros((len(digits), FIELD, FIELD), np.uint8)
    for start in range(0, len(digits), BATCH):
        batch = slice(start, start + BATCH)
        _, path = _skeletons(digits[batch], rng, hand)
        images[batch] = _centred(_ink(path, rng))
    return images
