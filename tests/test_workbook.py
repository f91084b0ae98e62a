"""Workbooks: what openpyxl and pandas read in them."""

import base64
import io
import sys
import time
import zipfile
from xml.etree import ElementTree

import openpyxl
import pandas as pd
import pytest
from openpyxl.utils.units import pixels_to_EMU
from PIL import Image

from nnpipe.errors import MissingExtraError, ScoringError
from nnpipe.places import encode_path
from nnpipe.scoring import sheets, workbook
from nnpipe.scoring.rows import NumberRow, Row

FIELDS = ["a", "path"]
AMBER, RED, GREY = "FFFFD966", "FFF4A6A6", "FFBFBFBF"


def png(width=400, height=60, level=200):
    stream = io.BytesIO()
    Image.new("L", (width, height), level).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def row(path="a.png", label="007", status="ok", reason="", *, page=1, field="", crop=None):
    answer = (label, 0.875, "001", 0.1, reason, 100, 30, "0" * 64, "[]")
    return NumberRow(path, page, field, status, *answer, crop=crop)


def some():
    """One row of each status."""
    yield row()
    yield row("b.png", "12", "doubtful", "a + b is not c", crop=png())
    yield row("c.png", None, "rejected", "no digit", crop=png(28, 28))
    yield row("d.png", None, "error", "the file is damaged")


def pages():
    """Two pages of a form with two fields."""
    yield row("s.pdf", "1", field="a")
    yield row("s.pdf", "2", field="path")
    yield row("s.pdf", "3", "doubtful", "sum", page=2, field="a", crop=png())
    yield row("s.pdf", None, "rejected", "no digit", page=2, field="path", crop=png())


def written(rows, **options):
    stream = io.BytesIO()
    workbook.write(stream, rows, **options)
    return stream


def opened(rows, **options):
    return openpyxl.load_workbook(written(rows, **options))


def colour(cell):
    return cell.fill.fgColor.rgb if cell.fill.fill_type else None


def test_pandas_reads_the_rows():
    text = dict.fromkeys(["label", "second", "reason"], str)
    table = pd.read_excel(written(some()), dtype=text, keep_default_na=False)
    assert list(table.columns) == list(workbook.COLUMNS)
    assert list(table["path"]) == ["a.png", "b.png", "c.png", "d.png"]
    assert list(table["label"]) == ["007", "12", "", ""]
    assert list(table["status"]) == ["ok", "doubtful", "rejected", "error"]
    assert list(table["confidence"]) == [0.875] * 4
    assert list(table["page"]) == [1] * 4


def test_labels_are_text_and_excel_does_not_complain():
    stream = written(some())
    cell = openpyxl.load_workbook(stream)["rows"]["E2"]
    assert (cell.value, cell.data_type, cell.number_format) == ("007", "s", "@")
    xml = zipfile.ZipFile(stream).read("xl/worksheets/sheet1.xml").decode()
    assert '<ignoredError sqref="A1:XFD1048576" numberStoredAsText="1"/>' in xml


def test_what_needs_a_look_is_coloured_and_says_why():
    sheet = opened(some())["rows"]
    assert [colour(sheet[f"E{n}"]) for n in range(2, 6)] == [None, AMBER, RED, GREY]
    assert [colour(sheet[f"D{n}"]) for n in range(2, 6)] == [None, AMBER, RED, GREY]
    notes = [sheet[f"E{n}"].comment for n in range(2, 6)]
    assert [note and note.text for note in notes] == [
        None, "a + b is not c", "no digit", "the file is damaged",
    ]  # fmt: skip


def test_a_crop_is_in_the_row_of_its_answer_and_fits():
    stream = written(some())
    sheet = openpyxl.load_workbook(stream)["rows"]
    anchors = [image.anchor for image in sheet._images]
    assert [(a._from.row, a._from.col) for a in anchors] == [(2, 5), (3, 5)]
    assert [(a.to.row, a.to.col) for a in anchors] == [(2, 5), (3, 5)]
    sizes = [(a.to.colOff - a._from.colOff, a.to.rowOff - a._from.rowOff) for a in anchors]
    assert sizes == [tuple(map(pixels_to_EMU, size)) for size in ((200, 30), (40, 40))]
    assert sheet.row_dimensions[3].height == 33  # points: 44 pixels
    drawing = zipfile.ZipFile(stream).read("xl/drawings/drawing1.xml").decode()
    assert drawing.count("<xdr:twoCellAnchor>") == 2  # moves, and is hidden, with its row


def test_the_header_stays_and_filters():
    sheet = opened(some())["rows"]
    assert sheet.freeze_panes == "C2"
    assert sheet.auto_filter.ref == "A1:I5"
    assert sheet["A1"].font.bold
    assert sheet.column_dimensions["F"].width * 7 >= 200


HOSTILE = [
    ("=1+1", "=1+1"),
    ('=HYPERLINK("http://x")', '=HYPERLINK("http://x")'),
    ("http://example.org/", "http://example.org/"),
    ("@SUM(1)", "@SUM(1)"),
    ("'", "'"),
    ("12", "12"),
    ("a\x00\x0b\r\x1fb", "a\ufffd\ufffd\ufffd\ufffdb"),
    ("\ud800 \uffff", "\ufffd \ufffd"),
    ("<r><t>x</t></r>", " <r><t>x</t></r>"),
    ("<r></r>", " <r></r>"),
    ("</is></c><c>&amp;]]>", "</is></c><c>&amp;]]>"),
    ("  spaces ", "  spaces "),
    ("x" * 40_000, "x" * 32_766 + "…"),
    ("\U0001f600" * 20_000, "\U0001f600" * 16_383 + "…"),
    (encode_path(b"\xff\xfe.png"), r"\xff\xfe.png"),
]


