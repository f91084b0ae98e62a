"""Wide tables: a row for each page of a form, a column for each field."""

import io
import sys
from itertools import count

import pandas as pd
import pyarrow.parquet as pq
import pytest

from nnpipe.errors import MissingExtraError
from nnpipe.scoring import wide
from nnpipe.scoring.rows import NumberRow

FIELDS = ["a", "b", "blank", "total"]


def row(page, field, label=None, status="ok", reason="", path="scan.pdf"):
    """A row of a form."""
    answer = (label, 0.98, None, None, reason, 100, 30, "0" * 64, None)
    return NumberRow(path, page, field, status, *answer)


def three_pages():
    yield from (row(1, field, str(n)) for n, field in enumerate(FIELDS))
    yield row(2, "a", "007")
    yield row(2, "b", "12", "doubtful", "b + blank is not total")
    yield row(2, "blank", None, "rejected", "no digit")
    yield row(2, "total", "19")
    yield from (row(3, field, None, "error", "the file is damaged") for field in FIELDS)


def test_a_page_has_the_labels_of_its_fields_and_the_worst_status():
    one, two, three = wide.rows(three_pages(), FIELDS)
    assert one.cells == ("scan.pdf", 1, "ok", "0", "1", "2", "3", "")
    assert two[:4] == ("scan.pdf", 2, "doubtful", ("007", "12", "", "19"))
    assert two.reason == "b: b + blank is not total; blank: no digit"
    assert three.status == "error"


def test_a_page_is_rejected_if_all_of_its_fields_are():
    (page,) = wide.rows([row(1, f, None, "rejected", "another form") for f in FIELDS], FIELDS)
    assert (page.status, page.reason) == ("rejected", "another form")


def test_a_reason_that_fields_share_is_given_once():
    assert [*wide.rows(three_pages(), FIELDS)][2].reason == "the file is damaged"
    some = [row(1, "a", "1"), *(row(1, f, "2", "doubtful", f"sum; {f}?") for f in ("b", "total"))]
    (page,) = wide.rows(some, FIELDS)
    assert page.reason == "b, total: sum; b: b?; total: total?"


def test_a_field_is_found_by_its_name_even_if_others_have_no_row():
    (page,) = wide.rows([row(1, "total", "5"), row(1, "b", "4", "doubtful", "?")], FIELDS)
    assert (page.labels, page.status, page.reason) == (("", "4", "", "5"), "doubtful", "b: ?")


@pytest.mark.parametrize("fields", [FIELDS, ["path", "path_", "page"], ["reason", "A", "a", ""]])
def test_names_of_columns_are_unique(fields):
    names = wide.columns(fields)
    assert len(set(names)) == len(names) == len(fields) + 4
    assert (names[:3], names[-1]) == (["path", "page", "status"], "reason")
    assert all(name.startswith(field) for name, field in zip(names[3:], fields, strict=False))


def test_pages_are_read_one_by_one():
    """The first page is there before the others are read."""
    endless = (row(page, field, "1") for page in count(1) for field in FIELDS)
    assert next(wide.rows(endless, FIELDS)).page == 1
    assert next(endless).page == 2


def test_pandas_reads_the_same_from_each_format():
    texts = io.BytesIO()
    wide.write_csv(texts, three_pages(), fields=FIELDS, escape=False)
    assert b"\r" not in texts.getvalue()
    lines, columns = io.BytesIO(), io.BytesIO()
    wide.write_json_lines(lines, three_pages(), fields=FIELDS)
    wide.write_parquet(columns, three_pages(), fields=FIELDS)
    for stream in (texts, lines, columns):
        stream.seek(0)
    text = dict.fromkeys(wide.columns(FIELDS), str)
    read = [
        pd.read_csv(texts, dtype=text, keep_default_na=False),
        pd.read_json(lines, lines=True, dtype=text),
        pd.read_parquet(columns),
    ]
    for table in read:
        assert list(table.columns) == ["path", "page", "status", *FIELDS, "reason"]
        assert list(table["a"]) == ["0", "007", ""]
        assert list(table["page"].astype(int)) == [1, 2, 3]
        assert list(table["status"]) == ["ok", "doubtful", "error"]


def test_cells_that_a_spreadsheet_would_run_are_escaped_if_asked():
    stream = io.BytesIO()
    rows = [row(1, "=1+1", "5", "doubtful", "@x", path="-a.png")]
    wide.write_csv(stream, rows, fields=["=1+1"], escape=True)
    header, line = stream.getvalue().decode().splitlines()
    assert header == "path,page,status,'=1+1,reason"
    assert line == "'-a.png,1,doubtful,5,'@x"


def test_row_groups_of_parquet_do_not_depend_on_the_batches(monkeypatch):
    tables = []
    for batch in (4096, 1):
        monkeypatch.setattr(wide, "BATCH", batch)
        stream = io.BytesIO()
        wide.write_parquet(stream, three_pages(), fields=FIELDS)
        tables.append(stream.getvalue())
    assert tables[0] == tables[1]
    assert pq.ParquetFile(io.BytesIO(tables[0])).num_row_groups == 1


def test_a_table_without_rows_has_its_columns():
    texts, columns = io.BytesIO(), io.BytesIO()
    wide.write_csv(texts, [], fields=FIELDS, escape=False)
    wide.write_parquet(columns, [], fields=FIELDS)
    assert texts.getvalue() == b"path,page,status,a,b,blank,total,reason\n"
    assert pq.read_schema(columns).names == wide.columns(FIELDS)


def test_parquet_says_which_extra_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow, which is not installed: .*\[batch\]"):
        wide.write_parquet(io.BytesIO(), [], fields=FIELDS)
