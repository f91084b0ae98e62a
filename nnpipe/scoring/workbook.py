"""Workbooks of Excel: the rows, with a form its pages as well, and what the colours mean.

A person corrects the answers in it. So it shows what needs a look: a colour, the reason as a note,
and the crop of the picture.
"""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

from nnpipe.errors import needs
from nnpipe.scoring import sheets
from nnpipe.scoring.sheets import Book, Cell, Sheet, text_of

if TYPE_CHECKING:  # both import this module
    from nnpipe.scoring.rows import AnyRow
    from nnpipe.scoring.wide import WideRow

COLUMNS = "path", "page", "field", "status", "label", "crop", "confidence", "second", "reason"
"""The columns of the sheet of rows."""

MEANINGS = {
    "ok": "The value was read.",
    "doubtful": "The value was read, but needs a look. The note on the cell says why.",
    "rejected": "The value could not be read. The note on the cell says why. Type it in.",
    "error": "The page could not be opened. The note on the cell says why.",
}
"""What each status means."""

CREATED = datetime(2000, 1, 1)
"""The date in every workbook, so that equal rows make equal bytes."""


def check_package() -> None:
    """Check that workbooks can be written.

    Raises:
        MissingExtraError: XlsxWriter is not installed.
    """
    with needs("batch", "writing an Excel workbook"):
        import xlsxwriter  # noqa: F401


def check_limits(rows: int, columns: int = len(COLUMNS)) -> None:
    """Check that a table fits into a workbook; see `sheets.check_limits`."""
    sheets.check_limits(rows, columns)


def write(
    stream: IO[bytes],
    rows: Iterable["AnyRow"],
    *,
    fields: Sequence[str] = (),
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a workbook.

    Args:
        stream: of the new file.
        rows: those of a page follow each other.
        fields: names of the form's fields; they become the columns of a sheet of pages.
        about: further lines of the sheet that explains the workbook, such as the source.

    Raises:
        MissingExtraError: XlsxWriter is not installed.
        ScoringError: the rows do not fit into a sheet.
        OSError: the disk is full.
    """
    from nnpipe.scoring import wide  # imports `rows`, which imports this module

    check_package()
    import xlsxwriter

    check_limits(0, len(wide.columns(fields)))
    statuses: Counter[str] = Counter()
    with TemporaryDirectory() as folder, _output(stream) as output:
        options = sheets.OPTIONS | {"tmpdir": folder}
        with xlsxwriter.Workbook(output, options) as file:
            file.set_properties({"created": CREATED})
            book = Book(file)
            table = Sheet(book, "rows", names=COLUMNS)

            def written() -> Iterator["AnyRow"]:
                for row in rows:
                    statuses[row.status] += 1
                    table.add(_cells(row), crop=row.crop)
                    yield row

            if fields:
                pages = Sheet(book, "pages", names=wide.columns(fields))
                for page in wide.rows(written(), fields):
                    pages.add(_cells_of_page(page))
                pages.finish()
            else:
                for _ in written():
                    pass
            table.finish()
            _explain(book, statuses, about=about or {})


class _Output:
    """A stream that can be taken away from XlsxWriter."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def _output(stream: IO[bytes]) -> Iterator[_Output]:
    """Give a stream to XlsxWriter, and raise the `OSError` that it wraps into one of its own."""
    from xlsxwriter.exceptions import FileCreateError

    output = _Output(stream)
    try:
        yield output
    except FileCreateError as error:
        raise error.args[0] from None
    finally:
        # After an error, XlsxWriter leaves its archive open. It ends when Python frees it.
        output.stream = io.BytesIO()


def _cells(row: "AnyRow") -> list[Cell]:
    """Return the cells of a row."""
    label = Cell(None if row.label is None else str(row.label), row.status, _note(row))
    place = Cell(row.path), Cell(row.page), Cell(row.field), Cell(row.status, row.status)
    others = Cell(row.confidence), Cell(_second(row)), Cell(row.reason)
    return [*place, label, Cell(None), *others]


def _second(row: "AnyRow") -> str | None:
    """Return the second most probable answer; of a rejected digit, the most probable one."""
    columns = row._asdict()
    if "second" in columns:
        second: str | None = columns["second"]
        return second
    shares = [columns[f"p{digit}"] for digit in range(10)]
    if None in shares:
        return None
    order = sorted(range(10), key=shares.__getitem__, reverse=True)
    return str(order[row.label is not None])


def _cells_of_page(page: "WideRow") -> list[Cell]:
    """Return the cells of a page."""
    fields = [
        Cell(label or None, row.status, _note(row)) if row else Cell(None)
        for label, row in zip(page.labels, page.rows, strict=True)
    ]
    place = Cell(page.path), Cell(page.page), Cell(page.status, page.status)
    return [*place, *fields, Cell(page.reason)]


def _note(row: "AnyRow") -> str:
    return "" if row.status == "ok" else row.reason


def _explain(book: Book, statuses: Mapping[str, int], *, about: Mapping[str, str]) -> None:
    """Write the sheet that says what the workbook is and what its colours mean."""
    lines = [(Cell(name), Cell(value)) for name, value in about.items()]
    for status, meaning in MEANINGS.items():
        n = statuses.get(status, 0)
        rows = f"{n:,} {'row' if n == 1 else 'rows'}. {meaning}"
        lines.append((Cell(status, status), Cell(rows)))
    for what, n in book.wanted.items():
        if n > (most := sheets.MOST[what]):
            lines.append((Cell(what), Cell(f"Only the first {most:,} of {n:,} are in this file.")))
    sheet = book.file.add_worksheet("about")
    for number, line in enumerate(lines):
        for column, cell in enumerate(line):
            text = text_of(str(cell.value))
            sheet.write_string(number, column, text, book.format("@", cell.status))
    sheet.set_column(0, 0, 20)
    sheet.set_column(1, 1, sheets.WIDEST)
    sheet.set_paper(sheets.A4)
    sheet.fit_to_pages(1, 0)
