"""Rows, one for each file: their columns, and how they are written, joined and read back.

The formats are CSV, JSON lines and Parquet. Each shard writes its rows into a part that has the
format of the output. So joining is little more than copying, and the bytes do not depend on which
process wrote a part, or when.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args, get_type_hints

from nnpipe.classifier import Reading
from nnpipe.errors import ScoringError, needs
from nnpipe.places import Place

if TYPE_CHECKING:  # takes OpenCV, which is loaded when it is needed
    from nnpipe.numbers.reading import Number

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
    """The columns of a table of single digits.

    The last three, `ORIGIN`, are only in tables of incremental runs.
    """

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


class NumberRow(NamedTuple):
    """The columns of a table of numbers; the last three are `ORIGIN`, as in `Row`."""

    path: str
    status: str
    label: str | None  # text, such as "007"
    confidence: float | None  # of the whole number
    second: str | None  # the second most probable number
    second_confidence: float | None
    reason: str
    width: int | None
    height: int | None
    sha256: str | None
    digits: str | None  # JSON: [[digit, probability, left, top, right, bottom], …]
    run: str | None = None
    model: str | None = None
    gone: bool = False


AnyRow: TypeAlias = Row | NumberRow
Kind: TypeAlias = type[Row] | type[NumberRow]

ORIGIN = ("run", "model", "gone")
"""The columns that say where a row comes from, the last ones of each kind of table."""

COLUMNS = Row._fields[: -len(ORIGIN)]
"""The columns of tables of single digits of runs that are not incremental."""

Columns = tuple[str, ...]
Batches = Iterable[Sequence[AnyRow]]


def kind_of_table(columns: Iterable[str]) -> Kind:
    """Return the kind of a table by its columns."""
    return NumberRow if "digits" in columns else Row


def types_of(kind: Kind) -> dict[str, type]:
    """Return the type of each column of a kind of table, which also may hold None."""
    return {name: (get_args(hint) or (hint,))[0] for name, hint in get_type_hints(kind).items()}


def to_row(path: str, reading: "Reading | Number", *, digest: str | None, **origin: Any) -> AnyRow:
    """Put a file's reading into its row.

    Args:
        path: of the file.
        reading: of its picture.
        digest: its SHA-256.
        origin: ``run`` and ``model``.
    """
    r = reading
    about: tuple[Any, ...] = (r.reason, r.width, r.height, digest)
    if isinstance(r, Reading):
        shares = r.probabilities or (None,) * 10
        return Row(path, r.status, r.label, r.confidence, *shares, *about, **origin)
    digits = json.dumps(r.digits, separators=(",", ":")) if r.digits else None
    answer: tuple[Any, ...] = (r.label, r.confidence, r.second, r.second_confidence)
    cells = (path, r.status, *answer, *about, digits)
    return NumberRow(*cells, **origin)


class Form(NamedTuple):
    """How rows are written and read."""

    write: Callable[[IO[bytes], Batches], None]  # batches of rows into a part
    join: Callable[[IO[bytes], Iterable[bytes]], None]  # parts into an output
    read: Callable[[IO[bytes]], Iterator[AnyRow]]  # an output's rows, of any kind


def form(
    out: Place, *, escape_formulas: bool = False, kind: Kind = Row, origin: bool = False
) -> Form:
    """Return the form of an output, by its suffix.

    Args:
        out: the output.
        escape_formulas: put a quote before cells that a spreadsheet would take for formulas; CSV
            only.
        kind: of the rows that are written.
        origin: whether the columns `ORIGIN` are written.

    Raises:
        ScoringError: no form has this suffix.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    columns = kind._fields if origin else kind._fields[: -len(ORIGIN)]
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
        schema = _schema(kind, columns)
        write = partial(_write_parquet, schema=schema)
        return Form(write, partial(_join_parquet, schema=schema), _read_parquet)
    raise ScoringError(
        f"{out}: rows are written as .csv, .jsonl, .parquet, or into a folder whose name has no "
        "suffix"
    )


