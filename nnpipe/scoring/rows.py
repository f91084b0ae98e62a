"""Rows, one for each file: their columns, and how they are written, joined and read back.

The formats are CSV, JSON lines and Parquet. Each shard writes its rows into a part that has the
format of the output. So joining is little more than copying, and the bytes do not depend on which
process wrote a part, or when.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import IO, Any, NamedTuple

from nnpipe.classifier import Reading
from nnpipe.errors import ScoringError, needs
from nnpipe.places import Place

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""Suffixes of the files that rows are written into."""

FOLDER = ""
"""The suffix of a folder of Parquet parts."""

ROW_GROUP = 65_536
"""Rows of a row group in Parquet."""

MOST_CHARACTERS = 2**20
"""Limit of a cell that is read: escaped, a path of a list may have a quarter of it."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""First characters by which a spreadsheet takes a cell for a formula, also in full width (OWASP's
list). The quote itself is among them, so that cells can be read back."""


class Row(NamedTuple):
    """The columns of a table; the last three are only in tables of incremental runs."""

    path: str  # relative to the source, see `places.encode_path`
    status: str  # "ok", "rejected" or "error"
    label: int | None
    confidence: float | None  # the largest probability; rounded to six digits, like all of them
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
    run: str | None = None  # id of the run that read the file; None if version 1 did
    model: str | None = None  # SHA-256 of the weights that read it
    gone: bool = False  # whether the source no longer has the file


COLUMNS = Row._fields[: Row._fields.index("run")]
"""The columns of tables of runs that are not incremental."""

Columns = tuple[str, ...]
Batches = Iterable[list[Row]]


def to_row(path: str, reading: Reading, *, digest: str | None, **origin: Any) -> Row:
    """Put a file's reading into its row.

    Args:
        path: of the file.
        reading: of its picture.
        digest: its SHA-256.
        origin: ``run`` and ``model``.
    """
    r, shares = reading, reading.probabilities or (None,) * 10
    about: tuple[Any, ...] = (r.reason, r.width, r.height, digest)
    return Row(path, r.status, r.label, r.confidence, *shares, *about, **origin)


INTEGERS = ("label", "width", "height")
FLOATS = ("confidence", *(f"p{digit}" for digit in range(10)))
"""Columns of integers and of floats; all others are text, but "gone", which is a boolean."""


class Form(NamedTuple):
    """How rows are written and read."""

    write: Callable[[IO[bytes], Batches], None]  # batches of rows into a part
    join: Callable[[IO[bytes], Iterable[bytes]], None]  # parts into an output
    read: Callable[[IO[bytes]], Iterator[Row]]  # an output's rows


