"""The manifest: one line for each file of a run, in the order of the paths.

A line also has the row of the file if that is kept from an earlier run.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import IO, NamedTuple, get_type_hints

from nnpipe.errors import OutputError
from nnpipe.scoring.entries import Entry
from nnpipe.scoring.rows import AnyRow, Kind, Row


class Line(NamedTuple):
    """A file, and its row if that is taken from an earlier run."""

    entry: Entry
    row: AnyRow | None = None


class Layout(NamedTuple):
    """How a manifest is cut into shards."""

    starts: list[int]  # offset in bytes at which each shard begins, and the end of the last
    counts: list[int]  # files of each shard
    kept: int  # files whose row is known


def write(stream: IO[bytes], lines: Iterable[Line], *, files: int, size: int) -> Layout:
    """Write a manifest, cut into shards of at most ``files`` files, or ``size`` bytes to read."""
    starts, counts = list[int](), list[int]()
    end = shard_size = kept = 0
    for line in lines:
        line_size = 0 if line.row else line.entry.size
        if not counts or counts[-1] == files or (shard_size and shard_size + line_size > size):
            starts.append(end)
            counts.append(0)
            shard_size = 0
        row = line.row[1:] if line.row else ()
        end += stream.write(json.dumps([*line.entry, *row]).encode() + b"\n")
        shard_size += line_size
        counts[-1] += 1
        kept += line.row is not None
    return Layout([*starts, end], counts, kept)


def parse(content: bytes, *, files: int, kind: Kind = Row) -> list[Line]:
    """Parse the lines of a shard, whose rows are of one kind.

    Raises:
        ValueError, TypeError: they are not what `write` wrote for this number of files.
    """
    # Parsed as one list, they take a fifth of the time.
    lines = [
        Line(Entry(path, stamp, size), kind(path, *row) if row else None)
        for path, stamp, size, *row in json.loads(b"[%b]" % b",".join(content.splitlines()))
    ]
    types = (*get_type_hints(Entry).values(), *get_type_hints(kind).values())
    found = {(*map(type, entry), *map(type, row or ())) for entry, row in lines}
    if len(lines) != files or not all(all(map(issubclass, some, types)) for some in found):
        raise ValueError(f"these are not the {files} files that were listed")
    return lines


class Listing(NamedTuple):
    """Entries in the order of their paths, each path once."""

    files: int  # how many, counting doubles
    size: int  # bytes in all
    entries: Iterator[Entry]


@contextmanager
def in_order(entries: Iterable[Entry]) -> Iterator[Listing]:
    """Sort entries by path.

    SQLite sorts on disk: it needs no more memory for a billion paths than for a thousand.

    Raises:
        OutputError: there is no space for it.
    """
    try:
        with closing(sqlite3.connect("")) as database:  # a file without a name
            database.execute("create table entry (path text, stamp text, size int)")
            database.executemany("insert into entry values (?, ?, ?)", entries)
            ((files, size),) = database.execute("select count(*), total(size) from entry")
            rows = database.execute(
                "select path, max(stamp), max(size) from entry group by path order by path"
            )
            yield Listing(files, int(size), map(Entry._make, rows))
    except sqlite3.Error as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: the files could not be sorted there ({error}); free some "
            "space, or name another folder with TMPDIR"
        ) from error


def join(entries: Iterable[Entry], earlier: Iterator[Line]) -> Iterator[tuple[Entry | None, Line]]:
    """Pair each file with its line of an earlier run, or with one that has no row.

    Lines of files that are not among the entries come with None. Both come in the order of paths,
    and so does the result.
    """
    before = next(earlier, None)
    for entry in chain(entries, [None]):
        while before and (entry is None or before.entry.path < entry.path):
            yield None, before
            before = next(earlier, None)
        if entry and before and before.entry.path == entry.path:
            yield entry, before
            before = next(earlier, None)
        elif entry:
            yield entry, Line(entry)