def _write_csv(stream: IO[bytes], batches: Batches, *, columns: Columns, escape: bool) -> None:
    rows: Iterable[AnyRow] = chain.from_iterable(batches)
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


PARSE: dict[type, Callable[[str], Any]] = {bool: "true".__eq__}
"""How a cell becomes a value of a type; by default the type itself does it."""


def _read_csv(stream: IO[bytes], *, escape: bool) -> Iterator[AnyRow]:
    csv.field_size_limit(MOST_CHARACTERS)
    reader = csv.DictReader((line.decode() for line in stream), strict=True)
    names = reader.fieldnames or ()
    kind = kind_of_table(names)
    types = types_of(kind).items()
    parse = {n: PARSE.get(t, t) for n, t in types if n not in ORIGIN or n in names}
    for columns in reader:
        cells: dict[str, Any] = {
            name: value(columns[name]) if columns[name] or name == "reason" else None
            for name, value in parse.items()
        }
        row = kind(**cells)
        if escape:
            texts = row.path.removeprefix("'"), row.reason.removeprefix("'")
            row = row._replace(path=texts[0], reason=texts[1])
        yield row


def _write_json_lines(stream: IO[bytes], batches: Batches, *, columns: Columns) -> None:
    for rows in batches:
        objects = (dict(zip(columns, row, strict=False)) for row in rows)
        lines = (json.dumps(cells, ensure_ascii=False) + "\n" for cells in objects)
        stream.write("".join(lines).encode())


def _read_json_lines(stream: IO[bytes]) -> Iterator[AnyRow]:
    return (kind_of_table(cells)(**cells) for cells in map(json.loads, stream))


def _pyarrow() -> Any:
    with needs("batch", "Parquet, unlike .csv and .jsonl,"):
        import pyarrow as pa
        import pyarrow.parquet
    return pa


def _schema(kind: Kind, columns: Columns) -> Any:
    """Return the schema of some columns of a kind of table."""
    pa, types = _pyarrow(), types_of(kind)
    arrow = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
    fields = {name: arrow[types[name]] for name in columns}
    if types["label"] is int:
        fields["label"] = pa.int8()
    return pa.schema(list(fields.items()))


def _write_parquet(stream: IO[bytes], batches: Batches, *, schema: Any) -> None:
    pa = _pyarrow()
    pylists = ([row._asdict() for row in rows] for rows in batches)
    tables = (pa.Table.from_pylist(pylist, schema) for pylist in pylists)
    _write_tables(stream, tables, schema=schema)


def _join_parquet(stream: IO[bytes], parts: Iterable[bytes], *, schema: Any) -> None:
    pa = _pyarrow()
    tables = (pa.parquet.read_table(io.BytesIO(part), schema=schema) for part in parts)
    _write_tables(stream, tables, schema=schema)


def _write_tables(stream: IO[bytes], tables: Iterator[Any], *, schema: Any) -> None:
    """Write tables as row groups of one size, whatever their own; memory holds one row group."""
    pa = _pyarrow()
    rest = schema.empty_table()
    with pa.parquet.ParquetWriter(stream, schema) as writer:
        for table in tables:
            rest = pa.concat_tables([rest, table])
            while len(rest) >= ROW_GROUP:
                writer.write_table(rest.slice(0, ROW_GROUP).combine_chunks())
                rest = rest.slice(ROW_GROUP)
        if len(rest):
            writer.write_table(rest.combine_chunks())


def _read_parquet(stream: IO[bytes]) -> Iterator[AnyRow]:
    pa = _pyarrow()
    file = pa.parquet.ParquetFile(stream)
    kind = kind_of_table(file.schema_arrow.names)
    for batch in file.iter_batches(8192):
        yield from (kind(**columns) for columns in batch.to_pylist())
