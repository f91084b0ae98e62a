"""Lists of paths: texts that name what is to be scored."""

import codecs
import hashlib
from collections.abc import Iterator
from itertools import chain
from os.path import lexists
from typing import IO

from nnpipe.errors import ScoringError
from nnpipe.kinds import kind_of

BLOCK = 2**20
"""Bytes that are read at a time."""

LONGEST = 2**16
"""Bytes that a path has at most."""

CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r")
"""Bytes that no line of a text has. A path with one of them is listed with NUL as its end."""

ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by their byte order mark; PowerShell writes UTF-16. Other lists are bytes, as paths are
on Linux, and may begin with the mark of UTF-8."""


class PathList:
    """A text of paths, one to a line or each ended by NUL.

    Args:
        name: the name of the list in messages.
        stream: the text.
        copy: a file that keeps the text for `paths`, if the stream can be read only once.

    Raises:
        ScoringError: the stream cannot be read, or is no text of paths.
    """

    def __init__(self, name: str, stream: IO[bytes], copy: IO[bytes] | None = None) -> None:
        self._name, self._stream = name, copy or stream
        digest = hashlib.sha256()

        def kept() -> Iterator[bytes]:
            for block in self._read(stream):
                digest.update(block)
                if copy:
                    copy.write(block)
                yield block

        blocks = self._decode(kept())
        first = next(blocks, b"")
        self._end = b"\0" if b"\0" in first else b"\n"
        self._check_first(first)
        for block in chain([first], blocks):
            if len(block) >= LONGEST and self._end not in block:
                raise self._refusal("one of its lines is too long for a path")
            if self._end == b"\n" and not CONTROLS.isdisjoint(block):
                raise self._refusal("it is no text")
        self.digest = digest.hexdigest()  # SHA-256 of the stream

    def paths(self) -> Iterator[bytes]:
        """Give all paths in their order, without empty lines."""
        self._stream.seek(0)
        rest = b""
        for block in self._decode(self._read(self._stream)):
            *lines, rest = (rest + block).split(self._end)
            yield from self._stripped(lines)
        yield from self._stripped([rest])

    def _stripped(self, lines: list[bytes]) -> Iterator[bytes]:
        return filter(None, lines if self._end == b"\0" else (line.rstrip(b"\r") for line in lines))

    def _read(self, stream: IO[bytes]) -> Iterator[bytes]:
        try:
            while block := stream.read(BLOCK):
                yield block
        except OSError as error:
            raise ScoringError(f"{self._name}: cannot be read ({error.strerror})") from None

    def _decode(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The blocks as they are, or, after a byte order mark, in UTF-8."""
        first = next(blocks, b"")
        encoding = next((e for mark, e in ENCODINGS.items() if first.startswith(mark)), None)
        if not encoding:
            yield from chain([first.removeprefix(codecs.BOM_UTF8)], blocks)
            return
        try:
            # A name on Windows may hold half of a surrogate pair.
            for text in codecs.iterdecode(chain([first], blocks), encoding, "surrogatepass"):
                yield text.encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self._refusal(f"it begins as {encoding.upper()}, but is none") from None

    def _check_first(self, block: bytes) -> None:
        if (kind := kind_of(block)) not in (None, "text"):
            raise self._refusal(f"its content is {kind}")
        paths = [path for path in block.split(b"\0") if path]
        # A path may hold any byte but NUL: whether the first one is there tells a list.
        if self._end == b"\0" and paths and not lexists(paths[0]):
            if not CONTROLS.isdisjoint(b"".join(paths)):
                raise self._refusal("it is no text")
            if len(paths) > 1 and max(map(len, paths)) == 1:
                raise self._refusal("it looks like UTF-16 without a byte order mark")

    def _refusal(self, why: str) -> ScoringError:
        return ScoringError(
            f"{self._name}: is no list of paths ({why}); expected a folder, a .zip, a .tar, or a "
            "text with one path to a line; 'nnpipe predict' reads a single picture"
        )
