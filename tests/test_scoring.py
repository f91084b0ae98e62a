import csv
import hashlib
import json
import os
import socket
import string
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nnpipe import datasets, preprocess, scoring
from nnpipe.classifier import Classifier
from nnpipe.errors import OutputError, ScoringError
from nnpipe.evaluation import evaluate
from nnpipe.scoring import Row, decode_path, encode_path, list_files, score

from .make_samples import encoded, picture


@pytest.fixture
def classifier(weights_file):
    return Classifier.load(weights_file)


@pytest.fixture
def folder(tmp_path):
    """Seven files in three folders: three digits, a blank one, and three that are no pictures."""
    folder = tmp_path / "pictures"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "b.png").write_bytes(encoded(picture(1), "PNG"))
    (folder / "a.jpg").write_bytes(encoded(picture(2), "JPEG"))
    (folder / "sub" / "deep" / "c.PNG").write_bytes(encoded(picture(3), "PNG"))
    (folder / "sub" / "blank.png").write_bytes(encoded(picture(0, pen=0.1, height=1), "PNG"))
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG")[:700])
    (folder / "notes.txt").write_text("three pictures")
    (folder / "empty").touch()
    return folder


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_file_has_its_row_in_the_order_of_paths(folder, classifier, tmp_path):
    summary = score(folder, tmp_path / "out.csv", classifier)
    rows = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
    assert list(rows) == [
        "a.jpg",
        "b.png",
        "empty",
        "notes.txt",
        "sub/blank.png",
        "sub/cut.png",
        "sub/deep/c.PNG",
    ]
    assert [row["status"] for row in rows.values()] == [
        "ok",
        "ok",
        "error",
        "error",
        "rejected",
        "error",
        "ok",
    ]
    assert rows["empty"]["reason"] == "the file is empty"
    assert rows["sub/blank.png"]["label"] == ""
    assert rows["sub/blank.png"]["p0"] != ""
    assert rows["b.png"]["width"] == "120"
    assert rows["notes.txt"]["sha256"] == hashlib.sha256(b"three pictures").hexdigest()
    assert summary.files == 7
    assert summary.statuses == {"ok": 3, "rejected": 1, "error": 3}
    assert sum(summary.labels.values()) == 3
    assert not summary.complete


def test_each_row_holds_the_answer_for_its_own_file(folder, classifier, tmp_path):
    """Also when the batch holds unreadable files before it: what the classifier says of each
    picture alone is what stands in its row, to the last digit."""
    score(folder, tmp_path / "out.jsonl", classifier)
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        alone = classifier.read(folder / row["path"])
        assert (row["status"], row["label"], row["reason"]) == (
            alone.status,
            alone.label,
            alone.reason,
        )
        if alone.probabilities:
            assert [row[f"p{i}"] for i in range(10)] == [round(p, 6) for p in alone.probabilities]


def test_batches_do_not_change_a_byte(folder, classifier, tmp_path, monkeypatch):
    score(folder, tmp_path / "one.csv", classifier)
    monkeypatch.setattr(scoring, "BATCH", 2)
    score(folder, tmp_path / "two.csv", classifier)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_pandas_reads_the_same_table_from_every_form(folder, classifier, tmp_path):
    (folder / 'quote",comma\nline\rend.png').write_bytes(encoded(picture(5), "PNG"))
    for suffix in scoring.SUFFIXES:
        score(folder, tmp_path / f"out{suffix}", classifier)
    texts = {"path": "str", "status": "str", "reason": "str", "sha256": "str"}
    integers = {"label": "Int64", "width": "Int64", "height": "Int64"}
    from_csv = pd.read_csv(tmp_path / "out.csv", keep_default_na=True).astype(integers)
    from_csv["reason"] = from_csv["reason"].fillna("")
    from_json = pd.read_json(tmp_path / "out.jsonl", lines=True).astype(integers)
    from_parquet = pd.read_parquet(tmp_path / "out.parquet").astype(integers)
    assert list(from_csv.columns) == list(Row._fields)
    for other in (from_json, from_parquet):
        pd.testing.assert_frame_equal(from_csv.astype(texts), other.astype(texts))


@given(st.binary(min_size=1, max_size=60).filter(lambda b: not set(b) & {0, ord("/")}))
def test_paths_are_lossless_whatever_their_bytes(name):
    path = Path("source") / os.fsdecode(b"x" + name)
    text = encode_path(path, Path("source"))
    text.encode("utf-8")
    assert decode_path(text) == b"x" + name


@given(st.text(string.ascii_letters + "äß中 ,'\"=-", min_size=1, max_size=30))
def test_names_in_utf8_are_written_as_they_are(name):
    assert encode_path(Path("s") / f"x{name}", Path("s")) == f"x{name}"


def test_a_name_that_is_not_utf8_has_its_row(folder, classifier, tmp_path):
    name = os.fsdecode(b"caf\xe9\\.png")
    (folder / name).write_bytes(encoded(picture(6), "PNG"))
    score(folder, tmp_path / "out.csv", classifier)
    paths = [row["path"] for row in read_csv(tmp_path / "out.csv")]
    assert r"caf\xe9\\.png" in paths
    assert decode_path(r"caf\xe9\\.png") == b"caf\xe9\\.png"


