"""The data sets: MNIST, and digits that nnpipe draws.

Both have 55,000 training, 5,000 validation and 10,000 test digits. Every choice is made on the
validation digits; the test digits are only reported on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnpipe.datasets import drawn, idx, mnist
from nnpipe.errors import DatasetError, MirrorError
from nnpipe.files import replacing, sha256
from nnpipe.preprocess import Pixels
from nnpipe.settings import IDX, DataSet, DataSource

VALIDATION = 5_000
DRAWN_TRAINING, DRAWN_TEST = 60_000, 10_000
DRAWN_SEED = 0

OWN_SHARE, MOST_OFTEN = 0.05, 50
"""Pictures of one's own count as much as this share of the training digits; but none is shown more
often than this in an epoch."""

log = logging.getLogger(__name__)


class Digits(NamedTuple):
    """Pictures of digits and their labels."""

    images: Pixels  # uint8 (n, 28, 28), white ink (255) on black (0)
    labels: np.ndarray  # uint8 (n,), 0…9


@dataclass(frozen=True)
class Dataset:
    """A data set in its three parts."""

    name: str  # "mnist" or "drawn"
    checksum: str  # SHA-256 over all images and labels
    training: Digits
    validation: Digits
    test: Digits
    own: Digits | None = None  # pictures of one's own to learn from as well
    own_checksum: str = ""  # SHA-256 of these

    @property
    def examples(self) -> Digits:
        """All pictures to learn from. Those of one's own count as much as `OWN_SHARE` says."""
        if not self.own:
            return self.training
        images, labels = self.training
        often = round(OWN_SHARE * len(labels) / len(self.own.labels))
        often = min(max(often, 1), MOST_OFTEN)
        return Digits(
            np.concatenate([images, *[self.own.images] * often]),
            np.concatenate([labels, *[self.own.labels] * often]),
        )


def prepare(
    name: DataSource,
    folder: Path,
    *,
    mirror: str | None = None,
    fetch: Callable[[Path, str | None], None] = mnist.fetch,
) -> DataSet:
    """Get a data set into a folder, unless it is there, and return its name.

    Args:
        name: "mnist", "drawn", or "auto": MNIST, or drawn digits if no mirror answers.
        folder: the folder of all data sets.
        mirror: where to get MNIST; see `mnist.fetch`.
        fetch: downloads MNIST; a flow passes a function that tries again.

    Raises:
        MirrorError: ``name`` is "mnist" and no mirror answers.
        DatasetError: a file is damaged or not the official one.
        OutputError: the data set cannot be written.
    """
    if name != "drawn":
        try:
            fetch(folder, mirror)
            return "mnist"
        except MirrorError as error:
            if name == "mnist":
                raise
            what = "digits that nnpipe draws, so figures say nothing about MNIST"
            log.warning("NOT MNIST, but %s: %s", what, error)
    load_drawn(folder)
    return "drawn"


def load(name: str, folder: Path) -> Dataset:
    """Load a data set from the folder of all data sets.

    Raises:
        DatasetError: it is missing or damaged, or ``name`` is none of "mnist", "drawn" and
            "idx:FOLDER".
    """
    if name not in ("mnist", "drawn") and not name.startswith(IDX):
        raise DatasetError(f"there is no data set '{name}'; expected mnist, drawn or idx:FOLDER")
    if name.startswith(IDX):
        training, test = idx.read(Path(name.removeprefix(IDX)))
    else:
        training, test = load_drawn(folder) if name == "drawn" else mnist.read(folder)
    official, test = Digits(*training), Digits(*test)
    held_out = validation_indices(official.labels)
    others = np.setdiff1d(np.arange(len(official.labels)), held_out)
    return Dataset(
        name=name,
        checksum=sha256(b"".join(array.tobytes() for array in (*official, *test))),
        training=Digits(official.images[others], official.labels[others]),
        validation=Digits(official.images[held_out], official.labels[held_out]),
        test=test,
    )


def validation_indices(labels: np.ndarray) -> np.ndarray:
    """Return the sorted indices of the validation digits: always the same, each digit by its share.

    `RandomState` is NumPy's frozen generator: its stream is the same in every version, but that of
    `default_rng` may change (NEP 19).
    """
    size = min(VALIDATION, len(labels) // 12)
    counts = np.bincount(labels, minlength=10) * size / len(labels)
    quota = counts.astype(int)
    # The few that are left after rounding down go to the digits that lost the most.
    quota[np.argsort(quota - counts, kind="stable")[: size - quota.sum()]] += 1
    frozen = np.random.RandomState(0)
    orders = (frozen.permutation(np.flatnonzero(labels == digit)) for digit in range(10))
    return np.sort(np.concatenate([order[:n] for order, n in zip(orders, quota, strict=True)]))


def load_drawn(folder: Path) -> tuple[Digits, Digits]:
    """Load the drawn training and test digits; draw them first if need be.

    The name of the file has a hash of the code that draws, so digits of older code are not used.
    """
    code = sha256(Path(drawn.__file__).read_bytes())[:12]
    path = folder / "drawn" / f"drawn-{code}-seed{DRAWN_SEED}.npz"
    sizes = {"train": DRAWN_TRAINING, "test": DRAWN_TEST}
    if not path.exists():
        log.info("drawing %s digits, once", f"{DRAWN_TRAINING + DRAWN_TEST:,}")
        arrays: dict[str, np.ndarray] = {}
        streams = np.random.default_rng(DRAWN_SEED).spawn(2)
        for rng, (part, n) in zip(streams, sizes.items(), strict=True):
            labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)  # balanced
            arrays |= {f"{part}_images": drawn.draw(labels, rng), f"{part}_labels": labels}
        with replacing(path) as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            training, test = (Digits(file[f"{p}_images"], file[f"{p}_labels"]) for p in sizes)
            return training, test
    except Exception as error:  # NumPy can raise anything for a damaged file
        raise DatasetError(f"{path}: is damaged ({error}); remove it to draw it again") from error
