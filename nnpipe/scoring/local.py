"""Files of this machine: listing folders and patterns, single files, and reading."""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from nnpipe.errors import PictureError, ScoringError
from nnpipe.places import Place, RemotePath, decode_path, encode_path, in_one_line
from nnpipe.preprocess import SECONDS, read_file
from nnpipe.scoring.entries import MOST_LOST, WAITS, Content, Entry, Skip, Source, fixed_part, lost

JUST_NOW = 2 * 10**9
"""Age in ns below which a file may still change without getting a new time stamp."""

SKEW = 10 * 10**9
"""Times that are further ahead than this, in ns, are from a clock that was wrong. They are ignored,
so that such a file does not wait for years."""


class Local(NamedTuple):
    """Reads files below a folder; absolute paths are taken as they are."""

    root: str

    @property
    def seconds(self) -> int:
        """Time limit of reading one file."""
        return SECONDS

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """Read the bytes of each file.

        Raises:
            ScoringError: the folder is gone, or too many of its files are.
        """
        root = os.fsencode(self.root)
        in_a_row = 0
        for entry in entries:
            content: Content
            try:
                content = read_file(os.path.join(root, decode_path(entry.path)), regular=True)
            except PictureError as error:
                content = error
            except MemoryError:
                content = PictureError("the file takes more memory than can be had")
            in_a_row = in_a_row + 1 if self._is_lost(entry, content) else 0
            if in_a_row == MOST_LOST:
                why = f"{in_a_row} files in a row are lost (the last is {entry.path}: {content!s})"
                raise lost(self.root, why)
            yield content

    def _is_lost(self, entry: Entry, content: Content) -> bool:
        """Return True for a file that was listed and that the system can no longer read."""
        cause = content.__context__ if isinstance(content, PictureError) else None
        if not isinstance(cause, OSError) or not (entry.stamp or entry.size):
            return False
        if not entry.path.startswith("/"):
            _check_root(self.root)
        return not isinstance(cause, PermissionError)


def _check_root(root: str) -> None:
    """Check that a folder in which there were files is not gone, closed or empty."""
    try:
        with os.scandir(root) as items:
            if next(items, None):
                return
        why = "the folder is empty now"
    except OSError as error:
        why = str(error.strerror)
    raise lost(root, f"the files that were there are gone ({why})")


def folder(path: str, outputs: Sequence[Place], *, settle: int) -> Source:
    """Return the files below a folder as a source, without the outputs of this run."""
    root = os.path.realpath(path)
    walk = partial(_walk, os.fsencode(root), excluded=_absolute(outputs), settle=settle)
    return Source(root, Local(root), walk)


def pattern(text: str, outputs: Sequence[Place], *, settle: int) -> Source:
    """Return the files that match a pattern as a source, without the outputs of this run.

    Raises:
        ScoringError: ``**`` is only a part of a name, as in ``a**``; or the folder before the first
            wildcard cannot be listed.
    """
    base = fixed_part(text)
    root, rest = os.fsencode(os.path.realpath(base)), os.fsencode(text[len(base) :])
    if any(b"**" in part != b"**" for part in rest.split(b"/")):
        raise ScoringError(f"{in_one_line(text)}: ** stands for folders; put it between two /")
    try:
        os.scandir(root).close()  # Path.glob takes a folder that it cannot read as empty
    except OSError as error:
        raise ScoringError(f"{in_one_line(text)}: cannot be listed ({error.strerror})") from None
    rest += b"/*" if rest.endswith(b"**") else b""
    excluded = _absolute(outputs)
    below = tuple(output + b"/" for output in excluded)

    def entries(skip: Skip) -> Iterator[Entry]:
        # Unlike glob.glob, this ** does not follow links, which may form a circle.
        for match in Path(os.fsdecode(root)).glob(os.fsdecode(rest)):
            path = os.fsencode(match)
            name = path[len(root) :].lstrip(b"/")
            if path not in excluded and not path.startswith(below):
                yield from entry_of(name, path, skip=skip, settle=settle)

    identity = os.fsdecode(os.path.join(root, rest))
    # As in shells, * stands for no hidden file, but .* does.
    return Source(identity, Local(os.fsdecode(root)), entries, named=b"/." in b"/" + rest)


def single(path: str, *, settle: int) -> Source:
    """Return one file as a source."""
    file = os.fsencode(os.path.realpath(path))
    root, name = os.path.split(file)

    def entries(skip: Skip) -> Iterator[Entry]:
        yield from entry_of(name, file, skip=skip, settle=settle)

    return Source(os.fsdecode(file), Local(os.fsdecode(root)), entries, named=True)


def _absolute(places: Sequence[Place]) -> set[bytes]:
    """Return the absolute paths of those places that are on this machine."""
    paths = (path for path in places if not isinstance(path, RemotePath))
    return {os.fsencode(path.parent.resolve() / path.name) for path in paths}


def entry_of(name: bytes, path: bytes, *, skip: Skip, settle: int) -> Iterator[Entry]:
    """Yield the entry of a file. A broken link has one as well: its row gives the reason.

    Args:
        name: relative to the source.
        path: the file.
        skip: called if it is no file.
        settle: age in seconds below which a file waits for the next run.
    """
    try:
        status = os.stat(path)
    except OSError:
        yield Entry(encode_path(name))
        return
    if stat.S_ISDIR(status.st_mode):
        is_link = os.path.islink(path)
        skip(encode_path(name), "link to a folder" if is_link else "folder")
    elif not stat.S_ISREG(status.st_mode):
        skip(encode_path(name), "neither file nor folder")
    else:
        times = status.st_mtime_ns, status.st_ctime_ns  # the second changes when it is renamed
        now = time.time_ns()
        latest = max((ns for ns in times if ns < now + SKEW), default=0)
        stamp = f"{status.st_size}-{times[0]}-{times[1]}-{status.st_ino}"
        if settle and latest > now - settle * 10**9:
            stamp = WAITS
        elif max(latest, times[1]) >= now - JUST_NOW:
            stamp = ""
        yield Entry(encode_path(name), stamp, status.st_size)


def _walk(root: bytes, skip: Skip, *, excluded: set[bytes], settle: int) -> Iterator[Entry]:
    """Yield every file below a folder; links to files count, links to folders are not followed."""
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as items:
                for item in items:
                    name = folder + item.name
                    if item.path in excluded:
                        continue
                    if item.is_dir(follow_symlinks=False):
                        folders.append(name + b"/")
                    else:
                        yield from entry_of(name, item.path, skip=skip, settle=settle)
        except OSError as error:
            if not folder:
                raise ScoringError(
                    f"{in_one_line(os.fsdecode(root))}: cannot be listed ({error.strerror})"
                ) from None
            _check_root(os.fsdecode(root))
            skip(encode_path(folder[:-1]), f"folder cannot be read ({error.strerror})")
