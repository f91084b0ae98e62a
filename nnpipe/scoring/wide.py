"""Wide tables: the rows of a form, one for each field → a row for each page, a column per field."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import IO, NamedTuple

from nnpipe.scoring.rows import AnyRow, escape_cell, pyarrow, write_tables

FIXED = ("path", "page", "status", "reason")
"""The columns of every wide table; the fields are before the last one."""

STATUSES = ("ok", "doubtful", "rejected", "error")
"""From the best to the worst. A page has the worst one of its fields, but is rejected only if
all of them are."""

BATCH = 4096
"""Pages that are in memory at once when Parquet is written."""


class WideRow(NamedTuple):
    """A page."""

    path: str
    page: int  # of the file, from 1
    status: str  # the worst of its fields, see `STATUSES`
    labels: tuple[str, ...]  # of each field; empty without a label
    reason: str  # "field, field: reason; …" of the fields that are not ok
    rows: tuple[AnyRow | None, ...]  # of each field; None for a field without a row

    @property
    def cells(self) -> tuple[str | int, ...]:
        """The values of the columns, see `columns`."""
        return (self.path, self.page, self.status, *self.labels, self.reason)


def columns(fields: Sequence[str]) -> list[str]:
    """Return the names of the columns, all of them different.

    A field that is named like a fixed column, or like an earlier field, gets ``_`` at its end.
    """
    names = list(FIXED)
    for field in fields:
        while field in names:
            field += "_"
        names.insert(-1, field)
    return names


def rows(rows: Iterable[AnyRow], fields: Sequence[str]) -> Iterator[WideRow]:
    """Yield a row for each page, except those whose files are gone.

    Args:
        rows: those of a page follow each other, one for each field.
        fields: names of the form's fields, in the order of the columns.
    """
    there = (row for row in rows if not row.gone)
    for (path, page), some in groupby(there, key=lambda row: (row.path, row.page)):
        own = list(some)
        by_field = {row.field: row for row in own}
        inner = tuple(by_field.get(field) for field in fields)
        labels = tuple("" if row is None or row.label is None else str(row.label) for row in inner)
        status = max((row.status for row in own), key=STATUSES.index)
        if status == "rejected" and any(row.status != status for row in own):
            status = "doubtful"  # one empty field does not make it another page
        yield WideRow(path, page, status, labels, _reason(own), inner)


def _reason(own: Sequence[AnyRow]) -> str:
    """Return why a page is not ok: each reason once, with the fields that have it."""
    fields = defaultdict[str, list[str]](list)
    for row in own:
        if row.status != "ok":
            for reason in row.reason.split("; "):
                fields[reason].append(row.field)
    if [*map(len, fields.values())] == [len(own)]:
        return own[0].reason
    return "; ".join(f"{', '.join(some)}: {reason}" for reason, some in fields.items())


def write_csv(
    stream: IO[bytes], long: Iterable[AnyRow], *, fields: Sequence[str], escape: bool
) -> None:
    """Write a wide table as CSV.

    Args:
        stream: of the new file.
        long: see `rows`.
        fields: see `rows`.
        escape: put a quote before cells that a spreadsheet would take for formulas.
    """

    def lines() -> Iterator[Sequence[str | int]]:
        yield columns(fields)
        yield from (row.cells for row in rows(long, fields))

    text = io.TextIOWrapper(stream, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    for line in lines():
        writer.writerow([escape_cell(c) if escape and isinstance(c, str) else c for c in line])
    text.detach()


def write_json_lines(stream: IO[bytes], long: Iterable[AnyRow], *, fields: Sequence[str]) -> None:
    """Write a wide table as JSON lines; see `write_csv`."""
    names = columns(fields)
    for row in rows(long, fields):
        cells = dict(zip(names, row.cells, strict=True))
        stream.write(f"{json.dumps(cells, ensure_ascii=False)}\n".encode())


def write_parquet(stream: IO[bytes], long: Iterable[AnyRow], *, fields: Sequence[str]) -> None:
    """Write a wide table as Parquet; see `write_csv`. All columns but the page are text.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pa = pyarrow()
    types = {name: pa.int32() if name == "page" else pa.string() for name in columns(fields)}
    schema = pa.schema(list(types.items()))
    pages = rows(long, fields)
    batches = iter(lambda: list(islice((row.cells for row in pages), BATCH)), [])
    tables = (
        pa.table([list(values) for values in zip(*batch, strict=True)], schema=schema)
        for batch in batches
    )
    write_tables(stream, tables, schema=schema)
