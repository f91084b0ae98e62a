"""The manifest: every file of a run in the order of paths, one to a line, and its row if known."""

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import IO, NamedTuple, get_type_hints

from nnpipe.errors import OutputError
from nnpipe.scoring.rows import Row
from nnpipe.scoring.sources import Entry

TYPES = (*get_type_hints(Entry).values(), *get_type_hints(Row).values())
"""The types of what stands in a line, with the path twice."""


class Known(NamedTuple):
    """A file, and its row if that need not be made anew."""

    entry: Entry
    row: Row | None = None


class Written(NamedTuple):
    """A manifest that was written."""

    starts: list[int]  # byte at which each shard begins, and that after the last
    counts: list[int]  # files of each shard
    kept: int  # files whose row is known


def write(stream: IO[bytes], lines: Iterable[Known], files: int, size: int) -> Written:
    """Write a manifest, cut into shards of so many files, or of so many bytes in all, if less."""
    starts, counts, kept = [0], [0], 0
    written = read = 0
    for known in lines:
        if counts[-1] and (counts[-1] == files or read + known.entry.size > size):
            starts.append(written)
            counts.append(0)
            read = 0
        written += stream.write(_unparse(known))
        read += known.entry.size
        counts[-1] += 1
        kept += known.row is not None
    return Written([*starts, written], counts, kept)


def read(stream: IO[bytes], begin: int, end: int, *, files: int) -> list[Known]:
    """The lines between two bytes of a manifest.

    Raises:
        ValueError, TypeError: they are not what `write` wrote for this number of files.
    """
    stream.seek(begin)
    lines = stream.read(end - begin).splitlines()
    # Parsed as one list, they take a fifth of the time.
    found = [
        Known(Entry(path, stamp, size), Row(path, *row) if row else None)
        for path, stamp, size, *row in json.loads(b"[%b]" % b",".join(lines))
    ]
    kinds = {(*map(type, entry), *map(type, row or ())) for entry, row in found}
    if len(found) != files or not all(all(map(issubclass, kind, TYPES)) for kind in kinds):
        raise ValueError(f"these are not the {files} files that were listed")
    return found


def _unparse(known: Known) -> bytes:
    row = known.row[1:] if known.row else ()
    return json.dumps([*known.entry, *row]).encode() + b"\n"


class Ordered(NamedTuple):
    """Entries in the order of their paths, each path once."""

    files: int  # how many, counting doubles
    size: int  # bytes in all
    entries: Iterator[Entry]


@contextmanager
def in_order(entries: Iterable[Entry]) -> Iterator[Ordered]:
    """Sort entries by path.

    SQLite does it, on disk: it needs no more memory for a billion paths than for a thousand.
    """
    with closing(sqlite3.connect("")) as database, _told():  # a file without a name
        database.execute("create table entry (path text, stamp text, size int)")
        database.executemany("insert into entry values (?, ?, ?)", entries)
        ((files, size),) = database.execute("select count(*), total(size) from entry")
        found = database.execute(
            "select path, max(stamp), max(size) from entry group by path order by path"
        )
        yield Ordered(files, int(size), map(Entry._make, found))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: the files could not be sorted there ({error}); free some "
            "space, or name another folder with TMPDIR"
        ) from error


def merge(
    entries: Iterator[Entry],
    earlier: Iterator[Known],
    usable: Callable[[Entry, Known], bool],
) -> Iterator[Known]:
    """Give each file the row that it had in an earlier run, if that is usable.

    Both come in the order of paths, and so does the result.
    """
    before = next(earlier, None)
    for entry in entries:
        while before and before.entry.path < entry.path:
            before = next(earlier, None)
        found = before and before.entry.path == entry.path and usable(entry, before)
        yield Known(entry, before.row if found and before else None)