@pytest.mark.parametrize(("text", "shown"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_text_wherever_it_comes_from(text, shown):
    rows = [row(text, text, "doubtful", text, field=text)]
    stream = written(rows, fields=[text], about={text: text})
    with zipfile.ZipFile(stream) as file:
        for name in file.namelist():
            ElementTree.fromstring(file.read(name))  # noqa: S314 - we wrote it
            assert "hyperlink" not in name
        assert b"<f>" not in file.read("xl/worksheets/sheet1.xml")
    book = openpyxl.load_workbook(stream)
    cells = [book["rows"][f"{column}2"] for column in "ACEI"]
    cells += [*(book["pages"][f"{column}2"] for column in "AD"), *book["about"][1]]
    assert {cell.value for cell in cells} == {shown}
    assert {cell.data_type for cell in cells} <= {"s", "inlineStr"}
    assert book["rows"]["E2"].comment.text == shown
    assert book["pages"]["D1"].value == shown


def test_the_sheet_of_pages_has_a_column_for_each_field():
    sheet = opened(pages(), fields=FIELDS)["pages"]
    values = [[cell.value for cell in line] for line in sheet]
    assert values == [
        ["path", "page", "status", "a", "path_", "reason"],
        ["s.pdf", 1, "ok", "1", "2", ""],
        ["s.pdf", 2, "doubtful", "3", None, "a: sum; path: no digit"],
    ]
    assert [colour(cell) for cell in sheet[3]] == [None, None, AMBER, AMBER, RED, None]
    assert [cell.comment and cell.comment.text for cell in sheet[3]] == [
        None, None, None, "sum", "no digit", None,
    ]  # fmt: skip
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("C2", "A1:F3")


def test_the_workbook_says_what_its_colours_mean():
    book = opened(some(), about={"source": "scans", "weights": "ab12"})
    assert book.sheetnames == ["rows", "about"]
    lines = [[cell.value for cell in line] for line in book["about"]]
    assert lines[:2] == [["source", "scans"], ["weights", "ab12"]]
    assert [name for name, _ in lines[2:]] == ["ok", "doubtful", "rejected", "error"]
    assert all(text.startswith("1 row. ") for _, text in lines[2:])
    assert colour(book["about"]["A4"]) == AMBER


def test_a_table_without_rows_is_a_workbook():
    book = opened([], fields=FIELDS)
    assert [cell.value for cell in book["rows"][1]] == list(workbook.COLUMNS)
    assert book["pages"].max_row == 1


def test_single_digits_have_a_second_choice():
    shares = [0.0] * 10
    shares[3], shares[8] = 0.6, 0.4
    rows = [
        Row("a", 1, "", status, label, 0.6, *shares, "", 9, 9, "0")
        for status, label in (("ok", 3), ("rejected", None))
    ]
    rows.append(Row("a", 1, "", "error", None, None, *[None] * 10, "?", None, None, None))
    sheet = opened(rows)["rows"]
    values = [[sheet[f"{column}{n}"].value for column in "EGH"] for n in (2, 3, 4)]
    assert values == [["3", 0.6, "8"], [None, 0.6, "3"], [None, None, None]]


def test_equal_rows_make_equal_bytes(monkeypatch):
    first = written(pages(), fields=FIELDS).getvalue()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    time.sleep(2)
    try:
        assert written(pages(), fields=FIELDS).getvalue() == first
    finally:
        monkeypatch.undo()
        time.tzset()


def test_crops_and_notes_past_the_limits_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(sheets, "MOST", {"crops": 1, "notes": 2})
    book = opened(some())
    assert len(book["rows"]._images) == 1
    assert [bool(book["rows"][f"E{n}"].comment) for n in (3, 4, 5)] == [True, True, False]
    assert colour(book["rows"]["E5"]) == GREY
    last = [[cell.value for cell in line] for line in book["about"]][-2:]
    assert last == [
        ["crops", "Only the first 1 of 2 are in this file."],
        ["notes", "Only the first 2 of 3 are in this file."],
    ]


@pytest.mark.parametrize(("rows", "columns"), [(2**20, 9), (5_000_000, 9), (1, 2**14 + 1)])
def test_more_than_a_sheet_holds_is_an_error_that_names_another_format(rows, columns):
    with pytest.raises(ScoringError, match=r"at most 1[0-9,]+ (rows|columns).*\.csv or \.parquet"):
        workbook.check_limits(rows, columns)
    workbook.check_limits(2**20 - 1, 2**14)


def test_writing_stops_at_the_limit(monkeypatch):
    monkeypatch.setattr(sheets, "MOST_ROWS", 4)
    assert opened(list(some())[:3])["rows"].max_row == 4
    with pytest.raises(ScoringError, match="at most 3 rows"):
        written(some())


def test_too_many_fields_are_an_error_before_any_row_is_read():
    with pytest.raises(ScoringError, match="columns"):
        written(iter(int, 1), fields=[f"f{n}" for n in range(2**14)])


def test_what_goes_wrong_with_the_rows_or_the_disk_is_raised_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        workbook.write(Full(), some())

    def damaged():
        yield row()
        raise ScoringError("damaged")

    with pytest.raises(ScoringError, match="damaged"):
        written(damaged())
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(MissingExtraError, match=r"Excel workbook needs xlsxwriter.*\[batch\]"):
        workbook.check_package()
