"""Where rows go: CSV, JSON lines, Parquet, or a folder of Parquet parts; and how they come back.

Each shard writes its rows into a part of the output's own form, so that putting an output together
is little more than copying: the bytes do not depend on who wrote which part, or when.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from nnpipe.errors import MissingExtraError, ScoringError
from nnpipe.files import copy, open_regular, replacing, sha256, sha256_of
from nnpipe.scoring.rows import Row

FOLDER = ""
"""The suffix of a folder of Parquet parts."""

SUCCESS = "_SUCCESS"
"""An empty file that stands in such a folder once all parts do, as Hadoop and Spark have it."""

EMPTY = sha256(b"")
"""The SHA-256 of an empty file."""

ROW_GROUP = 65_536

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")
"""What a spreadsheet takes for the beginning of a formula, also in full width, as OWASP lists it,
and the quote itself, so that the cell can be read back."""


class Form(NamedTuple):
    """How rows are written and read."""

    write: Callable[[IO[bytes], Iterable[list[Row]]], None]  # batches of rows into a part
    join: Callable[[IO[bytes], Iterable[bytes]], None]  # parts into an output
    read: Callable[[IO[bytes]], Iterator[Row]]  # an output's rows


class Part(NamedTuple):
    """The rows of a shard as a file."""

    path: Path
    sha256: str

    def content(self) -> bytes:
        """The file's bytes.

        Raises:
            ScoringError: they are not those that were written.
        """
        with suppress(OSError), open_regular(self.path, links=False) as stream:
            content = stream.read()
            if sha256(content) == self.sha256:
                return content
        raise ScoringError(f"{self.path}: is damaged; give the same command again to repair it")


def form(out: Path, *, escape_formulas: bool = False) -> Form:
    """The form of an output, by its suffix.

    Args:
        out: the output.
        escape_formulas: put a quote before what a spreadsheet would take for a formula; CSV only.

    Raises:
        ScoringError: there is none.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if out.suffix == ".csv":
        write = partial(_write_csv, escape=escape_formulas)
        return Form(write, _join_csv, partial(_read_csv, escape=escape_formulas))
    if escape_formulas:
        raise ScoringError(f"{out}: formulas are escaped in .csv files only; name one")
    if out.suffix == ".jsonl":
        return Form(_write_json_lines, _join_lines, _read_json_lines)
    if out.suffix in (".parquet", FOLDER):
        _pyarrow()
        return Form(_write_parquet, _join_parquet, _read_parquet)
    raise ScoringError(
        f"{out}: rows are written as .csv, .jsonl, .parquet, or into a folder whose name has no "
        "suffix"
    )


def assemble(
    out: Path, parts: list[Part], scratch: Path, announce: Callable[[dict[str, str]], None]
) -> None:
    """Put an output together from the parts of its shards, in their order.

    Args:
        out: what to write. A file takes its name when it is whole; a folder is whole when `SUCCESS`
            stands in it.
        parts: one for each shard.
        scratch: a folder of the same file system, for what is not yet whole.
        announce: is called with the SHA-256 of each file, by name, before the first takes its name.

    Raises:
        OutputError: it cannot be written.
        ScoringError: a part is damaged.
    """
    if out.suffix != FOLDER:
        with replacing(out, "w+b", scratch=scratch) as stream:
            form(out).join(stream, (part.content() for part in parts))
            announce({out.name: sha256_of(stream)})
        return
    named = {f"part-{number:05}.parquet": part for number, part in enumerate(parts)}
    for part in parts:
        part.content()  # raises before anything is replaced
    announce({name: part.sha256 for name, part in named.items()} | {SUCCESS: EMPTY})
    (out / SUCCESS).unlink(missing_ok=True)
    for old in out.iterdir() if out.exists() else ():
        if is_part(old.name) and old.name not in named:
            old.unlink()
    for name, part in named.items():
        copy(part.path, out / name, scratch)
    with replacing(out / SUCCESS, scratch=scratch):
        pass


def is_part(name: str) -> bool:
    """Whether a file has a name as those in a folder of parts have."""
    return name == SUCCESS or bool(re.fullmatch(r"part-\d+\.parquet", name))


def _files(out: Path) -> list[Path]:
    """The files of an output that are there."""
    if out.suffix != FOLDER:
        return [out] if out.exists() else []
    return [file for file in out.iterdir() if is_part(file.name)] if out.exists() else []


def size_of(out: Path) -> int:
    """How many bytes an output has."""
    return sum(file.stat().st_size for file in _files(out))


def hashes_of(out: Path) -> dict[str, str]:
    """The SHA-256 of each file of an output that is there, by name.

    Raises:
        ScoringError: something else is in its place.
    """
    hashes = {}
    for file in _files(out):
        try:
            with open_regular(file, links=False) as stream:
                hashes[file.name] = sha256_of(stream)
        except OSError as error:
            why = error.strerror or error
            raise ScoringError(f"{file}: cannot be replaced ({why}); {ELSEWHERE}") from error
    return hashes


