"""Folders of pictures → one row for each file, in the order of their paths, none ever missing."""

import csv
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from nnpipe.classifier import Classifier, Reading
from nnpipe.errors import MissingExtraError, PictureError, ScoringError
from nnpipe.files import replacing, sha256
from nnpipe.preprocess import Prepared, prepare, read_file

BATCH = 128
SUFFIXES = (".csv", ".jsonl", ".parquet")


class Row(NamedTuple):
    """What is known of one file. Probabilities are rounded to six digits, alike in every sink."""

    path: str  # relative to the source, see `encode_path`
    status: str  # "ok", "rejected" or "error"
    label: int | None
    confidence: float | None
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


class Listing(NamedTuple):
    """What lies in a folder, in the order of the encoded paths."""

    files: list[Path]
    skipped: dict[str, str]  # what is no file, or a folder that cannot be read, and why


@dataclass(frozen=True)
class Summary:
    """How a scoring run went."""

    files: int
    statuses: dict[str, int]  # rows per status
    labels: dict[int, int]  # rows per label
    reasons: dict[str, int]  # rows that are not "ok", per reason
    skipped: dict[str, str]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every file was read."""
        return self.statuses.get("ok", 0) == self.files and not self.skipped

    def remarks(self, most: int = 5) -> list[str]:
        """The most frequent reasons, and the first of what has no row, a line each."""
        reasons = [f"{n:,} × {reason}" for reason, n in self.reasons.items()]
        skipped = [f"not a file, no row: {path} ({why})" for path, why in self.skipped.items()]
        return reasons[:most] + skipped[:most]


def score(
    source: Path,
    out: Path,
    classifier: Classifier,
    on_progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Read every file below a folder and write one row for each.

    The output takes its name when all is done; until then nothing of it is seen.

    Args:
        source: a folder; all files in it and below it are read.
        out: ``.csv``, ``.jsonl`` or ``.parquet``.
        classifier: what reads.
        on_progress: called after each batch with the number of files done and of all.

    Raises:
        ScoringError: the source is no folder, holds no file, or the sink's form is not known.
        MissingExtraError: Parquet is asked for and pyarrow is not installed.
        OutputError: the rows cannot be written.
    """
    start = time.perf_counter()
    if out.suffix not in SUFFIXES or out.is_dir():
        raise ScoringError(
            f"{out}: rows are written as {', '.join(SUFFIXES)}; name a file that ends so"
        )
    files, skipped = list_files(source)
    # What an earlier run has written into its own source is no picture.
    files = [file for file in files if file.name != out.name or file.resolve() != out.resolve()]
    if not files:
        raise ScoringError(f"{source}: holds no files to score")

    statuses, labels, reasons = Counter[str](), Counter[int](), Counter[str]()
    done = 0
    with open_sink(out) as write:
        for first in range(0, len(files), BATCH):
            rows = _read_rows(source, files[first : first + BATCH], classifier)
            write(rows)
            done += len(rows)
            statuses.update(row.status for row in rows)
            labels.update(row.label for row in rows if row.label is not None)
            reasons.update(row.reason for row in rows if row.reason)
            if on_progress:
                on_progress(done, len(files))
    return Summary(
        files=len(files),
        statuses=dict(statuses),
        labels=dict(sorted(labels.items())),
        reasons=dict(reasons.most_common()),
        skipped=skipped,
        seconds=time.perf_counter() - start,
    )


def list_files(source: Path) -> Listing:
    """Find every file below a folder; links to files count, links to folders are not followed.

    Raises:
        ScoringError: the source is not a folder that can be read.
    """
    files: list[Path] = []
    skipped: dict[str, str] = {}
    folders = [source]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            if folder == source:
                raise ScoringError(f"{source}: cannot be listed ({error.strerror})") from None
            skipped[encode_path(folder, source)] = f"folder cannot be read ({error.strerror})"
            continue
        for entry in entries:
            path = Path(entry.path)
            try:
                mode = path.stat().st_mode
                is_folder = entry.is_dir(follow_symlinks=False)
            except OSError:  # a link to nothing, a closed folder: the file's row will say why
                files.append(path)
                continue
            if is_folder:
                folders.append(path)
            elif stat.S_ISREG(mode):
                files.append(path)
            elif stat.S_ISDIR(mode):
                skipped[encode_path(path, source)] = "link to a folder"
            else:
                skipped[encode_path(path, source)] = "neither file nor folder"
    return Listing(sorted(files, key=lambda path: encode_path(path, source)), skipped)


def encode_path(path: Path, source: Path) -> str:
    r"""Write a path relative to the source as text from which `decode_path` gets it back.

    A file's name is bytes, and need not be UTF-8: other bytes, and control characters such as a
    line's end, become ``\xff``, and a backslash doubles, so that no two names become one.
    """
    name = os.fsencode(path.relative_to(source).as_posix())
    text = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def decode_path(text: str) -> bytes:
    r"""The bytes of the relative path that `encode_path` wrote as ``text``."""
    return re.sub(
        rb"\\(?:\\|x([0-9a-f]{2}))",
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\",
        text.encode(),
    )


def _read_rows(source: Path, files: Sequence[Path], classifier: Classifier) -> list[Row]:
    """Read a batch of files. What goes wrong with one of them ends up in its own row."""
    hashes: list[str | None] = []
    prepared: list[Prepared | PictureError] = []
    for file in files:
        digest = None
        try:
            content = read_file(file)
            digest = sha256(content)
            prepared.append(prepare(content))
        except PictureError as error:
            prepared.append(error)
        hashes.append(digest)
    readings = classifier.read_prepared(prepared)
    return [
        _row(encode_path(file, source), reading, digest)
        for file, reading, digest in zip(files, readings, hashes, strict=True)
    ]


def _row(path: str, reading: Reading, digest: str | None) -> Row:
    def rounded(share: float | None) -> float | None:
        return None if share is None else round(share, 6)

    shares = [rounded(share) for share in reading.probabilities or [None] * 10]
    head = [path, reading.status, reading.label, rounded(reading.confidence)]
    return Row._make([*head, *shares, reading.reason, reading.width, reading.height, digest])


Write = Callable[[list[Row]], None]


@contextmanager
def open_sink(out: Path) -> Iterator[Write]:
    """Open an output by its suffix; it takes its name when the block ends well."""
    if out.suffix == ".parquet":
        with replacing(out) as stream, _open_parquet(stream) as write:
            yield write
    else:
        with replacing(out, "w", encoding="utf-8", newline="") as stream:
            yield _csv(stream) if out.suffix == ".csv" else _json_lines(stream)


def _csv(stream: IO[str]) -> Write:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(Row._fields)
    return writer.writerows


def _json_lines(stream: IO[str]) -> Write:
    def write(rows: list[Row]) -> None:
        stream.writelines(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows)

    return write


@contextmanager
def _open_parquet(stream: IO[bytes]) -> Iterator[Write]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise MissingExtraError(
            "Parquet needs pyarrow: pip install 'nnpipe[batch]', or name a .csv or .jsonl file"
        ) from None

    types: dict[str, Any] = dict.fromkeys(Row._fields, pa.float64())
    types |= dict.fromkeys(("path", "status", "reason", "sha256"), pa.string())
    types |= {"label": pa.int8(), "width": pa.int32(), "height": pa.int32()}
    schema = pa.schema(list(types.items()))
    with parquet.ParquetWriter(stream, schema) as writer:

        def write(rows: list[Row]) -> None:
            columns = [list(column) for column in zip(*rows, strict=True)]
            writer.write_table(pa.table(dict(zip(types, columns, strict=True)), schema=schema))

        yield write
