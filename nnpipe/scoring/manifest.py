"""The manifest: one line for each page of a run, in the order of the paths and pages.

A line also has the rows of the page if they are kept from an earlier run.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from typing import IO, Any, NamedTuple, get_type_hints

from nnpipe.errors import OutputError
from nnpipe.scoring.entries import Entry
from nnpipe.scoring.rows import AnyRow, Kind, Row


class Line(NamedTuple):
    """A page, and its rows if they are taken from an earlier run."""

    entry: Entry
    rows: tuple[AnyRow, ...] = ()


class Layout(NamedTuple):
    """How a manifest is cut into shards."""

    starts: list[int]  # offset in bytes at which each shard begins, and the end of the last
    counts: list[int]  # pages of each shard
    row_counts: list[int]  # rows of each shard
    kept: int  # pages whose rows are known


def write(
    stream: IO[bytes], lines: Iterable[Line], *, files: int, size: int, rows: int = 1
) -> Layout:
    """Write a manifest.

    Args:
        stream: where to.
        lines: one for each page.
        files: pages of a shard at most.
        size: bytes to read of a shard at most; those of a file count once.
        rows: of each page that has none yet.
    """
    starts, counts, row_counts = list[int](), list[int](), list[int]()
    end = shard_size = kept = 0
    for line in lines:
        line_size = 0 if line.rows or line.entry.page > 1 else line.entry.size
        if not counts or counts[-1] == files or (shard_size and shard_size + line_size > size):
            starts.append(end)
            counts.append(0)
            row_counts.append(0)
            shard_size = 0
        cells = [row[2:] for row in line.rows]
        end += stream.write(json.dumps([*line.entry, cells]).encode() + b"\n")
        shard_size += line_size
        counts[-1] += 1
        row_counts[-1] += len(cells) or rows
        kept += bool(cells)
    return Layout([*starts, end], counts, row_counts, kept)


def parse(content: bytes, *, files: int, kind: Kind = Row) -> list[Line]:
    """Parse the lines of a shard, whose rows are of one kind.

    Raises:
        ValueError, TypeError: they are not what `write` wrote for this number of files.
    """
    # Parsed as one list, they take a fifth of the time.
    lines = [
        Line(Entry(*entry), tuple(kind(entry[0], entry[3], *cells) for cells in rows))
        for *entry, rows in json.loads(b"[%b]" % b",".join(content.splitlines()))
    ]
    sound = _fit(Entry, (line.entry for line in lines)) and _fit(
        kind, (row for line in lines for row in line.rows)
    )
    if len(lines) != files or not sound:
        raise ValueError(f"these are not the {files} files that were listed")
    return lines


def _fit(kind: type, tuples: Iterable[tuple[Any, ...]]) -> bool:
    """Return True if the values of some named tuples have the types of their kind."""
    hints = tuple(get_type_hints(kind).values())
    every = {(*map(type, values),) for values in tuples}
    return all(all(map(issubclass, types, hints)) for types in every)


class Listing(NamedTuple):
    """Entries in the order of their paths and pages, each page once."""

    files: int  # how many, counting doubles
    size: int  # bytes in all
    entries: Iterator[Entry]


@contextmanager
def in_order(entries: Iterable[Entry]) -> Iterator[Listing]:
    """Sort entries by path and page.

    SQLite sorts on disk: it needs no more memory for a billion paths than for a thousand.

    Raises:
        OutputError: there is no space for it.
    """
    try:
        with closing(sqlite3.connect("")) as database:  # a file without a name
            database.execute(
                "create table entry (path text, stamp text, size int, page int, pages int)"
            )
            database.executemany("insert into entry values (?, ?, ?, ?, ?)", entries)
            ((files, size),) = database.execute("select count(*), total(size) from entry")
            rows = database.execute(
                "select path, max(stamp), max(size), page, max(pages) from entry"
                " group by path, page order by path, page"
            )
            yield Listing(files, int(size), map(Entry._make, rows))
    except sqlite3.Error as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: the files could not be sorted there ({error}); free some "
            "space, or name another folder with TMPDIR"
        ) from error


def join(entries: Iterable[Entry], earlier: Iterator[Line]) -> Iterator[tuple[Entry | None, Line]]:
    """Pair each page with its line of an earlier run, or with one that has no rows.

    Lines of pages that are not among the entries come with None. Both come in the order of paths
    and pages, and so does the result.
    """
    before = next(earlier, None)
    for entry in chain(entries, [None]):
        while before and (entry is None or place_of(before) < (entry.path, entry.page)):
            yield None, before
            before = next(earlier, None)
        if entry and before and place_of(before) == (entry.path, entry.page):
            yield entry, before
            before = next(earlier, None)
        elif entry:
            yield entry, Line(entry)


def place_of(line: Line) -> tuple[str, int]:
    """Return the path and the page, by which lines are sorted."""
    return line.entry.path, line.entry.page
