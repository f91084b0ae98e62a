"""Where a page shows a form.

Features of the reference are matched with those of the page (SIFT; Lowe 2004, "Distinctive Image
Features from Scale-Invariant Keypoints"), which gives a homography. It is refined on the print
itself by inverse compositional alignment (Baker and Matthews 2004, "Lucas–Kanade 20 Years On"),
first as a whole, and then around each field, because paper bends. Handwriting differs from page to
page: the refinement ignores pixels that do not agree.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from nnpipe.preprocess.pictures import Pixels

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

SIDE = 1000
"""Pixels of the longer side at which a page is aligned; a millimetre of A4 has 3.4."""

FEATURES = 2000
"""Most features of a picture."""

RATIO = 0.85
"""Distance of the best match, as a share of the second best's, at which it is believed."""

ALIKE = 30
"""Features of the page that one of the reference may be."""

VOTED = 6
"""Most homographies that are tried by votes."""

ROOM = 61
"""Side of the square whose mean is the paper, in pixels."""

STRONG = 0.12
"""Strength above which a pixel is print, where the strongest print has 1."""

NEAR = 2
"""Distance in pixels within which the page has the reference's print if it is in place."""

SHIFTS = (11, 17, 23)
"""Pixels by which the page is moved to learn how much print is in place by chance."""

LEAST_PRINT = 50
"""Dark pixels by whose places a form can be told from others."""

EXPLAINED = 0.25
"""Share of the page's dark pixels that the reference has as well; of fewer, the form is another."""

GOOD, GOOD_OF_SOME = 0.55, 0.35
"""Quality below which a page does not look like the form; the second if features agree."""

AGREED, WITHIN = 12, 5.0
"""Features that must agree then, and within how many pixels. Other forms have lines at the same
places, but not the same words."""

CLEAR, CLEAR_OF_SOME = 0.95, 0.7
"""Quality above which no other place is tried; the second if features agree."""

SAME = 10.0
"""Distance of their corners in pixels at which two places are refined to the same one."""

LEAST_VISIBLE = 0.4
"""Share of the reference's print that must lie on the page."""

LEVELS = ((5.0, 4), (2.5, 4), (1.2, 3))
"""Blur of the refinement in pixels, the coarsest first, and how often each is repeated."""

AGREES = 0.25
"""Difference of two strengths beyond which a pixel hardly counts."""

AROUND = 60
"""Pixels around a field by whose print its place is refined."""

STIFF = 0.02
"""How much the place of a field tends to that of the whole page, as a share of its print."""

FARTHEST = 12.0
"""Pixels by which a field may move on its own."""


class Alignment(NamedTuple):
    """Where a page shows a form."""

    matrix: Array  # (3, 3), pixels of the reference → pixels of the page
    quality: float  # 0…1: how much of the reference's print is in place
    fields: Array  # (n, 3, 3), the same for each field


class Features(NamedTuple):
    """Distinctive places of a picture."""

    points: Array  # (n, 2)
    sizes: Array  # (n,), in pixels
    angles: Array  # (n,), in degrees
    descriptors: Image  # (n, 128), of length 1

    def at(self, rows: npt.NDArray[np.intp]) -> "Features":
        """Return some of the features."""
        points, sizes, angles, descriptors = self
        return Features(points[rows], sizes[rows], angles[rows], descriptors[rows])


class Pairs(NamedTuple):
    """Features of the reference, and what they may be on the page."""

    here: Array  # (n, 2) of the reference's features that are unlike all others
    there: Array  # (n, 2) of the page's that are like them
    rows: npt.NDArray[np.intp]  # (m,) of the reference's features, each several times
    others: Features  # m of the page's that are most like them

    def agreed(self, matrix: Array) -> int:
        """Return how many of the n pairs agree with a homography."""
        if not len(self.here):
            return 0
        mapped = cv2.perspectiveTransform(self.here[None], matrix)[0]
        return int((np.abs(mapped - self.there).max(axis=1) < WITHIN).sum())


class Level(NamedTuple):
    """What the refinement at one blur needs of the reference."""

    blur: float
    repeats: int
    rows: npt.NDArray[np.intp]  # (n,) of the pixels that tell their place
    columns: npt.NDArray[np.intp]
    strength: Image  # (n,)
    slopes: Image  # (n, 2), of the strength, in x and y


