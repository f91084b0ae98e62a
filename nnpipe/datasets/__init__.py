"""The digits to learn from: MNIST, or digits that the project draws itself.

Both come as 55,000 training, 5,000 validation and 10,000 test digits. Every choice is made on
validation; the test set is only ever reported on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnpipe.datasets import drawn, mnist
from nnpipe.errors import DatasetError, MirrorError
from nnpipe.files import replacing, sha256
from nnpipe.preprocess import Pixels
from nnpipe.settings import DataSet, DataSource

VALIDATION = 5_000
DRAWN_TRAINING, DRAWN_TEST = 60_000, 10_000
DRAWN_SEED = 0
NAMES = ("auto", "mnist", "drawn")

log = logging.getLogger(__name__)


class Digits(NamedTuple):
    """Pictures and what they show."""

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


def prepare(
    name: DataSource,
    folder: Path,
    *,
    mirror: str | None = None,
    fetch: Callable[[Path, str | None], None] = mnist.fetch,
) -> DataSet:
    """See to it that a data set lies below ``folder``, and return its name, "mnist" or "drawn".

    Args:
        name: "mnist", "drawn", or "auto": MNIST, or drawn digits if no mirror answers.
        folder: where data sets are kept.
        mirror: where to get MNIST, see `mnist.fetch`.
        fetch: what gets MNIST; a flow passes one that tries again.

    Raises:
        MirrorError: ``name`` is "mnist" and no mirror answers.
        DatasetError: a file is not what it should be, or ``name`` is unknown.
        OutputError: the data set cannot be written.
    """
    check_name(name)
    if name != "drawn":
        try:
            fetch(folder, mirror)
            return "mnist"
        except MirrorError as error:
            if name == "mnist":
                raise
            log.warning("%s", error)
            log.warning(
                "NOT MNIST: no mirror answered, so digits drawn by nnpipe itself are used instead; "
                "figures measured on them say nothing about MNIST"
            )
    load_drawn(folder)
    return "drawn"


def load(name: str, folder: Path) -> Dataset:
    """Load a data set that `prepare` has put below ``folder``.

    Raises:
        DatasetError: it is not there, damaged, or ``name`` is neither "mnist" nor "drawn".
    """
    check_name(name, NAMES[1:])
    training, test = load_drawn(folder) if name == "drawn" else mnist.read(folder)
    official, test = Digits(*training), Digits(*test)
    held_out = validation_indices(official.labels)
    kept = np.setdiff1d(np.arange(len(official.labels)), held_out)
    return Dataset(
        name=name,
        checksum=sha256(b"".join(array.tobytes() for array in (*official, *test))),
        training=Digits(official.images[kept], official.labels[kept]),
        validation=Digits(official.images[held_out], official.labels[held_out]),
        test=test,
    )


def validation_indices(labels: np.ndarray) -> np.ndarray:
    """Choose the same 5,000 of 60,000 each time, each digit by its share, in ascending order.

    `RandomState` is NumPy's frozen generator: its stream is the same in every version, while
    that of `default_rng` may change (NEP 19).
    """
    counts = np.bincount(labels, minlength=10) * VALIDATION / len(labels)
    quota = counts.astype(int)
    # The few that rounding down has left over go to the digits that lost most by it.
    quota[np.argsort(quota - counts, kind="stable")[: VALIDATION - quota.sum()]] += 1
    frozen = np.random.RandomState(0)
    return np.sort(
        np.concatenate(
            [
                frozen.permutation(np.flatnonzero(labels == digit))[: quota[digit]]
                for digit in range(10)
            ]
        )
    )


def check_name(name: str, known: tuple[str, ...] = NAMES) -> None:
    """Raise `DatasetError` for a data set that nobody knows."""
    if name not in known:
        raise DatasetError(f"there is no data set '{name}'; choose {', '.join(known)}")


def load_drawn(folder: Path) -> tuple[Digits, Digits]:
    """Draw 60,000 training and 10,000 test digits, or load them if they were drawn before.

    The file's name holds a hash of the code that draws, so digits of older code are not used.
    """
    code = sha256(Path(drawn.__file__).read_bytes())[:12]
    path = folder / "drawn" / f"drawn-{code}-seed{DRAWN_SEED}.npz"
    if not path.exists():
        log.info("drawing %s digits, once", f"{DRAWN_TRAINING + DRAWN_TEST:,}")
        # Balanced, and the test digits come from a stream of their own.
        streams = np.random.default_rng(DRAWN_SEED).spawn(2)
        sizes = {"train": DRAWN_TRAINING, "test": DRAWN_TEST}
        arrays: dict[str, np.ndarray] = {}
        for (part, n), rng in zip(sizes.items(), streams, strict=True):
            labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
            arrays |= {f"{part}_images": drawn.draw(labels, rng), f"{part}_labels": labels}
        with replacing(path) as stream:
            np.savez(stream, allow_pickle=False, **arrays)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return (
                Digits(file["train_images"], file["train_labels"]),
                Digits(file["test_images"], file["test_labels"]),
            )
    except Exception as error:  # NumPy raises whatever its parsers meet in a damaged file
        raise DatasetError(
            f"{path}: is damaged ({error}); remove it, and it will be drawn again"
        ) from error