def form(out: Place, *, escape_formulas: bool = False, columns: Columns = COLUMNS) -> Form:
    """Return the form of an output, by its suffix.

    Args:
        out: the output.
        escape_formulas: put a quote before cells that a spreadsheet would take for formulas; CSV
            only.
        columns: what is written: `COLUMNS`, or all fields of a row. Either can be read.

    Raises:
        ScoringError: no form has this suffix.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if out.suffix == ".csv":
        write = partial(_write_csv, columns=columns, escape=escape_formulas)
        join = partial(_join_csv, columns=columns)
        return Form(write, join, partial(_read_csv, escape=escape_formulas))
    if escape_formulas:
        raise ScoringError(f"{out}: formulas are escaped in .csv files only; name one")
    if out.suffix == ".jsonl":
        write = partial(_write_json_lines, columns=columns)
        return Form(write, _join_json_lines, _read_json_lines)
    if out.suffix in (".parquet", FOLDER):
        _, schema = _pyarrow(columns)
        write = partial(_write_parquet, schema=schema)
        return Form(write, partial(_join_parquet, schema=schema), _read_parquet)
    raise ScoringError(
        f"{out}: rows are written as .csv, .jsonl, .parquet, or into a folder whose name has no "
        "suffix"
    )


def _write_csv(stream: IO[bytes], batches: Batches, *, columns: Columns, escape: bool) -> None:
    rows: Iterable[Row] = chain.from_iterable(batches)
    if escape:
        rows = (row._replace(path=_escape(row.path), reason=_escape(row.reason)) for row in rows)
    lines = ((*row[:-1], "true" if row.gone else "false")[: len(columns)] for row in rows)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    text.detach()


def _escape(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _join_csv(stream: IO[bytes], parts: Iterable[bytes], *, columns: Columns) -> None:
    stream.write((",".join(columns) + "\n").encode())
    stream.writelines(parts)


def _join_json_lines(stream: IO[bytes], parts: Iterable[bytes]) -> None:
    stream.writelines(parts)


def _read_csv(stream: IO[bytes], *, escape: bool) -> Iterator[Row]:
    parse: dict[str, Callable[[str], Any]] = {"gone": "true".__eq__}
    parse |= dict.fromkeys(INTEGERS, int) | dict.fromkeys(FLOATS, float)
    csv.field_size_limit(MOST_CHARACTERS)
    reader = csv.DictReader((line.decode() for line in stream), strict=True)
    names = Row._fields if "run" in (reader.fieldnames or ()) else COLUMNS
    for columns in reader:
        cells: dict[str, Any] = {
            name: parse.get(name, str)(columns[name]) if columns[name] or name == "reason" else None
            for name in names
        }
        row = Row(**cells)
        if escape:
            texts = row.path.removeprefix("'"), row.reason.removeprefix("'")
            row = row._replace(path=texts[0], reason=texts[1])
        yield row


def _write_json_lines(stream: IO[bytes], batches: Batches, *, columns: Columns) -> None:
    for rows in batches:
        objects = (dict(zip(columns, row, strict=False)) for row in rows)
        lines = (json.dumps(cells, ensure_ascii=False) + "\n" for cells in objects)
        stream.write("".join(lines).encode())


def _read_json_lines(stream: IO[bytes]) -> Iterator[Row]:
    return (Row(**json.loads(line)) for line in stream)


def _pyarrow(columns: Columns = ()) -> tuple[Any, Any]:
    """Import pyarrow; return it and the schema of some columns."""
    with needs("batch", "Parquet, unlike .csv and .jsonl,"):
        import pyarrow as pa
        import pyarrow.parquet
    types = dict.fromkeys(Row._fields, pa.string()) | dict.fromkeys(FLOATS, pa.float64())
    types |= {"label": pa.int8(), "width": pa.int32(), "height": pa.int32(), "gone": pa.bool_()}
    return pa, pa.schema([(name, types[name]) for name in columns])


def _write_parquet(stream: IO[bytes], batches: Batches, *, schema: Any) -> None:
    pa, _ = _pyarrow()
    pylists = ([row._asdict() for row in rows] for rows in batches)
    tables = (pa.Table.from_pylist(pylist, schema) for pylist in pylists)
    _write_tables(stream, tables, schema=schema)


def _join_parquet(stream: IO[bytes], parts: Iterable[bytes], *, schema: Any) -> None:
    pa, _ = _pyarrow()
    tables = (pa.parquet.read_table(io.BytesIO(part), schema=schema) for part in parts)
    _write_tables(stream, tables, schema=schema)


def _write_tables(stream: IO[bytes], tables: Iterator[Any], *, schema: Any) -> None:
    """Write tables as row groups of one size, whatever their own; memory holds one row group."""
    pa, _ = _pyarrow()
    rest = schema.empty_table()
    with pa.parquet.ParquetWriter(stream, schema) as writer:
        for table in tables:
            rest = pa.concat_tables([rest, table])
            while len(rest) >= ROW_GROUP:
                writer.write_table(rest.slice(0, ROW_GROUP).combine_chunks())
                rest = rest.slice(ROW_GROUP)
        if len(rest):
            writer.write_table(rest.combine_chunks())


def _read_parquet(stream: IO[bytes]) -> Iterator[Row]:
    pa, _ = _pyarrow()
    for batch in pa.parquet.ParquetFile(stream).iter_batches(8192):
        yield from (Row(**columns) for columns in batch.to_pylist())