class Aligner:
    """Finds a form on pages.

    Args:
        reference: brightness of a page that shows the form, uint8 (h, w).
    """

    def __init__(self, reference: Pixels) -> None:
        small, self.scale = _small(reference)
        self.shape = small.shape
        even, self.strength = _print_of(small)
        self.features = _features_of(even)
        self.mask = self.strength > STRONG
        self.levels = [_level(self.strength, blur=b, repeats=n) for b, n in LEVELS]

    def find(self, page: Pixels, boxes: Array) -> Alignment | None:
        """Find the form on a page.

        Args:
            page: brightness, uint8 (h, w).
            boxes: left, top, right and bottom of each field, (n, 4), in pixels of the reference.

        Returns:
            Where it is; None if the page does not look like the form.
        """
        small, scale = _small(page)
        even, strength = _print_of(small)
        agreed = False
        quality, matrix, tried = 0.0, np.eye(3), list[Array]()
        pairs = self._paired(_features_of(even))
        for guess in self._guesses(pairs):
            corners = cv2.perspectiveTransform(_corners(self.shape)[None], guess)[0]
            if any(np.abs(corners - other).max() < SAME for other in tried):
                continue
            tried.append(corners)
            # Where paper is bent or much is written, the refinement may not converge.
            for one in (guess, self._refined(guess, strength)):
                better = self._quality(one, strength)
                if better > quality:
                    quality, matrix = better, one
            agreed = pairs is not None and pairs.agreed(matrix) >= AGREED
            if quality > (CLEAR_OF_SOME if agreed else CLEAR):
                break
        if quality < (GOOD_OF_SOME if agreed else GOOD) or not _is_sane(matrix, self.shape):
            return None
        shifts = self._shifts(matrix, strength, boxes=boxes * self.scale)
        ours, theirs = np.diag([self.scale, self.scale, 1]), np.diag([1 / scale, 1 / scale, 1])
        moved = np.repeat(np.eye(3)[None], len(shifts), axis=0)
        moved[:, :2, 2] = shifts
        return Alignment(theirs @ matrix @ ours, quality, theirs @ matrix @ moved @ ours)

    def _paired(self, features: Features) -> "Pairs | None":
        """Return which of its features may be which; None if there are hardly any."""
        if min(len(self.features.points), len(features.points)) < 4:
            return None
        alike = self.features.descriptors @ features.descriptors.T
        count = min(ALIKE, alike.shape[1])
        some = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(alike, some, axis=1), axis=1)
        nearest = np.take_along_axis(some, order, axis=1)
        shares = np.take_along_axis(alike, nearest, axis=1)
        # The squared distance of two descriptors of length 1 is 2 − 2 cos.
        sure = np.flatnonzero((1 - shares[:, 0]) < RATIO**2 * (1 - shares[:, 1]))
        rows = np.repeat(np.arange(len(nearest)), count)
        here, there = self.features.points[sure], features.points[nearest[sure, 0]]
        return Pairs(here, there, rows, features.at(nearest.ravel()))

    def _guesses(self, pairs: "Pairs | None") -> Iterator[Array]:
        """Yield homographies from the small reference to the small page, the most probable first.

        First come those by features that are unlike all others. A sheet of equal boxes has hardly
        any, so that its features vote (Hough transform) with all that they may be.
        """
        if pairs:
            yield from self._fitted(pairs.here, pairs.there)
            yield from self._voted(pairs.rows, pairs.others)

    def _fitted(self, here: Array, there: Array) -> Iterator[Array]:
        """Yield homographies by which most points are mapped to others, (n, 2)."""
        if len(here) < 4:
            return
        full, _ = cv2.findHomography(
            here, there, cv2.USAC_MAGSAC, 4.0, maxIters=2000, confidence=0.9999
        )
        part, _ = cv2.estimateAffinePartial2D(
            here, there, method=cv2.RANSAC, ransacReprojThreshold=12.0, maxIters=2000
        )
        for one in (full, None if part is None else np.vstack([part, [0, 0, 1]])):
            if one is not None and _is_sane(one, self.shape):
                yield one

    def _voted(self, rows: npt.NDArray[np.intp], there: Features) -> Iterator[Array]:
        """Yield homographies by which many features, ``rows``, and n others agree."""
        here = self.features.at(rows)
        turn = np.deg2rad(there.angles - here.angles)
        scale = there.sizes / here.sizes
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        x, y = (here.points - np.array(self.shape[::-1]) / 2).T
        middle = there.points - np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)
        bins = np.array([np.deg2rad(20), np.log(1.4), 60, 60])
        votes = np.column_stack([turn % (2 * np.pi), np.log(scale), middle]) / bins
        usable = np.abs(np.log(scale)) < np.log(3)
        # A peak at the edge of a bin is whole in the bins that are moved by a half.
        peaks = []
        for moved in np.ndindex(2, 2, 2, 2):
            cells = np.floor(votes[usable] + np.array(moved) / 2).astype(np.int64)
            _, inverse = np.unique(cells, axis=0, return_inverse=True)
            # A feature of the reference votes once for a place.
            once = np.unique(np.stack([inverse.ravel(), rows[usable]]), axis=1)
            counts = np.bincount(once[0])
            peaks += [
                (int(counts[cell]), np.flatnonzero(usable)[inverse.ravel() == cell])
                for cell in np.argsort(-counts)[:2]
            ]
        peaks.sort(key=lambda peak: -peak[0])
        for _, members in peaks[:VOTED]:
            yield from self._fitted(here.points[members], there.points[members])

    def _quality(self, matrix: Array, strength: Image) -> float:
        """Return how much of the print is in place, beyond chance: 0…1."""
        seen = _warp(np.ones(strength.shape, np.float32), matrix, shape=self.shape) > 0.5
        visible = self.mask & seen
        count = int(visible.sum())
        if count < max(LEAST_VISIBLE * int(self.mask.sum()), LEAST_PRINT):
            return 0.0
        page = (_warp(strength, matrix, shape=self.shape) > STRONG).view(np.uint8)
        around = np.ones((2 * NEAR + 1,) * 2, np.uint8)
        near = cv2.dilate(page, around) > 0
        share, *others = (
            float((np.roll(near, (dy, dx), (0, 1)) & visible).sum() / count)
            for dx, dy in [(0, 0), *((x, y) for n in SHIFTS for x in (-n, n) for y in (-n, n))]
        )
        chance = float(np.mean(others))
        explained = (cv2.dilate(self.mask.view(np.uint8), around) & page).sum() / max(page.sum(), 1)
        beyond = max(share - chance, 0.0) / max(1 - chance, 1e-6)
        return beyond * min(float(explained) / EXPLAINED, 1)

    def _refined(self, matrix: Array, strength: Image) -> Array:
        """Return a homography by which the page's print agrees with the reference's."""
        height, width = self.shape
        # Coordinates of about 1 keep the equations well conditioned.
        norm = np.array([[2 / width, 0, -1], [0, 2 / width, -height / width], [0, 0, 1]])
        back = np.linalg.inv(norm)
        for level in self.levels:
            points = np.stack([level.columns, level.rows, np.ones(len(level.rows))])
            x, y, _ = norm @ points
            gx, gy = level.slopes.T * (width / 2)
            along = -(gx * x + gy * y)
            jacobian = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy, along * x, along * y])
            for _ in range(level.repeats):
                error, weight = self._errors(level, matrix, strength=strength)
                weighed = jacobian * weight
                step, *_ = np.linalg.lstsq(weighed @ jacobian.T, weighed @ error, rcond=1e-9)
                change = np.append(step, 0).reshape(3, 3) + np.eye(3)
                matrix = matrix @ back @ change @ norm
                matrix /= matrix[2, 2]
        return matrix

    def _errors(self, level: Level, matrix: Array, *, strength: Image) -> tuple[Any, Any]:
        """Return by how much the reference's pixels are stronger than the page's, and weights."""
        page = _blurred(_warp(strength, matrix, shape=self.shape), level.blur)
        error = level.strength - page[level.rows, level.columns]
        return error, 1 / (1 + (error / AGREES) ** 2) ** 2

    def _shifts(self, matrix: Array, strength: Image, *, boxes: Array) -> Array:
        """Return by how many pixels of the small reference each field is shifted, (n, 2)."""
        shifts = np.zeros((len(boxes), 2))
        for level in self.levels[1:]:
            warped = _blurred(_warp(strength, matrix, shape=self.shape), level.blur)
            for _ in range(2):
                for number, (left, top, right, bottom) in enumerate(boxes):
                    chosen = np.flatnonzero(
                        (level.rows > top - AROUND)
                        & (level.rows < bottom + AROUND)
                        & (level.columns > left - AROUND)
                        & (level.columns < right + AROUND)
                    )
                    if not len(chosen):
                        continue
                    at = (
                        level.columns[chosen] + shifts[number, 0],
                        level.rows[chosen] + shifts[number, 1],
                    )
                    page = _at(warped, x=at[0], y=at[1])
                    error = level.strength[chosen] - page
                    weight = 1 / (1 + (error / AGREES) ** 2) ** 2
                    slopes = level.slopes[chosen]
                    square = (slopes * weight[:, None]).T @ slopes
                    square += np.eye(2) * STIFF * np.trace(square)
                    step = np.linalg.lstsq(square, slopes.T @ (weight * error), rcond=None)[0]
                    shifts[number] = (shifts[number] + step).clip(-FARTHEST, FARTHEST)
        return shifts


