"""Rows, one for each page or field: their columns, and how they are written, joined and read back.

The formats are CSV, JSON lines, Parquet, and workbooks of Excel. Each shard writes its rows into a
part that has the format of the output; for a workbook, JSON lines. So joining is little more than
copying, and the bytes do not depend on which process wrote a part, or when.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias, get_args, get_type_hints

from nnpipe.classifier import Reading
from nnpipe.errors import ScoringError, needs
from nnpipe.places import Place
from nnpipe.scoring import workbook
from nnpipe.scoring.entries import Entry

if TYPE_CHECKING:  # takes OpenCV, which is loaded when it is needed
    from nnpipe.numbers.reading import Number

EXCEL = ".xlsx"
"""The suffix of a workbook."""

SUFFIXES = (".csv", ".jsonl", ".parquet", EXCEL)
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

    The last ones, `ORIGIN`, are only in tables of incremental runs; `crop` is in no table.
    """

    path: str  # relative to the source, see `places.encode_path`
    page: int  # of the file, from 1
    field: str  # of the form; empty without one
    status: str  # "ok", "doubtful", "rejected" or "error"
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
    crop: str | None = None  # what a workbook shows beside it: PNG in base64


class NumberRow(NamedTuple):
    """The columns of a table of numbers; the last ones are those of `Row`."""

    path: str
    page: int
    field: str
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
    crop: str | None = None


AnyRow: TypeAlias = Row | NumberRow
Kind: TypeAlias = type[Row] | type[NumberRow]

ORIGIN = ("run", "model", "gone")
"""The columns that say where a row comes from, the last ones of each kind of table."""

LAST = len(ORIGIN) + 1
"""How many fields of a row are not in all tables."""

COLUMNS = Row._fields[:-LAST]
"""The columns of tables of single digits of runs that are not incremental."""

FIRST: dict[str, Any] = {"page": 1, "field": ""}
"""What a row of version 1 has in the columns that its table lacks."""

Columns = tuple[str, ...]
Batches = Iterable[Sequence[AnyRow]]


def kind_of_table(columns: Iterable[str]) -> Kind:
    """Return the kind of a table by its columns."""
    return NumberRow if "digits" in columns else Row


def types_of(kind: Kind) -> dict[str, type]:
    """Return the type of each column of a kind of table, which also may hold None."""
    return {name: (get_args(hint) or (hint,))[0] for name, hint in get_type_hints(kind).items()}


def to_row(
    entry: Entry,
    reading: "Reading | Number",
    *,
    digest: str | None,
    field: str = "",
    **others: Any,
) -> AnyRow:
    """Put a reading into its row.

    Args:
        entry: the file and its page.
        reading: of the page, or of a field of it.
        digest: the SHA-256 of the file.
        field: the name of the field.
        others: ``run``, ``model`` and ``crop``.
    """
    r = reading
    place: tuple[Any, ...] = entry.path, entry.page, field
    about: tuple[Any, ...] = (r.reason, r.width, r.height, digest)
    if isinstance(r, Reading):
        shares = r.probabilities or (None,) * 10
        values = (*place, r.status, r.label, r.confidence, *shares, *about)
        return Row(*values, **others)
    digits = json.dumps(r.digits, separators=(",", ":")) if r.digits else None
    answer: tuple[Any, ...] = (r.label, r.confidence, r.second, r.second_confidence)
    values = (*place, r.status, *answer, *about, digits)
    return NumberRow(*values, **others)


class Format(NamedTuple):
    """How rows are written and read."""

    write: Callable[[IO[bytes], Batches], None]  # batches of rows into a part
    join: Callable[[IO[bytes], Iterable[bytes]], None]  # parts into an output
    read: Callable[[IO[bytes]], Iterator[AnyRow]]  # an output's rows, of any kind
    read_part: Callable[[bytes], Iterator[AnyRow]]  # a part's rows


