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


def find(
    pixels: Array, labels: Array, *, earlier: tuple[Array, Array] | None = None
) -> tuple[Duplicate, ...]:
    """Find pictures that also occur earlier; only the first copy there counts.

    Args:
        pixels: uint8, shape (n, 28, 28).
        labels: shape (n,).
        earlier: pixels and labels of another set; by default, earlier pictures of the same set.
    """
    others, other_labels = earlier or (pixels, labels)
    first = {_hash(picture): i for i, picture in reversed(list(enumerate(others)))}
    pairs = ((i, first.get(_hash(picture))) for i, picture in enumerate(pixels))
    return tuple(
        Duplicate(i, j, int(labels[i]), int(other_labels[j]))
        for i, j in pairs
        if j is not None and (earlier or j < i)
    )


def _hash(picture: Array) -> bytes:
    return blake2b(picture.tobytes(), digest_size=16).digest()
