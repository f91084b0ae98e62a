"""Forms in tables: a row for each field of each page, wide tables, and workbooks."""

import csv

import openpyxl
import pandas as pd
import pytest
from PIL import Image

from nnpipe.errors import FormError, ScoringError, SettingError
from nnpipe.forms.alignment import NOT_THIS_FORM
from nnpipe.scoring import read_rows
from nnpipe.scoring.shards import score_shard
from nnpipe.scoring.summary import summary_file

from .scoring import open_plan, score, score_here
from .sheets import NAMES, form, toml, turned

FILLED = {"a.png": ("120", "035", "007", "162"), "b.png": ("061", "144", "002", "207")}


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    """Two filled pages, one on its head, and a page of something else; and the form."""
    folder = tmp_path_factory.mktemp("forms")
    (folder / "scans").mkdir()
    form().save(folder / "form.png")
    (folder / "form.toml").write_text(toml("form.png"))
    turned(form(FILLED["a.png"], seed=1), 3).save(folder / "scans" / "a.png")
    turned(form(FILLED["b.png"], seed=2), 178).save(folder / "scans" / "b.png")
    Image.new("L", (850, 1100), 250).save(folder / "scans" / "empty.png")
    (folder / "scans" / "text.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def tables(sheets, tmp_path_factory):
    """The long and the wide table, in each format."""
    folder = tmp_path_factory.mktemp("tables")
    for name in ("out.csv", "out.jsonl", "out.parquet", "out.xlsx"):
        summary = score_here(sheets / "scans", folder / name, form=sheets / "form.toml", wide=True)
        assert (summary.files, summary.statuses["error"]) == (16, 4)
        assert summary.statuses["rejected"] == 4
        assert [a["path"] for a in summary.alignments].count("empty.png") == 0
    return folder


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet"])
def test_each_field_of_each_page_has_a_row(tables, out):
    rows = list(read_rows(tables / out))
    assert [(row.path, row.field) for row in rows] == [
        (path, field) for path in ("a.png", "b.png", "empty.png", "text.png") for field in NAMES
    ]
    labels = {(row.path, row.field): row.label for row in rows if row.status == "ok"}
    right = {
        (path, f): v for path, values in FILLED.items() for f, v in zip(NAMES, values, strict=True)
    }
    assert sum(labels.get(key) == value for key, value in right.items()) >= 7
    assert all(right[key] == label for key, label in labels.items())
    assert {row.reason for row in rows if row.path == "empty.png"} == {NOT_THIS_FORM}
    assert len({row.reason for row in rows if row.path == "text.png"}) == 1


def test_wide_tables_have_a_row_for_each_page(tables):
    with open(tables / "out.wide.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "page", "status", *NAMES, "reason"]
    assert [row["path"] for row in rows] == ["a.png", "b.png", "empty.png", "text.png"]
    assert rows[2]["status"] == "rejected"
    assert rows[3]["status"] == "error"
    texts = dict.fromkeys(["page", *NAMES], "str")
    from_csv = pd.read_csv(tables / "out.wide.csv", dtype=texts, keep_default_na=False)
    from_json = pd.read_json(tables / "out.wide.jsonl", lines=True, dtype=texts)
    from_parquet = pd.read_parquet(tables / "out.wide.parquet").astype(texts)
    for other in (from_json, from_parquet):
        assert from_csv.values.tolist() == other.values.tolist()


def test_workbooks_show_rows_and_pages(tables):
    book = openpyxl.load_workbook(tables / "out.xlsx")
    assert book.sheetnames == ["rows", "pages", "about"]
    long = [[cell.value for cell in row] for row in book["rows"].iter_rows(min_row=2)]
    assert [row[2] for row in long] == [*NAMES] * 4
    wide = [[cell.value for cell in row] for row in book["pages"].iter_rows(min_row=2)]
    with open(tables / "out.wide.csv", newline="") as stream:
        _, *lines = csv.reader(stream)
    assert [[*map(str, (cell or "" for cell in row))] for row in wide] == lines
    needs_a_look = sum(row[3] in ("doubtful", "rejected") for row in long if row[0] < "c")
    assert len(book["rows"]._images) == needs_a_look


def test_interruptions_and_workers_do_not_change_a_byte(sheets, tables, tmp_path):
    """Killed before the last shard, while the output is put together, or not at all."""
    for name in ("out.csv", "out.xlsx"):
        options = {"form": sheets / "form.toml", "wide": True}
        with open_plan(sheets / "scans", tmp_path / name, **options) as plan:
            score_shard(plan, 0)
        score(sheets / "scans", tmp_path / name, workers=2, **options)
        assert (tmp_path / name).read_bytes() == (tables / name).read_bytes()
    assert (tmp_path / "out.wide.csv").read_bytes() == (tables / "out.wide.csv").read_bytes()


def test_only_new_pages_are_read_again_and_all_if_the_form_changes(sheets, tmp_path, monkeypatch):
    monkeypatch.setattr("nnpipe.scoring.local.JUST_NOW", 0)
    folder = tmp_path / "inbox"
    folder.mkdir()
    (tmp_path / "form.toml").write_text(toml("form.png"))
    form().save(tmp_path / "form.png")
    (folder / "a.png").write_bytes((sheets / "scans" / "a.png").read_bytes())
    out, options = tmp_path / "out.csv", {"form": tmp_path / "form.toml", "wide": True}
    assert score_here(folder, out, incremental=True, **options).scored == 4
    (folder / "b.png").write_bytes((sheets / "scans" / "b.png").read_bytes())
    summary = score_here(folder, out, incremental=True, **options)
    assert (summary.scored, summary.kept) == (4, 4)
    (folder / "a.png").unlink()
    (tmp_path / "form.toml").write_text(toml("form.png", checks=False))
    summary = score_here(folder, out, incremental=True, **options)
    assert (summary.scored, summary.kept, summary.gone) == (4, 0, 4)
    with open(tmp_path / "out.wide.csv", newline="") as stream:
        assert [row["path"] for row in csv.DictReader(stream)] == ["b.png"]


def test_a_wide_table_that_somebody_has_changed_stays(sheets, tmp_path):
    options = {"form": sheets / "form.toml", "wide": True}
    mine = tmp_path / "out.wide.csv"
    mine.write_text("mine")
    with pytest.raises(ScoringError, match=r"out\.wide\.csv: exists, and nnpipe has no record"):
        score_here(sheets / "scans", tmp_path / "out.csv", **options)
    assert mine.read_text() == "mine"
    mine.unlink()
    score_here(sheets / "scans", tmp_path / "out.csv", **options)
    mine.write_text("mine")
    with pytest.raises(ScoringError, match=r"out\.wide\.csv: was changed after nnpipe wrote it"):
        score_here(sheets / "scans", tmp_path / "out.csv", **options)
    assert mine.read_text() == "mine"


def test_nothing_that_nnpipe_wrote_is_scored(sheets, tmp_path):
    (tmp_path / "a.png").write_bytes((sheets / "scans" / "a.png").read_bytes())
    options = {"form": sheets / "form.toml", "wide": True}
    score_here(tmp_path, tmp_path / "out.csv", **options)
    assert summary_file(tmp_path / "out.csv").exists()
    summary = score_here(tmp_path, tmp_path / "other.jsonl", **options)
    assert summary.files == 4
    assert summary.skipped == {"written by nnpipe": 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wide": True, "form": None}, "wide is set without form"),
        ({"digits": "3"}, "digits is set with form; set it for each field"),
        ({"reject_rate": 0.01}, "reject_rate is set with form"),
        ({"wide": True, "out": "folder"}, "the output is a folder; name a file"),
        ({"incremental": True, "out": "x.xlsx"}, "a workbook is not read again"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(sheets, tmp_path, options, message):
    options = {"form": sheets / "form.toml", "out": "out.csv"} | options
    with pytest.raises(SettingError, match=message):
        score_here(sheets / "scans", tmp_path / options.pop("out"), **options)


def test_a_form_that_is_missing_is_one_sentence(sheets, tmp_path):
    with pytest.raises(FormError, match=r"none\.toml: .*no such file"):
        score_here(sheets / "scans", tmp_path / "out.csv", form=tmp_path / "none.toml")
    assert not list(tmp_path.iterdir())


def test_a_page_of_a_pdf_is_read_like_its_picture(sheets, tmp_path):
    first = Image.open(sheets / "scans" / "a.png")
    second = Image.open(sheets / "scans" / "b.png")
    first.save(tmp_path / "scan.pdf", save_all=True, append_images=[second], resolution=100)
    score_here(tmp_path / "scan.pdf", tmp_path / "out.csv", form=sheets / "form.toml")
    rows = list(read_rows(tmp_path / "out.csv"))
    assert [(row.path, row.page) for row in rows] == [("scan.pdf", 1)] * 4 + [("scan.pdf", 2)] * 4
    right = [value for values in FILLED.values() for value in values]
    assert sum(row.label == value for row, value in zip(rows, right, strict=True)) >= 7


def test_tables_of_forms_and_of_digits_do_not_mix(sheets, tmp_path):
    score_here(sheets / "scans", tmp_path / "out.csv", incremental=True)
    with pytest.raises(ScoringError, match="holds single digits, so numbers cannot be added"):
        score_here(
            sheets / "scans", tmp_path / "out.csv", incremental=True, form=sheets / "form.toml"
        )


def test_a_wide_table_that_is_left_out_once_loses_no_row(sheets, tmp_path, monkeypatch, caplog):
    """The old wide table stays, is said to be old, and is written again when it is asked for."""
    monkeypatch.setattr("nnpipe.scoring.local.JUST_NOW", 0)
    caplog.set_level("INFO")
    folder = tmp_path / "inbox"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes((sheets / "scans" / name).read_bytes())
    out, options = tmp_path / "out.csv", {"form": sheets / "form.toml", "incremental": True}
    score_here(folder, out, wide=True, **options)
    (folder / "b.png").unlink()
    assert score_here(folder, out, **options).gone == 4
    assert "out.wide.csv: is of an earlier run" in caplog.text
    summary = score_here(folder, out, wide=True, **options)
    assert (summary.scored, summary.kept, summary.gone) == (0, 4, 4)
    assert len((tmp_path / "out.wide.csv").read_text().splitlines()) == 2
