"""Files of several pages in tables: a row for each page, whatever happens to the others."""

import io
import os

import pytest
from PIL import Image

from nnpipe import Classifier
from nnpipe.pages import Page
from nnpipe.scoring import planning, read_rows
from nnpipe.scoring.shards import score_shard

from .make_samples import encoded, picture
from .scoring import open_plan, score, score_here


def sheets(*digits):
    """Pages of one digit each."""
    return [picture(digit).convert("L") for digit in digits]


def pdf(*digits):
    stream = io.BytesIO()
    first, *rest = sheets(*digits)
    first.save(stream, "PDF", save_all=True, append_images=rest, resolution=100)
    return stream.getvalue()


def tiff(*digits):
    stream = io.BytesIO()
    first, *rest = sheets(*digits)
    first.save(stream, "TIFF", save_all=True, append_images=rest)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf(3, 1, 4))
    (folder / "b.tif").write_bytes(tiff(1, 5))
    (folder / "c.png").write_bytes(encoded(picture(9), "PNG"))
    return folder


def places(out):
    return [(row.path, row.page) for row in read_rows(out)]


PLACES = [("a.pdf", 1), ("a.pdf", 2), ("a.pdf", 3), ("b.tif", 1), ("b.tif", 2), ("c.png", 1)]


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet", "out"])
def test_each_page_has_its_row(folder, tmp_path, out):
    summary = score_here(folder, tmp_path / out)
    assert (summary.files, summary.statuses) == (6, {"ok": 6})
    rows = list(read_rows(tmp_path / out))
    assert places(tmp_path / out) == PLACES
    assert [row.label for row in rows] == [3, 1, 4, 1, 5, 9]
    assert rows[0].sha256 == rows[2].sha256 != rows[3].sha256


def test_a_row_says_what_its_page_alone_says(folder, tmp_path):
    score_here(folder, tmp_path / "out.jsonl")
    classifier = Classifier.load()
    for row in read_rows(tmp_path / "out.jsonl"):
        alone = classifier.read(Page((folder / row.path).read_bytes(), row.page))
        assert (row.label, row.confidence) == (alone.label, alone.confidence)


def test_one_file_is_a_source(folder, tmp_path):
    score_here(folder / "a.pdf", tmp_path / "out.csv")
    assert places(tmp_path / "out.csv") == PLACES[:3]
    score_here(folder / "c.png", tmp_path / "other.csv")
    assert places(tmp_path / "other.csv") == PLACES[5:]


def test_pages_of_one_file_are_shared_among_shards_and_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "FEW_FILES", 2)
    (tmp_path / "many.tif").write_bytes(tiff(*range(10)))
    with open_plan(tmp_path / "many.tif", tmp_path / "here.csv") as plan:
        assert plan.counts == [2] * 5
        score_shard(plan, 3)
    score_here(tmp_path / "many.tif", tmp_path / "here.csv")
    score(tmp_path / "many.tif", tmp_path / "two.csv", workers=2)
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert [row.page for row in read_rows(tmp_path / "two.csv")] == list(range(1, 11))


def test_a_damaged_page_is_an_error_and_the_others_are_read(tmp_path):
    """Noise in the place of one page's pixels, of those that are compressed."""
    stream = io.BytesIO()
    first, *rest = sheets(1, 2, 3)
    first.save(stream, "TIFF", save_all=True, append_images=rest, compression="tiff_adobe_deflate")
    content = bytearray(stream.getvalue())
    with Image.open(stream) as image:
        image.seek(1)
        (offset, *_), (size, *_) = image.tag_v2[273], image.tag_v2[279]
    content[offset : offset + size] = bytes(size)
    (tmp_path / "scan.tif").write_bytes(content)
    score_here(tmp_path / "scan.tif", tmp_path / "out.csv")
    rows = list(read_rows(tmp_path / "out.csv"))
    assert [(row.page, row.status) for row in rows] == [(1, "ok"), (2, "error"), (3, "ok")]
    assert "damaged" in rows[1].reason


@pytest.mark.parametrize("content", [b"%PDF-1.4\n", b"%PDF-1.4\n1 0 obj\n<< >>\nendobj\n", b""])
def test_a_file_whose_pages_cannot_be_counted_has_one_row(folder, tmp_path, content):
    (folder / "bad.pdf").write_bytes(content)
    summary = score_here(folder, tmp_path / "out.csv")
    assert summary.statuses == {"error": 1, "ok": 6}
    (row,) = [row for row in read_rows(tmp_path / "out.csv") if row.status == "error"]
    assert (row.path, row.page) == ("bad.pdf", 1)
    assert row.reason