def _at(image: Image, *, x: Array, y: Array) -> Image:
    """Return an image's values between its pixels."""
    maps = x.astype(np.float32)[None], y.astype(np.float32)[None]
    return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]


def _small(levels: Pixels) -> tuple[Pixels, float]:
    """Return a picture at the common scale, and the factor of its sides."""
    scale = SIDE / max(levels.shape)
    size = [max(1, round(side * scale)) for side in levels.shape[::-1]]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(levels, size, interpolation=way), scale


def _print_of(small: Pixels) -> tuple[Pixels, Image]:
    """Return a picture in even light, and the strength of its dark strokes, 0…1."""
    paper = cv2.blur(small.astype(np.float32), (ROOM, ROOM), borderType=cv2.BORDER_REPLICATE)
    dark = 1 - small / np.maximum(paper, 8)
    even = (170 - 120 * dark).clip(0, 255).astype(np.uint8)
    strong = dark[dark > 0.1]
    full = max(float(np.percentile(strong, 80)) if len(strong) else 1.0, 0.15)
    return even, ((dark - 0.04) / full).clip(0, 1).astype(np.float32)


def _features_of(even: Pixels) -> Features:
    """Find the features of a picture."""
    sift = cv2.SIFT.create(FEATURES, contrastThreshold=0.02)
    keys, found = sift.detectAndCompute(even, None)
    if found is None:
        none = np.zeros(0)
        return Features(np.zeros((0, 2)), none, none, np.zeros((0, 128), np.float32))
    # The root of a histogram compares better than the histogram (Arandjelović, Zisserman 2012).
    roots = np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6))
    places = np.array([(*key.pt, key.size, key.angle) for key in keys])
    return Features(places[:, :2], places[:, 2], places[:, 3], roots.astype(np.float32))


