"""Guesses of where a page shows a form, by its distinctive places.

They are matched by SIFT (Lowe 2004, "Distinctive Image Features from Scale-Invariant Keypoints"),
whatever the turn, the size and the perspective of a page.
"""

from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.forms.geometry import Array, is_sane
from nnpipe.forms.strokes import Image
from nnpipe.preprocess.pictures import Pixels

MOST = 2000
"""Most features of a picture."""

RATIO = 0.85
"""Distance of the best match, as a share of the second best's, at which it is believed."""


class Features(NamedTuple):
    """Distinctive places of a picture."""

    points: Array  # (n, 2)
    descriptors: Image  # (n, 128), of length 1
    shape: tuple[int, ...]  # of the picture

    def guesses(self, page: "Features") -> list[Array]:
        """Return homographies from a form with these features to a page, (3, 3)."""
        if min(len(self.points), len(page.points)) < 4:
            return []
        alike = self.descriptors @ page.descriptors.T
        best = alike.argmax(axis=1)
        first, second = -np.partition(-alike, 1, axis=1)[:, :2].T
        # The squared distance of two descriptors of length 1 is 2 − 2 cos.
        sure = (1 - first) < RATIO**2 * (1 - second)
        here, there = self.points[sure], page.points[best[sure]]
        if len(here) < 4:
            return []
        full, _ = cv2.findHomography(
            here, there, cv2.USAC_MAGSAC, 4.0, maxIters=2000, confidence=0.9999
        )
        part, _ = cv2.estimateAffinePartial2D(
            here, there, method=cv2.RANSAC, ransacReprojThreshold=12.0, maxIters=2000
        )
        guesses = full, None if part is None else np.vstack([part, [0, 0, 1]])
        return [one for one in guesses if one is not None and is_sane(one, self.shape)]


def features_of(even: Pixels) -> Features:
    """Find the features of a picture in even light."""
    sift = cv2.SIFT.create(MOST, contrastThreshold=0.02)
    keys, descriptors = sift.detectAndCompute(even, None)
    if descriptors is None:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32), even.shape)
    # The root of a histogram compares better than the histogram (Arandjelović, Zisserman 2012).
    total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    places = np.array([key.pt for key in keys])
    return Features(places, np.sqrt(descriptors / total).astype(np.float32), even.shape)
