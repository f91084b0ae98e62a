"""Lists of paths: texts that name the files to score."""

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from os.path import lexists
from typing import IO

from nnpipe.errors import ScoringError
from nnpipe.kinds import kind_of

BLOCK = 2**20
"""Bytes read at a time."""

LONGEST = 2**16
"""Longest path, in bytes."""

CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r")
"""Bytes that no line of a text holds. Paths that hold one of them must be separated by NUL."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks of UTF-16, in which PowerShell writes lists. All other lists are read as bytes,
like paths on Linux, and may begin with the mark of UTF-8."""


class PathList:
    """A text of paths, one per line or each ended by NUL.

    Args:
        name: the name of the list in messages.
        stream: the text.
        copy: a file that keeps the text for `paths`, if the stream can be read only once.

    Raises:
        ScoringError: the stream is not a list of paths.
    """

    def __init__(self, name: str, stream: IO[bytes], *, copy: IO[bytes] | None = None) -> None:
        self.name, self._stream = name, copy or stream
        digest = hashlib.sha256()

        def copied() -> Iterator[bytes]:
            for block in _blocks(stream):
                digest.update(block)
                if copy:
                    copy.write(block)
                yield block

        blocks = self._decoded(copied())
        first = next(blocks, b"")
        if (kind := kind_of(first)) not in (None, "text"):
            raise self._refusal(f"its content is {kind}")
        self._end = b"\0" if b"\0" in first else b"\n"
        paths = [path for path in first.split(b"\0") if path]
        # A path may hold any byte but NUL. If the first path exists, this is a list; if not, look
        # at the bytes.
        if self._end == b"\0" and paths and not lexists(paths[0]):
            if not CONTROLS.isdisjoint(b"".join(paths)):
                raise self._refusal("it is no text")
            if len(paths) > 1 and max(map(len, paths)) == 1:
                raise self._refusal("it looks like UTF-16 without a byte order mark")
        for block in chain([first], blocks):
            is_text = self._end == b"\0" or CONTROLS.isdisjoint(block)
            if not is_text or (len(block) > LONGEST and self._end not in block):
                raise self._refusal("it is no text with lines")
        self.digest = digest.hexdigest()  # SHA-256 of the stream

    def paths(self) -> Iterator[bytes]:
        """Yield all paths in their order, without empty lines."""
        self._stream.seek(0)
        rest, return_ = b"", b"\r" if self._end == b"\n" else b""
        for block in chain(self._decoded(_blocks(self._stream)), [self._end]):
            *lines, rest = (rest + block).split(self._end)
            yield from filter(None, (line.rstrip(return_) for line in lines))

    def _decoded(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the blocks as they are, or, if they are UTF-16, in UTF-8."""
        first = next(blocks := iter(blocks), b"")
        blocks = chain([first.removeprefix(codecs.BOM_UTF8)], blocks)
        if not first.startswith(UTF_16):
            yield from blocks
            return
        try:
            # A name on Windows may hold half of a surrogate pair.
            for text in codecs.iterdecode(blocks, "utf-16", "surrogatepass"):
                yield text.encode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise self._refusal("it begins as UTF-16, and is none") from None

    def _refusal(self, why: str) -> ScoringError:
        return ScoringError(
            f"{self.name}: is no list of paths ({why}); expected a folder, a .zip, a .tar, or a "
            "text with one path per line",
            advice="predict",
        )


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(partial(stream.read, BLOCK), b"")
