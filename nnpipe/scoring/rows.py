"""The row of a file: its columns, and how its path is written."""

import os
import re
from typing import NamedTuple

from nnpipe.classifier import Reading
from nnpipe.places import CONTROLS


class Row(NamedTuple):
    """What is known of one file, alike in every sink."""

    path: str  # relative to the source, see `encode_path`
    status: str  # "ok", "rejected" or "error"
    label: int | None
    confidence: float | None  # as the probabilities, rounded to six digits
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


NOTHING = (None,) * 10


def to_row(path: str, reading: Reading, digest: str | None) -> Row:
    """Put a file's reading into its row."""
    status, label, confidence, shares, reason, width, height, _ = vars(reading).values()
    return Row._make(
        (path, status, label, confidence, *(shares or NOTHING), reason, width, height, digest)
    )


UNSAFE = re.compile(f"{CONTROLS.pattern}|\n")
"""Characters that break a line, control a terminal, or turn the direction of text."""


def encode_path(name: str | bytes) -> str:
    r"""Write a file's name, or its path, as text from which `decode_path` gets it back.

    A file's name is bytes, and need not be UTF-8. Each byte that is not UTF-8, and each byte of an
    `UNSAFE` character, becomes ``\xff``; a backslash doubles, so that no two names become one. The
    order of the texts is that of the bytes, except for the names in which this happens.
    """
    text = os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return UNSAFE.sub(lambda match: "".join(f"\\x{b:02x}" for b in match[0].encode()), text)


def decode_path(text: str) -> bytes:
    r"""The bytes of the name or path that `encode_path` wrote as ``text``."""
    if "\\" not in text:
        return text.encode()
    return re.sub(
        rb"\\(?:\\|x([0-9a-f]{2}))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\",
        text.encode(),
    )
