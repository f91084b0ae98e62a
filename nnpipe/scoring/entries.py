"""What a source consists of: its files, as entries, and a reader of their content."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from nnpipe.errors import LostError, PictureError
from nnpipe.places import in_one_line

MOST_LOST = 20
"""Consecutive files that were listed but can no longer be read. With as many, something is wrong
with the whole source."""

LITTER = "hidden file or system litter"
"""The reason in the summary for files that `is_litter` leaves out."""

WAITING = "still being written; the next run reads it"
"""The reason in the summary for files that have just changed; see `WAITS`."""

DROPPED = "gone; its row is dropped"
"""The reason in the summary for files whose rows a run with ``prune`` drops."""

WAITS = "waits"
"""The stamp of a file that may still be written; no other stamp begins with a letter."""

LITTER_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"}
"""Files and folders of file managers and archivers, in lower case."""

Content = bytes | PictureError
"""The bytes of a file, or why they cannot be read."""

Skip = Callable[[str, str], None]
"""Called with the path of something that gets no row, and why."""


class Entry(NamedTuple):
    """A file of a source, or one of its pages."""

    path: str  # see `places.encode_path`
    stamp: str = ""  # changes with the content; empty if that cannot be told
    size: int = 0  # of the file in bytes, as far as known
    page: int = 1
    pages: int = 1  # of the file when it was listed; 0 if they could not be counted


def name_of(path: str, page: int) -> str:
    """Return the name of a page: the path, and from the second page on its number."""
    return path if page == 1 else f"{path}#{page}"


class Reader(Protocol):
    """What reads the files of a source, in the worker processes; see `Local` and `Remote`."""

    @property
    def seconds(self) -> int:
        """Time limit of reading one file, with those that are fetched at the same time."""

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """Read the bytes of each file, whichever page is meant.

        Raises:
            ScoringError: the source is gone, or too many of its files are.
        """


class Source(NamedTuple):
    """A listing of files and their reader."""

    identity: str  # equal for equal sources
    reader: Reader
    entries: Callable[[Skip], Iterator[Entry]]  # in any order
    named: bool = False  # whether the user asked for hidden files, so that litter gets rows, too


def is_litter(path: str) -> bool:
    """Return True for a hidden file, a leftover of a file manager or archiver, or a file in one.

    Args:
        path: relative to the source, whose own name does not count.
    """
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in LITTER_NAMES
        for part in path.split("/")
    )


def fixed_part(pattern: str) -> str:
    """Return the folders of a pattern before its first wildcard; paths are relative to them."""
    first = next(i for i, character in enumerate(pattern) if character in "*?[")
    return pattern[: pattern.rfind("/", 0, first) + 1]


def lost(source: str, why: str) -> LostError:
    """Return the error for a source that has gone away."""
    return LostError(f"{in_one_line(source)}: {why}")
