"""Sources of pictures: folders, patterns, single files, archives, URLs, and lists of paths."""

import codecs
import glob
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from os.path import lexists
from pathlib import Path
from typing import IO

from nnpipe.errors import ScoringError
from nnpipe.kinds import FIRST, kind_of
from nnpipe.places import Place, encode_path, in_one_line, is_url
from nnpipe.preprocess.decoders import KINDS
from nnpipe.scoring import local
from nnpipe.scoring.entries import Entry, Skip, Source
from nnpipe.scoring.remote import Remote, remote

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


@contextmanager
def open_source(source: str, outputs: Sequence[Place] = (), *, settle: int = 0) -> Iterator[Source]:
    """Find out what kind of source is meant, and keep it open while the block runs.

    Args:
        source: a folder; a pattern (``scans/*/*.png``, ``**`` for any folders); a picture, a PDF
            or another file of pages; a text file of paths, one per line or each ended by NUL, or
            ``-`` for such a text on stdin; a .zip or .tar file; or a URL of a folder or pattern.
        outputs: the outputs of this run, which are not part of the source.
        settle: age in seconds below which a file of this machine waits for the next run.

    Raises:
        ScoringError: the source does not exist, or is none of these.
    """
    if not source:
        raise ScoringError("the source has no name; expected a folder, a list, an archive or a URL")
    path, shown = Path(source), in_one_line(source)
    if source == "-":
        if sys.stdin is None:
            raise ScoringError("stdin: is closed; expected a list of paths")
        with tempfile.TemporaryFile() as copy:
            yield _listed(PathList("stdin", sys.stdin.buffer, copy=copy), settle=settle)
    elif is_url(source):
        yield remote(source, outputs)
    elif path.is_dir():
        yield local.folder(source, outputs, settle=settle)
    elif path.suffix.lower() in (".zip", ".tar") and path.is_file():
        yield remote(f"{path.suffix[1:].lower()}://::file://{path.resolve()}")
    elif path.is_file():
        with open(path, "rb") as stream:
            if kind_of(stream.read(FIRST)) in KINDS:
                yield local.single(source, settle=settle)
                return
            stream.seek(0)
            yield _listed(PathList(shown, stream), settle=settle)
    elif path.exists():
        why = "is a pipe, a socket or a device; to score what it lists, give - and redirect stdin"
        raise ScoringError(f"{shown}: {why}")
    elif glob.has_magic(source):
        yield local.pattern(source, outputs, settle=settle)
    else:
        file, _, page = source.rpartition("#")
        pages = page.isdigit() and Path(file).is_file()
        hint = "; leave out the page: all pages of a file are scored" if pages else ""
        raise ScoringError(f"{shown}: cannot be listed (there is no such file or folder){hint}")


def _listed(paths: PathList, *, settle: int) -> Source:
    """Return the files of a list; relative paths count from the working folder."""
    first = os.fsdecode(next(paths.paths(), b""))
    if not first:
        raise ScoringError(f"{paths.name}: is an empty list; expected one path per line")
    folder = os.getcwd()
    reader = Remote(first, "") if is_url(first) else local.Local(folder)

    def entries(skip: Skip) -> Iterator[Entry]:
        for path in paths.paths():
            if isinstance(reader, Remote):
                yield Entry(encode_path(path))
            else:
                file = os.path.join(os.fsencode(folder), path)
                yield from local.entry_of(path, file, skip=skip, settle=settle)

    return Source(f"a list ({paths.digest}) in {folder}", reader, entries, named=True)
