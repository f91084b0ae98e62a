"""Guesses of where a page shows a form: turned and scaled prints are laid on it everywhere.

A sheet of equal boxes has hardly any feature that is unlike all others, but only one place at which
all of its lines fall on lines. Correlation by Fourier transform tries all places at once.
"""

from typing import Any

import cv2
import numpy as np

from nnpipe.forms.geometry import Array, corners, mapped
from nnpipe.forms.strokes import SIDE, Image, blurred

SIDES = 128
"""Sides of the square on which prints are correlated, in pixels."""

FILLED = 0.85
"""Share of the square's side that a page takes; the rest is room for turns."""

ANGLES = np.arange(-12, 13, 3)
"""Degrees by which the form may be turned, besides quarters."""

SCALES = 1.04 ** np.arange(-9, 5)
"""Sizes of the form on the page."""

TRIED = 100
"""Best turns and scales whose places are compared."""

APART = 25.0
"""Distance of their corners below which two places are the same, in pixels of the page."""


class Correlation:
    """The print of a form, turned and scaled.

    Args:
        strength: of its strokes, (h, w).
    """

    def __init__(self, strength: Image) -> None:
        self.shape = strength.shape
        self.scale = SIDES * FILLED / SIDE
        soft = blurred(strength, 0.5 / self.scale)
        middle = np.array(self.shape[::-1]) / 2
        poses, spectra = [], []
        for angle in np.deg2rad(np.add.outer([0, 90, 180, 270], ANGLES).ravel()):
            for scale in SCALES * self.scale:
                cos, sin = scale * np.cos(angle), scale * np.sin(angle)
                turn = np.array([[cos, -sin], [sin, cos]])
                poses.append(np.column_stack([turn, SIDES / 2 - turn @ middle]))
                spectra.append(_spectrum(soft, poses[-1]).conj())
        self.poses, self.spectra = poses, spectra

    def guesses(self, strength: Image, *, count: int) -> list[Array]:
        """Return homographies from the form to a page, the most probable first.

        Args:
            strength: of the page's strokes, (h, w).
            count: of the homographies.
        """
        room = (SIDES - np.array(strength.shape[::-1]) * self.scale) / 2
        onto = np.column_stack([np.eye(2) * self.scale, room])
        page = _spectrum(blurred(strength, 0.5 / self.scale), onto)
        peaks = []
        for number, spectrum in enumerate(self.spectra):
            likeness = np.fft.irfft2(page * spectrum)
            place = int(likeness.argmax())
            peaks.append((float(likeness.flat[place]), number, place))
        guesses: list[Array] = []
        places: list[Array] = []
        back = np.linalg.inv(np.vstack([onto, [0, 0, 1]]))
        for _, number, place in sorted(peaks, reverse=True)[:TRIED]:
            guess = back @ _moved(self.poses[number], place)
            sheet = mapped(corners((0, 0, *self.shape[::-1])), guess)
            if all(np.abs(sheet - other).max() > APART for other in places):
                guesses.append(guess)
                places.append(sheet)
            if len(guesses) == count:
                break
        return guesses

    def repeats(self, strength: Image, *, count: int) -> list[Array]:
        """Return homographies by which the form may look like itself, at another place.

        Args:
            strength: of its own strokes, (h, w).
            count: of the homographies, upright and upside down.
        """
        middle = np.array(self.shape[::-1]) / 2
        soft = blurred(strength, 0.5 / self.scale)
        onto = np.column_stack([np.eye(2) * self.scale, SIDES / 2 - self.scale * middle])
        back, own = np.linalg.inv(np.vstack([onto, [0, 0, 1]])), _spectrum(soft, onto)
        sheet = corners((0, 0, *self.shape[::-1]))
        repeats = []
        for sign in (1, -1):
            turn = np.eye(2) * sign * self.scale
            pose = np.column_stack([turn, SIDES / 2 - turn @ middle])
            likeness = np.fft.irfft2(own * _spectrum(soft, pose).conj()).astype(np.float32)
            is_peak = likeness == cv2.dilate(likeness, np.ones((3, 3)))
            order = np.argsort(np.where(is_peak, -likeness, 1), axis=None)
            for place in order[:count].tolist():
                matrix = back @ _moved(pose, place)
                if np.abs(mapped(sheet, matrix) - sheet).max() > APART / 2:
                    repeats.append(matrix)
        return repeats


def _moved(pose: Array, place: int) -> Array:
    """Return the matrix, (3, 3), of a pose that is moved to a place of the correlation.

    Args:
        pose: matrix to the square, (2, 3).
        place: number of the pixel of the square; those in its second half are moves back.
    """
    y, x = ((n + SIDES // 2) % SIDES - SIDES // 2 for n in divmod(place, SIDES))
    return np.vstack([pose + np.array([[0, 0, x], [0, 0, y]]), [0, 0, 1]])


def _spectrum(strength: Image, matrix: Array) -> Any:
    """Return the Fourier transform of a picture that a matrix, (2, 3), maps onto the square."""
    image = cv2.warpAffine(strength, matrix, (SIDES, SIDES), flags=cv2.INTER_LINEAR)
    image -= image.mean()
    return np.fft.rfft2(image / max(float(np.linalg.norm(image)), 1e-6))