ELSEWHERE = "move it away, or name another output"
"""What to do about a file that nnpipe does not overwrite."""


def read_rows(out: Path, *, escape_formulas: bool = False) -> Iterator[Row]:
    """The rows of an output, in their order.

    Args:
        out: the output.
        escape_formulas: whether it was written with this option.

    Raises:
        ScoringError: it is missing or damaged.
    """
    files = sorted(out.glob("part-*.parquet")) if out.suffix == FOLDER else [out]
    try:
        for file in files:
            with file.open("rb") as stream:
                yield from form(out, escape_formulas=escape_formulas).read(stream)
    # A table that somebody has edited fails in as many ways as there are parsers.
    except Exception as error:
        raise ScoringError(
            f"{out}: is not a table that nnpipe wrote ({str(error) or type(error).__name__}); "
            f"{ELSEWHERE}"
        ) from error


def _write_csv(stream: IO[bytes], batches: Iterable[list[Row]], *, escape: bool) -> None:
    rows: Iterable[Row] = chain.from_iterable(batches)
    if escape:
        rows = (row._replace(path=_escape(row.path), reason=_escape(row.reason)) for row in rows)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    text.detach()


def _escape(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _join_csv(stream: IO[bytes], parts: Iterable[bytes]) -> None:
    stream.write((",".join(Row._fields) + "\n").encode())
    stream.writelines(parts)


def _join_lines(stream: IO[bytes], parts: Iterable[bytes]) -> None:
    stream.writelines(parts)


NUMBERS = ("label", "width", "height")
SHARES = ("confidence", *(f"p{digit}" for digit in range(10)))
"""Columns of integers and of floats; all others are text."""


def _read_csv(stream: IO[bytes], *, escape: bool) -> Iterator[Row]:
    parse: dict[str, Callable[[str], Any]] = dict.fromkeys(NUMBERS, int)
    parse |= dict.fromkeys(SHARES, float)
    lines = (line.decode() for line in stream)
    for columns in csv.DictReader(lines, strict=True):
        found: dict[str, Any] = {
            name: parse.get(name, str)(columns[name]) if columns[name] or name == "reason" else None
            for name in Row._fields
        }
        row = Row(**found)
        if escape:
            texts = row.path.removeprefix("'"), row.reason.removeprefix("'")
            row = row._replace(path=texts[0], reason=texts[1])
        yield row


def _write_json_lines(stream: IO[bytes], batches: Iterable[list[Row]]) -> None:
    for rows in batches:
        lines = (json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows)
        stream.write("".join(lines).encode())


def _read_json_lines(stream: IO[bytes]) -> Iterator[Row]:
    return (Row(**json.loads(line)) for line in stream)


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingExtraError(
            "Parquet needs pyarrow: pip install '.[batch]' in nnpipe's folder, "
            "or name a .csv or .jsonl file"
        ) from None
    return pa, parquet


def _schema() -> Any:
    pa, _ = _pyarrow()
    types = dict.fromkeys(Row._fields, pa.string()) | dict.fromkeys(SHARES, pa.float64())
    types |= {"label": pa.int8(), "width": pa.int32(), "height": pa.int32()}
    return pa.schema(list(types.items()))


def _write_parquet(stream: IO[bytes], batches: Iterable[list[Row]]) -> None:
    pa, _ = _pyarrow()
    schema = _schema()

    def tables() -> Iterator[Any]:
        for rows in batches:
            columns = [list(column) for column in zip(*rows, strict=True)]
            yield pa.table(dict(zip(Row._fields, columns, strict=True)), schema=schema)

    _write_tables(stream, tables())


def _join_parquet(stream: IO[bytes], parts: Iterable[bytes]) -> None:
    _, parquet = _pyarrow()
    tables = (parquet.read_table(io.BytesIO(part), schema=_schema()) for part in parts)
    _write_tables(stream, tables)


def _write_tables(stream: IO[bytes], tables: Iterator[Any]) -> None:
    """Write tables as row groups of one size, however they were cut; one is kept in memory."""
    pa, parquet = _pyarrow()
    kept = _schema().empty_table()
    with parquet.ParquetWriter(stream, _schema()) as writer:
        for table in tables:
            kept = pa.concat_tables([kept, table])
            while len(kept) >= ROW_GROUP:
                writer.write_table(kept.slice(0, ROW_GROUP).combine_chunks())
                kept = kept.slice(ROW_GROUP)
        if len(kept):
            writer.write_table(kept.combine_chunks())


def _read_parquet(stream: IO[bytes]) -> Iterator[Row]:
    _, parquet = _pyarrow()
    for batch in parquet.ParquetFile(stream).iter_batches(8192):
        yield from (Row(**columns) for columns in batch.to_pylist())