def test_what_is_no_file_is_named_and_links_to_nothing_are_errors(folder, classifier, tmp_path):
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (folder / "link-to-pipe.png").symlink_to(tmp_path / "pipe")
    (folder / "folder.png").mkdir()
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "dangling.png").symlink_to(folder / "none.png")
    (folder / "link.png").symlink_to(folder / "b.png")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "s"))
        summary = score(folder, tmp_path / "out.csv", classifier)
    rows = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
    assert summary.skipped == {
        "link-to-pipe.png": "neither file nor folder",
        "pipe.png": "neither file nor folder",
        "s": "neither file nor folder",
        "loop": "link to a folder",
    }
    assert rows["link.png"]["label"] == rows["b.png"]["label"] != ""
    assert rows["dangling.png"]["reason"] == "there is no such file"
    assert rows["self.png"]["status"] == "error"
    assert len(rows) == 10


def test_a_file_that_vanishes_after_the_listing_is_an_error_row(
    folder, classifier, tmp_path, monkeypatch
):
    def listing(source):
        found = list_files(source)
        (folder / "b.png").unlink()
        return found

    monkeypatch.setattr(scoring, "list_files", listing)
    score(folder, tmp_path / "out.csv", classifier)
    rows = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
    assert rows["b.png"]["reason"] == "there is no such file"
    assert rows["a.jpg"]["status"] == "ok"


def test_whatever_goes_wrong_with_one_picture_stays_in_its_row(
    folder, classifier, tmp_path, monkeypatch
):
    """Even what nobody has foreseen: a bug in a parser, or no memory left."""
    real = preprocess.grey
    (folder / "odd.png").write_bytes(encoded(Image.new("L", (1, 1)), "PNG"))
    for error in (MemoryError(), ZeroDivisionError("by zero"), OSError("odd")):

        def grey(image, error=error):
            if image.size == (1, 1):
                raise error
            return real(image)

        monkeypatch.setattr(preprocess, "grey", grey)
        score(folder, tmp_path / "out.csv", classifier)
        rows = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
        assert len(rows) == 8
        assert rows["odd.png"]["status"] == "error"
        assert rows["b.png"]["status"] == "ok"


def test_a_huge_file_is_an_error_row_and_is_not_read(folder, classifier, tmp_path):
    with open(folder / "film.mp4", "wb") as stream:
        stream.truncate(60 * 2**30)  # sparse
    score(folder, tmp_path / "out.csv", classifier)
    rows = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
    assert rows["film.mp4"]["reason"] == "the file has more than the 256 MiB that are read"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_closed_folders_and_files_are_named(folder, classifier, tmp_path):
    (folder / "sub").chmod(0)
    (folder / "b.png").chmod(0)
    try:
        summary = score(folder, tmp_path / "out.csv", classifier)
    finally:
        (folder / "sub").chmod(0o755)
    rows = {row["path"]: row for row in read_csv(tmp_path / "out.csv")}
    assert "Permission denied" in rows["b.png"]["reason"]
    assert summary.skipped == {"sub": "folder cannot be read (Permission denied)"}


def test_an_output_within_the_source_is_not_scored_the_next_time(folder, classifier):
    for _ in range(2):
        summary = score(folder, folder / "scores.csv", classifier)
        assert summary.files == 7


def test_progress_is_told(folder, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "BATCH", 3)
    told = []
    score(folder, tmp_path / "out.csv", classifier, lambda *counts: told.append(counts))
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_what_cannot_be_scored_is_one_sentence(folder, classifier, tmp_path):
    with pytest.raises(ScoringError, match=r"rows are written as \.csv, \.jsonl, \.parquet"):
        score(folder, tmp_path / "out.xlsx", classifier)
    with pytest.raises(ScoringError, match=r"cannot be listed .No such file"):
        score(tmp_path / "none", tmp_path / "out.csv", classifier)
    with pytest.raises(ScoringError, match=r"cannot be listed .Not a directory"):
        score(folder / "b.png", tmp_path / "out.csv", classifier)
    (tmp_path / "void").mkdir()
    with pytest.raises(ScoringError, match="holds no files to score"):
        score(tmp_path / "void", tmp_path / "out.csv", classifier)
    assert not (tmp_path / "out.csv").exists()


def test_a_failing_output_leaves_the_old_one(folder, classifier, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("old")

    def full(stream):
        def write(rows):
            raise OSError(28, "No space left on device")

        return write

    monkeypatch.setattr(scoring, "_csv", full)
    with pytest.raises(OutputError, match=r"out\.csv: could not be written .No space left"):
        score(folder, out, classifier)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob(".nnpipe-*"))


@pytest.mark.slow
def test_mnists_test_digits_as_files_are_read_as_they_are_evaluated(mnist_data, tmp_path):
    """10,000 PNGs, scored from their folder: the very probabilities, and so the very accuracy."""
    champion, test = Classifier.load(), datasets.load("mnist", mnist_data).test
    folder = tmp_path / "mnist"
    folder.mkdir()
    for number, image in enumerate(test.images):
        (folder / f"{number:05}.png").write_bytes(encoded(Image.fromarray(image), "PNG"))
    score(folder, tmp_path / "out.csv", champion)
    rows = pd.read_csv(tmp_path / "out.csv")
    found = rows[[f"p{digit}" for digit in range(10)]].to_numpy()
    assert (found == champion.probabilities(test.images).astype(float).round(6)).all()
    evaluated = evaluate(test.labels, champion.probabilities(test.images))
    assert (found.argmax(axis=1) == test.labels).mean() == evaluated.accuracy
    rejected = rows.status != "ok"
    assert rejected.mean() < 0.01
    assert (rows.confidence[rejected] < champion.threshold).all()