def _level(strength: Image, *, blur: float, repeats: int) -> Level:
    soft = _blurred(strength, blur)
    dx = cv2.Sobel(soft, cv2.CV_32F, 1, 0) / 8
    dy = cv2.Sobel(soft, cv2.CV_32F, 0, 1) / 8
    size = np.hypot(dx, dy)
    rows, columns = np.nonzero(size > 0.15 * float(size.max(initial=0)))
    some = np.arange(0, len(rows), max(1, len(rows) // 40_000))
    rows, columns = rows[some], columns[some]
    slopes = np.stack([dx[rows, columns], dy[rows, columns]], axis=1)
    return Level(blur, repeats, rows, columns, soft[rows, columns], slopes)


def _blurred(image: Image, blur: float) -> Image:
    return cv2.GaussianBlur(image, (0, 0), blur)


def _warp(image: Image, matrix: Array, *, shape: tuple[int, ...]) -> Image:
    """Return a picture of the page as the reference shows it."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(image, matrix, shape[::-1], flags=flags)


def _corners(shape: tuple[int, ...]) -> Array:
    height, width = shape
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def _is_sane(matrix: Array, shape: tuple[int, ...]) -> bool:
    """Return True if a sheet of paper can be seen like this: convex, not mirrored, no sliver."""
    height, width = shape
    corners = _corners(shape)
    depth = np.hstack([corners, np.ones((4, 1))]) @ matrix[2]
    if not np.isfinite(matrix).all() or depth.min() <= 0 or depth.max() > 3 * depth.min():
        return False
    seen = cv2.perspectiveTransform(corners[None], matrix)[0]
    sides = np.roll(seen, -1, axis=0) - seen
    turns = np.array(
        [a[0] * b[1] - a[1] * b[0] for a, b in zip(sides, np.roll(sides, -1, 0), strict=True)]
    )
    lengths = np.linalg.norm(sides, axis=1) / np.array([width, height, width, height])
    return bool(
        (turns > 0).all()
        and lengths.min() > 0.2
        and lengths.max() < 5
        and lengths.max() < 3 * lengths.min()
    )
