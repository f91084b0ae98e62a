"""The row of a file."""

from typing import NamedTuple

from nnpipe.classifier import Reading


class Row(NamedTuple):
    """The columns of a table."""

    path: str  # relative to the source, see `places.encode_path`
    status: str  # "ok", "rejected" or "error"
    label: int | None
    confidence: float | None  # the largest probability; rounded to six digits, like all of them
    p0: float | None
    p1: float | None
    p2: float | None
    p3: float | None
    p4: float | None
    p5: float | None
    p6: float | None
    p7: float | None
    p8: float | None
    p9: float | None
    reason: str
    width: int | None
    height: int | None
    sha256: str | None  # of the file's bytes; None if they cannot be read


NO_PROBABILITIES = (None,) * 10
"""The probabilities of a file that cannot be read."""


def to_row(path: str, reading: Reading, *, digest: str | None) -> Row:
    """Put a file's reading into its row."""
    r, shares = reading, reading.probabilities or NO_PROBABILITIES
    about = (r.reason, r.width, r.height, digest)
    return Row._make((path, r.status, r.label, r.confidence, *shares, *about))