def format_of(
    out: Place,
    *,
    escape_formulas: bool = False,
    kind: Kind = Row,
    origin: bool = False,
    fields: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> Format:
    """Return the format of an output, by its suffix.

    Args:
        out: the output.
        escape_formulas: put a quote before cells that a spreadsheet would take for formulas; CSV
            only.
        kind: of the rows that are written.
        origin: whether the columns `ORIGIN` are written.
        fields: the names of the form's fields, for the workbook's sheet of pages.
        about: what a workbook says of itself.

    Raises:
        ScoringError: no format has this suffix.
        MissingExtraError: the package that writes it is not installed.
    """
    columns = kind._fields[:-1] if origin else kind._fields[:-LAST]
    if out.suffix == ".csv":
        write = partial(_write_csv, columns=columns, escape=escape_formulas)
        join = partial(_join_csv, columns=columns)
        return _format(write, join=join, read=partial(_read_csv, escape=escape_formulas))
    if escape_formulas:
        raise ScoringError(f"{out}: formulas are escaped in .csv files only; name one")
    if out.suffix == ".jsonl":
        write = partial(_write_json_lines, columns=columns)
        return _format(write, join=_join_json_lines, read=_read_json_lines)
    if out.suffix in (".parquet", FOLDER):
        schema = _schema(kind, columns)
        write = partial(_write_parquet, schema=schema)
        return _format(write, join=partial(_join_parquet, schema=schema), read=_read_parquet)
    if out.suffix == EXCEL:
        workbook.check_package()
        write = partial(_write_json_lines, columns=kind._fields)
        join = partial(_join_excel, fields=fields, about=about)
        return Format(write, join, _read_excel, _read_json_part)
    raise ScoringError(
        f"{out}: rows are written as .csv, .jsonl, .parquet, .xlsx, or into a folder whose name "
        "has no suffix"
    )


def _format(
    write: Callable[[IO[bytes], Batches], None],
    *,
    join: Callable[[IO[bytes], Iterable[bytes]], None],
    read: Callable[[IO[bytes]], Iterator[AnyRow]],
) -> Format:
    """Return a format whose parts become outputs by joining them."""

    def read_part(part: bytes) -> Iterator[AnyRow]:
        table = io.BytesIO()
        join(table, [part])
        table.seek(0)
        return read(table)

    return Format(write, join, read, read_part)


def _join_excel(stream: IO[bytes], parts: Iterable[bytes], **options: Any) -> None:
    workbook.write(stream, chain.from_iterable(map(_read_json_part, parts)), **options)


def _read_json_part(part: bytes) -> Iterator[AnyRow]:
    return _read_json_lines(io.BytesIO(part))


def _read_excel(stream: IO[bytes]) -> Iterator[AnyRow]:
    raise ScoringError("a workbook is not read again; score into .csv, .jsonl or .parquet")


def _write_csv(stream: IO[bytes], batches: Batches, *, columns: Columns, escape: bool) -> None:
    rows: Iterable[AnyRow] = chain.from_iterable(batches)
    if escape:
        rows = map(_escaped, rows)
    lines = ((*row[:-2], "true" if row.gone else "false")[: len(columns)] for row in rows)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    text.detach()


TEXTS = ("path", "field", "reason")
"""The columns whose text somebody else may have written."""


def _escaped(row: AnyRow) -> AnyRow:
    texts: dict[str, Any] = {name: escape_cell(getattr(row, name)) for name in TEXTS}
    return row._replace(**texts)


def escape_cell(cell: str) -> str:
    """Put a quote before a cell that a spreadsheet would take for a formula."""
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
    parse = {n: PARSE.get(t, t) for n, t in types if n in names or n in kind._fields[:-LAST]}
    for name in FIRST.keys() - set(names):
        del parse[name]
    for columns in reader:
        cells: dict[str, Any] = {
            name: value(columns[name]) if columns[name] or name in TEXTS else None
            for name, value in parse.items()
        }
        row = kind(**FIRST | cells)
        if escape:
            texts = {name: getattr(row, name).removeprefix("'") for name in TEXTS}
            row = row._replace(**texts)
        yield row


def _write_json_lines(stream: IO[bytes], batches: Batches, *, columns: Columns) -> None:
    for rows in batches:
        objects = (dict(zip(columns, row, strict=False)) for row in rows)
        lines = (json.dumps(cells, ensure_ascii=False) + "\n" for cells in objects)
        stream.write("".join(lines).encode())


def _read_json_lines(stream: IO[bytes]) -> Iterator[AnyRow]:
    return (kind_of_table(cells)(**FIRST | cells) for cells in map(json.loads, stream))


def pyarrow() -> Any:
    """Return the package that reads and writes Parquet.

    Raises:
        MissingExtraError: it is not installed.
    """
    with needs("batch", "Parquet, unlike .csv and .jsonl,"):
        import pyarrow as pa
        import pyarrow.parquet
    return pa


def _schema(kind: Kind, columns: Columns) -> Any:
    """Return the schema of some columns of a kind of table."""
    pa, types = pyarrow(), types_of(kind)
    arrow = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
    fields = {name: arrow[types[name]] for name in columns}
    if types["label"] is int:
        fields["label"] = pa.int8()
    return pa.schema(list(fields.items()))


def _write_parquet(stream: IO[bytes], batches: Batches, *, schema: Any) -> None:
    pa = pyarrow()
    pylists = ([row._asdict() for row in rows] for rows in batches)
    tables = (pa.Table.from_pylist(pylist, schema) for pylist in pylists)
    write_tables(stream, tables, schema=schema)


def _join_parquet(stream: IO[bytes], parts: Iterable[bytes], *, schema: Any) -> None:
    pa = pyarrow()
    tables = (pa.parquet.read_table(io.BytesIO(part), schema=schema) for part in parts)
    write_tables(stream, tables, schema=schema)


def write_tables(stream: IO[bytes], tables: Iterator[Any], *, schema: Any) -> None:
    """Write tables as row groups of one size, whatever their own; memory holds one row group."""
    pa = pyarrow()
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
    pa = pyarrow()
    file = pa.parquet.ParquetFile(stream)
    kind = kind_of_table(file.schema_arrow.names)
    for batch in file.iter_batches(8192):
        yield from (kind(**FIRST | columns) for columns in batch.to_pylist())
