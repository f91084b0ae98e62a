"""Pictures that are there twice, pixel for pixel."""

from dataclasses import dataclass
from hashlib import blake2b

from nnpipe.network import Array


@dataclass(frozen=True)
class Duplicate:
    """Two pictures with the same pixels."""

    index: int
    earlier: int  # in the other set, or before it in its own
    label: int
    earlier_label: int


def among(
    pixels: Array, labels: Array, others: Array, other_labels: Array
) -> tuple[Duplicate, ...]:
    """Find the pictures that also lie among others; a copy among the others counts once.

    Args:
        pixels: uint8, shape (n, 28, 28).
        labels: shape (n,).
        others: uint8, shape (m, 28, 28).
        other_labels: shape (m,).
    """
    seen = {_hash(picture): i for i, picture in reversed(list(enumerate(others)))}
    pairs = ((i, seen.get(_hash(picture))) for i, picture in enumerate(pixels))
    return tuple(
        Duplicate(i, j, int(labels[i]), int(other_labels[j])) for i, j in pairs if j is not None
    )


def repeated(pixels: Array, labels: Array) -> tuple[Duplicate, ...]:
    """Find the pictures that came before in the same set."""
    first: dict[bytes, int] = {}
    pairs = ((i, first.setdefault(_hash(picture), i)) for i, picture in enumerate(pixels))
    return tuple(Duplicate(i, j, int(labels[i]), int(labels[j])) for i, j in pairs if j < i)


def _hash(picture: Array) -> bytes:
    return blake2b(picture.tobytes(), digest_size=16).digest()
