"""Pictures that occur twice, pixel for pixel."""

from dataclasses import dataclass
from hashlib import blake2b

from nnpipe.network import Array


@dataclass(frozen=True)
class Duplicate:
    """A picture with the same pixels as an earlier one."""

    index: int
    earlier: int  # index in the other set, or an earlier one in the same set
    label: int
    earlier_label: int


def among(
    pixels: Array, labels: Array, *, others: Array, other_labels: Array
) -> tuple[Duplicate, ...]:
    """Find pictures that also occur in another set; only the first copy there counts.

    Args:
        pixels: uint8, shape (n, 28, 28).
        labels: shape (n,).
        others: uint8, shape (m, 28, 28).
        other_labels: shape (m,).
    """
    first = {_hash(picture): i for i, picture in reversed(list(enumerate(others)))}
    pairs = ((i, first.get(_hash(picture))) for i, picture in enumerate(pixels))
    return tuple(
        Duplicate(i, j, int(labels[i]), int(other_labels[j])) for i, j in pairs if j is not None
    )


def repeated(pixels: Array, labels: Array) -> tuple[Duplicate, ...]:
    """Find pictures that occur earlier in the same set."""
    matches = among(pixels, labels, others=pixels, other_labels=labels)
    return tuple(match for match in matches if match.earlier < match.index)


def _hash(picture: Array) -> bytes:
    return blake2b(picture.tobytes(), digest_size=16).digest()
