"""Other sets in MNIST's format: four files in a folder, such as EMNIST's digits or QMNIST.

    train-images-idx3-ubyte  train-labels-idx1-ubyte  t10k-images-idx3-ubyte  t10k-labels-idx1-ubyte

Each may be gzipped, with ``.gz`` at its end. A longer name that has one of these parts will do:
EMNIST calls them ``emnist-digits-train-images-idx3-ubyte.gz``, and its test files ``…-test-…``.
QMNIST's labels, ``qmnist-train-labels-idx2-int.gz``, are rows of integers; the first is the digit.
"""

import re
from pathlib import Path

import numpy as np

from nnpipe.datasets.mnist import read_idx
from nnpipe.errors import DatasetError
from nnpipe.preprocess import SIDE

FILE = re.compile(
    r"(?:.*[-_])?(train|t10k|test)-(images|labels)[-.].*(?:ubyte|int)(?:\.gz)?", re.IGNORECASE
)

LEAST = 100
"""Pictures of the smallest part."""

MOST = 1_000_000
"""Pictures of the largest part."""

Part = tuple[np.ndarray, np.ndarray]


def read(folder: Path) -> tuple[Part, Part]:
    """Read the training and the test digits, as (images, labels) each.

    Raises:
        DatasetError: a file is missing, there is more than one of a kind, or what they hold is no
            set of digits.
    """
    try:
        names = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed ({error.strerror})") from None
    parts = []
    for part in ("train", "t10k"):
        images, labels = (
            _one(names, folder, part=part, kind=kind) for kind in ("images", "labels")
        )
        parts.append(_checked(images, labels))
    return parts[0], parts[1]


def _one(names: list[Path], folder: Path, *, part: str, kind: str) -> Path:
    """Return the file of a part."""
    matches = [(path, FILE.fullmatch(path.name)) for path in names]
    wanted = ("t10k", "test") if part == "t10k" else (part,)
    found = [path for path, m in matches if m and m[1] in wanted and m[2] == kind]
    if len(found) != 1:
        many = f"has {len(found)} files" if found else "has no file"
        raise DatasetError(
            f"{folder}: {many} such as {part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz; "
            "expected one"
        )
    return found[0]


def _checked(images: Path, labels: Path) -> Part:
    """Read a part, and check sizes, counts and labels."""
    pixels, digits = read_idx(images), read_idx(labels)
    if digits.ndim == 2:
        digits = digits[:, 0]
    if pixels.dtype != np.uint8:
        raise DatasetError(f"{images}: its pixels are no bytes")
    if pixels.shape[1:] != (SIDE, SIDE):
        shape = "×".join(map(str, pixels.shape[1:])) or "no sides"
        raise DatasetError(f"{images}: its pictures have {shape} pixels, expected {SIDE}×{SIDE}")
    if digits.shape != (len(pixels),):
        raise DatasetError(
            f"{labels}: has {len(digits):,} labels, and {images.name} has {len(pixels):,} pictures"
        )
    if not LEAST <= len(pixels) <= MOST:
        raise DatasetError(f"{images}: has {len(pixels):,} pictures, expected {LEAST} to {MOST:,}")
    if (wrong := digits[(digits < 0) | (digits > 9)]).size:
        raise DatasetError(f"{labels}: has the label {wrong[0]}; expected digits, 0 to 9")
    if lacking := set(range(10)) - set(digits.tolist()):
        raise DatasetError(f"{labels}: no picture has the label {min(lacking)}; expected all ten")
    digits = digits.astype(np.uint8)
    return np.swapaxes(pixels, 1, 2) if _is_lying(pixels[digits == 1]) else pixels, digits


def _is_lying(ones: np.ndarray) -> bool:
    """Return True if ones, (n, 28, 28), are wider than high: EMNIST swaps rows and columns."""
    ink = ones.sum(axis=0, dtype=np.float64)
    place = np.arange(SIDE) - (SIDE - 1) / 2
    return bool(ink.sum(axis=0) @ place**2 > ink.sum(axis=1) @ place**2)