def test_later_runs_read_pages_of_files_that_have_changed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("nnpipe.scoring.local.JUST_NOW", 0)
    out = tmp_path / "out.csv"
    score_here(folder, out, incremental=True)
    assert score_here(folder, out, incremental=True).scored == 0
    (folder / "a.pdf").write_bytes(pdf(7, 8))
    (folder / "b.tif").unlink()
    summary = score_here(folder, out, incremental=True)
    assert (summary.scored, summary.kept, summary.gone) == (2, 1, 3)
    rows = list(read_rows(out))
    assert [(row.path, row.page) for row in rows if row.gone] == [PLACES[2], *PLACES[3:5]]
    assert [row.label for row in rows if row.path == "a.pdf"] == [7, 8, 4]
    summary = score_here(folder, out, incremental=True, prune=True)
    assert places(out) == [("a.pdf", 1), ("a.pdf", 2), ("c.png", 1)]


def test_numbers_are_read_on_each_page(folder, tmp_path):
    summary = score_here(folder, tmp_path / "out.csv", digits="1")
    assert summary.statuses == {"ok": 6}
    assert [row.label for row in read_rows(tmp_path / "out.csv")] == list("314159")


def test_a_number_that_occurs_once_is_given_to_one_page(tmp_path):
    """Two pages show the same number, which one of them gets."""
    (tmp_path / "scan.tif").write_bytes(tiff(3, 3))
    (tmp_path / "ids").write_text("3\n8\n")
    options = {"digits": "1", "valid": tmp_path / "ids", "valid_once": True}
    score_here(tmp_path / "scan.tif", tmp_path / "out.csv", **options)
    rows = list(read_rows(tmp_path / "out.csv"))
    assert sorted(row.label or "" for row in rows).count("3") == 1
    assert any("3 was given to scan.tif" in row.reason for row in rows)


def test_pages_of_a_file_that_waits_keep_their_rows(folder, tmp_path, monkeypatch):
    """A file that is still being written is listed once, whatever the pages that it had."""
    monkeypatch.setattr("nnpipe.scoring.local.JUST_NOW", 0)
    for name in ("a.pdf", "b.tif", "c.png"):
        os.utime(folder / name, (10**9, 10**9))
    score_here(folder, tmp_path / "out.csv", incremental=True)
    os.utime(folder / "a.pdf")
    for options in ({}, {"prune": True}):
        summary = score_here(folder, tmp_path / "out.csv", incremental=True, settle=3600, **options)
        assert (summary.files, summary.gone) == (6, 0)
        assert places(tmp_path / "out.csv") == PLACES


def test_all_pages_of_a_file_that_was_mended_are_read_when_errors_are_tried_again(folder, tmp_path):
    (folder / "a.pdf").write_bytes(b"%PDF-1.4")
    out = tmp_path / "out.csv"
    assert score_here(folder, out).statuses == {"error": 1, "ok": 3}
    (folder / "a.pdf").write_bytes(pdf(3, 1, 4))
    summary = score_here(folder, out, retry_errors=True)
    assert (summary.statuses, summary.kept) == ({"ok": 6}, 3)
    assert places(out) == PLACES


def test_pages_that_are_added_after_the_listing_are_not_lost(folder, tmp_path):
    out = tmp_path / "out.csv"
    with open_plan(folder / "a.pdf", out):
        (folder / "a.pdf").write_bytes(pdf(3, 1, 4, 1, 5))
    assert score_here(folder / "a.pdf", out).statuses == {"error": 3}
    (row, *_) = read_rows(out)
    assert row.reason == "the file has 5 pages, and had 3 when listed"
    assert score_here(folder / "a.pdf", out, retry_errors=True).statuses == {"ok": 5}


@pytest.mark.parametrize("options", [{}, {"digits": "1"}])
def test_pages_of_a_file_with_another_suffix_are_not_lost(tmp_path, options):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "one").write_bytes(pdf(3))
    (tmp_path / "scan" / "two.jpg").write_bytes(tiff(3, 1))
    summary = score_here(tmp_path / "scan", tmp_path / "out.csv", **options)
    assert summary.statuses == {"error": 1, "ok": 1}
    rows = list(read_rows(tmp_path / "out.csv"))
    assert rows[1].reason == "the file has 2 pages, so its name must end with .pdf, .tif, .tiff"
