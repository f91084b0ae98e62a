"""Sheets of Excel, written row by row in constant memory: text, colours, notes and pictures.

No text is ever taken for a formula, a link or XML, whatever somebody has named a file.
"""

import base64
import io
import re
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from nnpipe.errors import ScoringError

MOST_ROWS, MOST_COLUMNS = 2**20, 2**14
"""Limits of a sheet of Excel; the header is one of the rows."""

MOST_UNITS = 32_767
"""Limit of Excel for the text of a cell, in units of UTF-16."""

MOST = {"crops": 20_000, "notes": 65_000}
"""Crops and notes of a workbook. They are kept in memory, and Excel opens more of them slowly."""

CROP = 200, 40
"""Most pixels that a crop takes on the sheet: width and height."""

CROP_COLUMN = 5
"""The column of the crops."""

MARGIN = 2
"""Pixels between a crop and the border of its cell."""

NARROWEST, WIDEST = 8, 60
"""Limits of the width of a column, in characters."""

CHARACTER = 7
"""Pixels of a character in a width."""

COLOURS = {"doubtful": "#FFD966", "rejected": "#F4A6A6", "error": "#BFBFBF"}
"""Background of a cell by its status: amber, red, grey."""

OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "use_zip64": True,
}
"""Options of XlsxWriter."""

NO_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""A character that XML forbids."""


class Cell(NamedTuple):
    """A cell."""

    value: str | int | float | None
    status: str = "ok"  # gives the colour
    note: str = ""


class Book:
    """A workbook: the formats of its cells, and which crops and notes did not fit."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.bold = file.add_format({"bold": True, "bottom": 1})
        self.wanted: Counter[str] = Counter()  # crops and notes, whether they fit or not
        self._formats: dict[tuple[str, str], Any] = {}

    def format(self, number: str, status: str) -> Any:
        """Return the format of cells with a format of numbers, such as "@", and a status."""
        if (number, status) not in self._formats:
            colour = {"bg_color": COLOURS[status]} if status in COLOURS else {}
            look = {"num_format": number, "valign": "vcenter", "align": "left"}
            self._formats[number, status] = self.file.add_format(look | colour)
        return self._formats[number, status]

    def has_room(self, what: str) -> bool:
        """Count one more of the crops or notes, and return True if it fits."""
        self.wanted[what] += 1
        return self.wanted[what] <= MOST[what]


class Sheet:
    """A sheet of a workbook."""

    def __init__(self, book: Book, name: str, *, names: Sequence[str]) -> None:
        """Write the header.

        Args:
            book: the workbook.
            name: of the sheet.
            names: of the columns.
        """
        self.book, self.sheet = book, book.file.add_worksheet(name)
        self.widths = [len(name) + 3 for name in names]  # with the filter's button
        for column, header in enumerate(names):
            self.sheet.write_string(0, column, text_of(header), book.bold)
        self.rows = 0

    def add(self, cells: Sequence[Cell], *, crop: str | None = None) -> None:
        """Write the next row.

        Args:
            cells: one for each column; that of the crop is empty.
            crop: PNG in base64.

        Raises:
            ScoringError: the sheet is full.
        """
        self.rows += 1
        check_limits(self.rows, len(self.widths))
        if crop and self.book.has_room("crops"):
            self._show(crop, column=CROP_COLUMN)
        for column, cell in enumerate(cells):
            self._write(column, cell)

    def _write(self, column: int, cell: Cell) -> None:
        value = cell.value
        if isinstance(value, str):
            text = text_of(value)
            look = self.book.format("@", cell.status)
            self.sheet.write_string(self.rows, column, text, look)
            self.widths[column] = max(self.widths[column], len(text) + 1)
        else:
            number = "@" if value is None else "0" if isinstance(value, int) else "0.0%"
            self.sheet.write(self.rows, column, value, self.book.format(number, cell.status))
        if cell.note and self.book.has_room("notes"):
            self.sheet.write_comment(self.rows, column, text_of(cell.note))

    def _show(self, crop: str, *, column: int) -> None:
        """Put a crop into its cell, and make the row high enough."""
        png = base64.b64decode(crop)
        size = struct.unpack_from(">II", png, 16)  # where a PNG has its width and height
        scale = min(most / side for most, side in zip(CROP, size, strict=True))
        self.sheet.set_row_pixels(self.rows, CROP[1] + 2 * MARGIN)
        options = {
            "image_data": io.BytesIO(png),
            "x_scale": scale,
            "y_scale": scale,
            "x_offset": MARGIN,
            "y_offset": MARGIN,
            "decorative": True,
            "object_position": 1,  # a filter hides the crop with its row
        }
        self.sheet.insert_image(self.rows, column, "crop.png", options)
        self.widths[column] = CROP[0] // CHARACTER + 1

    def finish(self) -> None:
        """Set the widths of the columns, the filter, and what stays in sight."""
        for column, width in enumerate(self.widths):
            self.sheet.set_column(column, column, min(max(width, NARROWEST), WIDEST))
        self.sheet.freeze_panes(1, 2)  # the header, the path and the page
        self.sheet.set_landscape()
        self.sheet.set_paper(A4)
        self.sheet.fit_to_pages(1, 0)
        self.sheet.repeat_rows(0)
        self.sheet.autofilter(0, 0, self.rows, len(self.widths) - 1)
        # Excel would mark labels such as 007, which are text, with a green triangle.
        self.sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{MOST_ROWS}"})


A4 = 9
"""Excel's number of the size of paper."""


def check_limits(rows: int, columns: int) -> None:
    """Check that a table fits into a sheet.

    Args:
        rows: without the header.
        columns: of the table.

    Raises:
        ScoringError: it does not.
    """
    for count, most, what in ((rows, MOST_ROWS - 1, "rows"), (columns, MOST_COLUMNS, "columns")):
        if count > most:
            raise ScoringError(
                f"a sheet of Excel has at most {most:,} {what}, and this table needs {count:,}; "
                "score into .csv or .parquet"
            )


def text_of(value: str) -> str:
    """Return what XML and Excel allow of a text."""
    text = NO_XML.sub("\ufffd", value)
    if text.startswith("<r>"):  # XlsxWriter would copy it into the file as XML
        text = f" {text}"
    if 2 * len(text) > MOST_UNITS:
        units = text.encode("utf-16-le")
        if len(units) > 2 * MOST_UNITS:
            text = units[: 2 * MOST_UNITS - 2].decode("utf-16-le", "ignore") + "…"
    return text
