"""Where rows go: CSV, JSON lines, Parquet, or a folder of Parquet parts; and how they come back.

Each shard writes its rows into a part of the output's own form, so that putting an output together
is little more than copying: the bytes do not depend on who wrote which part, or when.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from nnpipe.errors import MissingExtraError, ScoringError
from nnpipe.files import copy, replacing
from nnpipe.scoring.rows import Row

FOLDER = ""
"""The suffix of a folder of Parquet parts."""

SUCCESS = "_SUCCESS"
"""An empty file that stands in such a folder once all parts do, as Hadoop and Spark have it."""

ROW_GROUP = 65_536


class Form(NamedTuple):
    """How rows are written and read."""

    write: Callable[[IO[bytes], Iterable[list[Row]]], None]  # batches of rows into a part
    join: Callable[[IO[bytes], list[Path]], None]  # parts into an output
    read: Callable[[IO[bytes]], Iterator[Row]]  # an output's rows


def form(out: Path) -> Form:
    """The form of an output, by its suffix.

    Raises:
        ScoringError: there is none.
        MissingExtraError: it is Parquet, and pyarrow is not installed.
    """
    if out.suffix == ".csv":
        return Form(_write_csv, _join_csv, _read_csv)
    if out.suffix == ".jsonl":
        return Form(_write_json_lines, _copy, _read_json_lines)
    if out.suffix in (".parquet", FOLDER):
        _pyarrow()
        return Form(_write_parquet, _join_parquet, _read_parquet)
    raise ScoringError(
        f"{out}: rows are written as .csv, .jsonl, .parquet, or into a folder whose name has no "
        "suffix"
    )


def assemble(out: Path, parts: list[Path], scratch: Path) -> None:
    """Put an output together from the parts of its shards, in their order.

    Args:
        out: what to write. A file takes its name when it is whole; a folder is whole when `SUCCESS`
            stands in it.
        parts: one for each shard.
        scratch: a folder of the same file system, for what is not yet whole.

    Raises:
        OutputError: it cannot be written.
    """
    if out.suffix != FOLDER:
        with replacing(out, scratch=scratch) as stream:
            form(out).join(stream, parts)
        return
    (out / SUCCESS).unlink(missing_ok=True)
    named = {f"part-{number:05}.parquet": part for number, part in enumerate(parts)}
    for old in out.iterdir() if out.exists() else ():
        if is_part(old) and old.name not in named:
            old.unlink()
    for name, part in named.items():
        copy(part, out / name, scratch)
    with replacing(out / SUCCESS, scratch=scratch):
        pass


def is_part(path: Path) -> bool:
    """Whether a file has a name as those in a folder of parts have."""
    return path.name == SUCCESS or bool(re.fullmatch(r"part-\d+\.parquet", path.name))


def size_of(out: Path) -> int:
    """How many bytes an output has."""
    files = filter(is_part, out.iterdir()) if out.suffix == FOLDER else [out]
    return sum(file.stat().st_size for file in files)


def read_rows(out: Path) -> Iterator[Row]:
    """The rows of an output, in their order.

    Raises:
        ScoringError: it is missing or damaged.
    """
    files = sorted(out.glob("part-*.parquet")) if out.suffix == FOLDER else [out]
    try:
        for file in files:
            with file.open("rb") as stream:
                yield from form(out).read(stream)
    # A table that somebody has edited fails in as many ways as there are parsers.
    except Exception as error:
        raise ScoringError(
            f"{out}: is no table that nnpipe wrote ({str(error) or type(error).__name__}); "
            "move it away to score anew"
        ) from error


def _write_csv(stream: IO[bytes], batches: Iterable[list[Row]]) -> None:
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    csv.writer(text, lineterminator="\n").writerows(chain.from_iterable(batches))
    text.detach()


def _join_csv(stream: IO[bytes], parts: list[Path]) -> None:
    stream.write((",".join(Row._fields) + "\n").encode())
    _copy(stream, parts)


def _copy(stream: IO[bytes], parts: list[Path]) -> None:
    for part in parts:
        with part.open("rb") as rows:
            shutil.copyfileobj(rows, stream, 2**20)


NUMBERS = ("label", "width", "height")
SHARES = ("confidence", *(f"p{digit}" for digit in range(10)))
"""Columns of integers and of floats; all others are text."""


def _read_csv(stream: IO[bytes]) -> Iterator[Row]:
    parse: dict[str, Callable[[str], Any]] = dict.fromkeys(NUMBERS, int)
    parse |= dict.fromkeys(SHARES, float)
    lines = (line.decode() for line in stream)
    for columns in csv.DictReader(lines, strict=True):
        found: dict[str, Any] = {
            name: parse.get(name, str)(columns[name]) if columns[name] or name == "reason" else None
            for name in Row._fields
        }
        yield Row(**found)


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


def _join_parquet(stream: IO[bytes], parts: list[Path]) -> None:
    _, parquet = _pyarrow()

    def tables() -> Iterator[Any]:
        for part in parts:
            with part.open("rb") as rows:
                yield parquet.read_table(rows, schema=_schema())

    _write_tables(stream, tables())


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
