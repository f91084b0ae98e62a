"""One row for every file, the same whatever happens on the way."""

import csv
import hashlib
import json
import os
import shutil
import string
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from nnpipe import datasets, drift, preprocess, weights
from nnpipe.classifier import Classifier, Reading, champion, feature_values
from nnpipe.datasets import drawn
from nnpipe.errors import OutputError, ScoringError
from nnpipe.evaluation import evaluate
from nnpipe.scoring import decode_path, encode_path, local, manifest, planning, read_rows
from nnpipe.scoring.entries import Entry
from nnpipe.scoring.manifest import Line
from nnpipe.scoring.rows import COLUMNS, to_row
from nnpipe.scoring.shards import run_shards, score_shard
from nnpipe.scoring.summary import finish, summary_file

from .make_samples import SAMPLES, encoded, picture
from .scoring import open_plan, score

OUTPUTS = ("out.csv", "out.jsonl", "out.parquet", "out")


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


@pytest.fixture
def small_shards(monkeypatch):
    """Two files to a shard."""
    monkeypatch.setattr(planning, "SHARD_FILES", 2)


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def score_here(source, out, **options):
    """Score without worker processes."""
    with open_plan(str(source), str(out), **options) as found:
        for shard in found.undone():
            score_shard(found, shard)
        return finish(found, rows=found.files, seconds=1)


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files are old enough for their time stamps to be trusted as soon as they are written."""
    monkeypatch.setattr(local, "JUST_NOW", 0)


def content(out):
    """The bytes of an output, be it a file or a folder."""
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return {file.name: file.read_bytes() for file in files}


# --- rows -----------------------------------------------------------------------------------------


def test_every_file_has_its_row_in_the_order_of_paths(folder, weights_file, tmp_path):
    summary = score(str(folder), str(tmp_path / "out.csv"), weights_file)
    rows = read_csv(tmp_path / "out.csv")
    assert {path: row["status"] for path, row in rows.items()} == {
        "a.jpg": "ok",
        "b.png": "ok",
        "empty": "error",
        "notes.txt": "error",
        "sub/blank.png": "rejected",
        "sub/cut.png": "error",
        "sub/deep/c.PNG": "ok",
    }
    assert list(rows) == sorted(rows)
    assert rows["empty"]["reason"] == "the file is empty"
    assert rows["sub/blank.png"]["label"] == ""
    assert rows["sub/blank.png"]["p0"] != ""
    assert rows["b.png"]["width"] == "120"
    assert rows["notes.txt"]["sha256"] == hashlib.sha256(b"three pictures").hexdigest()
    assert summary.files == summary.scored == 7
    assert summary.statuses == {"error": 3, "ok": 3, "rejected": 1}
    assert sum(summary.labels.values()) == 3
    assert not summary.complete


def test_each_row_holds_the_answer_for_its_own_file(tmp_path):
    """What the classifier says of each picture alone is what stands in its row."""
    score(str(SAMPLES), str(tmp_path / "out.jsonl"))
    classifier = Classifier.load()
    for row in read_rows(tmp_path / "out.jsonl"):
        alone = classifier.read(SAMPLES / row.path)
        assert (row.status, row.label) == (alone.status, alone.label)
        assert row[5:16] == (alone.confidence, *(alone.probabilities or (None,) * 10))
        assert (row.reason, row.width, row.height) == (alone.reason, alone.width, alone.height)
        assert row.sha256 == (
            hashlib.sha256((SAMPLES / row.path).read_bytes()).hexdigest()
            if (SAMPLES / row.path).stat().st_size
            else None
        )


@pytest.mark.parametrize("out", OUTPUTS)
def test_workers_and_shards_do_not_change_a_row(folder, tmp_path, small_shards, out):
    score(str(folder), str(tmp_path / "one" / out), workers=1)
    score(str(folder), str(tmp_path / "three" / out), workers=3)
    assert content(tmp_path / "one" / out) == content(tmp_path / "three" / out)
    score_here(folder, tmp_path / "here" / out)
    assert content(tmp_path / "one" / out) == content(tmp_path / "here" / out)
    assert not list(tmp_path.rglob("*.nnpipe"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_pandas_and_duckdb_read_the_same_table_from_every_form(folder, tmp_path, small_shards):
    import duckdb

    (folder / 'quote",comma\nline\rend.png').write_bytes(encoded(picture(5), "PNG"))
    for out in OUTPUTS:
        score_here(folder, tmp_path / out)
    integers = {"page": "Int64", "label": "Int64", "width": "Int64", "height": "Int64"}
    texts = dict.fromkeys(("path", "field", "status", "reason", "sha256"), "str")
    from_csv = pd.read_csv(tmp_path / "out.csv").astype(integers)
    from_csv[["reason", "field"]] = from_csv[["reason", "field"]].astype("object").fillna("")
    assert list(from_csv.columns) == list(COLUMNS)
    assert len(from_csv) == 8
    tables = [
        pd.read_json(tmp_path / "out.jsonl", lines=True),
        pd.read_parquet(tmp_path / "out.parquet"),
        pd.read_parquet(tmp_path / "out"),
        duckdb.read_parquet(f"{tmp_path}/out/*.parquet").order("path").df(),
    ]
    for table in tables:
        table = table.astype(integers).astype(texts)
        pd.testing.assert_frame_equal(from_csv.astype(texts), table)
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 4
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize("out", OUTPUTS)
def test_rows_come_back_as_they_were_written(tmp_path, out):
    score_here(SAMPLES, tmp_path / out)
    score_here(SAMPLES, tmp_path / "reference.jsonl")
    rows = list(read_rows(tmp_path / out))
    assert rows == list(read_rows(tmp_path / "reference.jsonl"))
    assert {type(row.p3) for row in rows} == {float, type(None)}


@given(st.binary(min_size=1, max_size=60).filter(lambda b: not set(b) & {0, ord("/")}))
def test_paths_are_lossless_whatever_their_bytes(name):
    text = encode_path(b"x" + name)
    text.encode("utf-8")
    assert len(text.splitlines()) == 1
    assert decode_path(text) == b"x" + name


@given(st.text(string.ascii_letters + "äß中 ,'\"=-", min_size=1, max_size=30))
def test_names_in_utf8_are_written_as_they_are(name):
    assert encode_path(name) == name


UNSAFE = [
    *map(chr, [*range(1, 32), *range(127, 160)]),  # C0, DEL and C1, with CSI and next line
    *"\u2028\u2029",  # line and paragraph separator
    *map(chr, [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),  # directions
]


@given(st.text(st.sampled_from([*UNSAFE, "a", "\\", "é"]), min_size=1, max_size=12))
@example("".join(UNSAFE))
def test_what_breaks_a_line_or_moves_a_cursor_is_escaped_and_comes_back(name):
    text = encode_path(name)
    assert not set(text) & set(UNSAFE)
    assert decode_path(text).decode() == name


names = st.binary(min_size=1, max_size=4) | st.text(
    st.sampled_from([*UNSAFE, "a", "é"]), min_size=1
)


@given(st.sets(names), st.sets(names))
def test_every_file_keeps_its_row_whatever_its_name(before, now):
    """Escapes change the order of names, for the earlier run and for the new one alike."""

    def ordered(names):
        with manifest.in_order([Entry(encode_path(name)) for name in names]) as found:
            return list(found.entries)

    earlier = [Line(e, (to_row(e, Reading("error"), digest=None),)) for e in ordered(before)]
    old, new = ({encode_path(name) for name in names} for names in (before, now))
    joined = list(manifest.join(ordered(now), iter(earlier)))
    assert [line.entry.path for _, line in joined] == sorted(old | new)
    for entry, line in joined:
        path = line.entry.path
        assert (entry is not None, bool(line.rows)) == (path in new, path in old)
        assert all(row.path == path for row in line.rows)


# --- what goes wrong stays in its row -------------------------------------------------------------


def test_a_file_that_vanishes_or_changes_after_the_listing_has_its_row(folder, tmp_path):
    with open_plan(str(folder), str(tmp_path / "out.csv")) as found:
        (folder / "b.png").unlink()
        (folder / "empty").write_bytes(encoded(picture(7), "PNG"))
        (folder / "notes.txt").unlink()
        os.mkfifo(folder / "notes.txt")
        score_shard(found, 0)
        finish(found, rows=7, seconds=1)
    rows = read_csv(tmp_path / "out.csv")
    assert rows["b.png"]["reason"] == "there is no such file"
    assert rows["notes.txt"]["reason"] == "this is neither file nor folder"
    assert rows["empty"]["label"] == "7"
    assert rows["a.jpg"]["status"] == "ok"


def test_whatever_goes_wrong_with_one_picture_stays_in_its_row(folder, tmp_path, monkeypatch):
    """Even what nobody has foreseen: a bug in a parser, or no memory left."""
    real = preprocess.grey
    (folder / "odd.png").write_bytes(encoded(Image.new("L", (1, 1)), "PNG"))
    for error in (MemoryError(), ZeroDivisionError("by zero"), OSError("odd"), RecursionError()):

        def grey(image, error=error):
            if image.size == (1, 1):
                raise error
            return real(image)

        monkeypatch.setattr(preprocess, "grey", grey)
        score_here(folder, tmp_path / "out.csv")
        rows = read_csv(tmp_path / "out.csv")
        assert len(rows) == 8
        assert rows["odd.png"]["status"] == "error"
        assert rows["b.png"]["label"] == "1"


def test_a_huge_file_is_an_error_row_and_is_not_read(folder, tmp_path):
    with open(folder / "film.mp4", "wb") as stream:
        stream.truncate(60 * 2**30)  # sparse
    score_here(folder, tmp_path / "out.csv")
    reason = read_csv(tmp_path / "out.csv")["film.mp4"]["reason"]
    assert reason == "the file has more than the 256 MiB that are read"


@settings(deadline=None)
@given(st.data())
def test_a_bad_neighbour_changes_no_other_row(data):
    """Pictures and rubbish in any order: each picture is read as if it were alone."""
    good = [encoded(picture(label), "PNG") for label in (1, 5)]
    good += [encoded(Image.fromarray(np.zeros((28, 28), np.uint8)), "PNG")]
    cut = data.draw(st.integers(0, len(good[0]) - 1))
    bad = [b"", b"\x89PNG\r\n\x1a\n", good[0][:cut], data.draw(st.binary(max_size=60))]
    order = data.draw(st.lists(st.sampled_from(good + bad), min_size=1, max_size=8))
    together = NEIGHBOURS.read_many(order)
    for content_, reading in zip(order, together, strict=True):
        alone = NEIGHBOURS.read(content_)
        assert reading == alone


NEIGHBOURS = Classifier.load()


# --- what was done before -------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_only_what_is_new_or_has_changed_is_scored(folder, tmp_path, small_shards, out, caplog):
    caplog.set_level("INFO")
    target = tmp_path / out
    assert score_here(folder, target, incremental=True).scored == 7
    assert "every file is scored: there is no table of an earlier run" in caplog.text
    assert score_here(folder, target, incremental=True).scored == 0

    (folder / "new.png").write_bytes(encoded(picture(8), "PNG"))
    (folder / "b.png").write_bytes(encoded(picture(9), "PNG"))
    (folder / "a.jpg").unlink()
    summary = score_here(folder, target, incremental=True)
    assert (summary.files, summary.scored, summary.kept, summary.gone) == (8, 2, 5, 1)
    assert "; 2 new, 5 kept, 1 gone)" in summary.lines()[0]
    labels = {row.path: row.label for row in read_rows(target)}
    assert (labels["b.png"], labels["new.png"]) == (9, 8)

    score_here(folder, tmp_path / "anew" / out)
    present = [row[: len(COLUMNS)] for row in read_rows(target) if not row.gone]
    assert present == [row[: len(COLUMNS)] for row in read_rows(tmp_path / "anew" / out)]


def test_a_file_that_was_just_written_is_not_trusted_to_stay_so(folder, tmp_path, monkeypatch):
    """It might be written once more within the same tick of the clock."""
    monkeypatch.setattr(local, "JUST_NOW", 2 * 10**8)
    time.sleep(0.3)
    (folder / "b.png").write_bytes(encoded(picture(9), "PNG"))
    score_here(folder, tmp_path / "out.csv", incremental=True)
    assert score_here(folder, tmp_path / "out.csv", incremental=True).scored == 1


def test_nothing_stale_is_used_again(folder, tmp_path, weights_file, monkeypatch, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out.csv"
    score_here(folder, out, incremental=True)
    assert score_here(folder, out, incremental=True, weights=weights_file).scored == 7
    ours, other = (hashlib.sha256(f.read_bytes()).hexdigest() for f in (champion(), weights_file))
    assert caplog.messages[-1].startswith(
        f"every file is scored: the weights changed (SHA-256 {ours[:8]}… → {other[:8]}…), the thr"
    )
    assert score_here(folder, out, incremental=True, weights=weights_file).scored == 0
    assert score_here(folder, out, incremental=True).scored == 7
    monkeypatch.setattr(planning, "PREPROCESSING_VERSION", 99)
    assert score_here(folder, out, incremental=True).scored == 7
    version = preprocess.PREPROCESSING_VERSION
    why = f"every file is scored: the preprocessing version changed ({version} → 99)"
    assert caplog.messages[-1] == why
    monkeypatch.undo()
    score_here(folder, out, incremental=True)
    assert score_here(folder, out, incremental=True, reject_rate=0).scored == 7
    usual = Classifier.load().threshold
    assert caplog.messages[-1] == f"every file is scored: the threshold changed ({usual:.4g} → 0)"
    sub = score_here(folder / "sub", out, incremental=True, reject_rate=0)
    assert (sub.files, sub.scored) == (3, 3)
    why = f"every file is scored: another source ({folder} → {folder / 'sub'})"
    assert caplog.messages[-1] == why


def test_a_run_that_was_not_incremental_is_no_base(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    score_here(folder, tmp_path / "out.csv")
    assert score_here(folder, tmp_path / "out.csv", incremental=True).scored == 7
    assert "it is not known which files have changed" in caplog.text


@pytest.mark.parametrize("edit", [b"", b"path,status\n", b"\x00\xff", None])
def test_an_output_that_somebody_has_edited_is_not_taken_for_ours(folder, tmp_path, edit):
    out = tmp_path / "out.csv"
    score_here(folder, out, incremental=True)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:-1]) if edit is None else edit)
    with pytest.raises(ScoringError, match="move it away, or name another output"):
        score_here(folder, out, incremental=True)


def test_a_file_that_takes_the_place_of_another_is_seen(folder, tmp_path):
    """With its size and its time stamp, as files have that were unpacked together."""
    for name, label in (("1.bmp", 1), ("2.bmp", 2)):
        (folder / name).write_bytes(encoded(picture(label), "BMP"))
        os.utime(folder / name, (10**9, 10**9))
    score_here(folder, tmp_path / "out.csv", incremental=True)
    (folder / "2.bmp").replace(folder / "1.bmp")
    score_here(folder, tmp_path / "out.csv", incremental=True)
    assert read_csv(tmp_path / "out.csv")["1.bmp"]["label"] == "2"


def test_what_could_not_be_read_is_looked_at_again(folder, tmp_path, monkeypatch):
    """A row without a hash says nothing of the file: it may have been closed, or its server."""
    from nnpipe.errors import PictureError

    def closed(self, entries):
        return iter([PictureError("the file cannot be read: Permission denied")] * len(entries))

    with monkeypatch.context() as patch:
        patch.setattr(local.Local, "read", closed)
        score_here(folder, tmp_path / "out.csv", incremental=True)
    assert score_here(folder, tmp_path / "out.csv", incremental=True).scored == 6


@pytest.mark.parametrize("out", ["out.csv", "out"])
def test_an_output_that_was_moved_away_is_made_anew(folder, tmp_path, out):
    """And not from an old listing, which is kept for the next increment."""
    score_here(folder, tmp_path / out, incremental=True)
    (tmp_path / out).rename(tmp_path / "away")
    (folder / "new.png").write_bytes(encoded(picture(8), "PNG"))
    (folder / "a.jpg").unlink()
    assert score_here(folder, tmp_path / out, incremental=True).scored == 7
    rows = {row.path: row.label for row in read_rows(tmp_path / out)}
    assert rows["new.png"] == 8
    assert "a.jpg" not in rows


def test_a_folder_of_parts_that_is_removed_meanwhile_comes_back_whole(
    folder, tmp_path, small_shards
):
    with open_plan(str(folder), str(tmp_path / "out")) as found:
        for shard in found.undone()[:2]:
            score_shard(found, shard)
        found.part(0).unlink()
    assert score_here(folder, tmp_path / "out").files == 7
    assert len(list(read_rows(tmp_path / "out"))) == 7


def test_a_folder_of_parts_stays_as_it_is_until_the_next_run_is_done(
    folder, tmp_path, small_shards
):
    out = tmp_path / "out"
    score_here(folder, out)
    before = content(out)
    (folder / "0.png").write_bytes(encoded(picture(0), "PNG"))
    with open_plan(str(folder), str(out)) as found:
        for shard in found.undone()[:2]:
            score_shard(found, shard)
    assert content(out) == before
    score_here(folder, out, retry_errors=True)
    assert {row.path for row in read_rows(out)} == {row.path for row in rows_of(before, tmp_path)}


def rows_of(files, tmp_path):
    (tmp_path / "copy").mkdir()
    for name, bytes_ in files.items():
        (tmp_path / "copy" / name).write_bytes(bytes_)
    return list(read_rows(tmp_path / "copy"))


def test_what_has_no_row_is_still_told_when_errors_are_tried_again(folder, tmp_path):
    os.mkfifo(folder / "pipe")
    score_here(folder, tmp_path / "out.csv")
    summary = score_here(folder, tmp_path / "out.csv", retry_errors=True)
    assert summary.skipped == {"neither file nor folder": 1}


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("out", OUTPUTS)
def test_nothing_stays_behind_but_output_and_summary(folder, tmp_path, out, retry):
    score_here(folder, tmp_path / "results" / out)
    if retry:
        score_here(folder, tmp_path / "results" / out, retry_errors=True)
    left = {path.name for path in (tmp_path / "results").iterdir()}
    assert left == {out, f"{out}.summary.json"}


def test_an_output_that_is_a_link_is_written_where_it_leads(folder, tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "out.csv")
    (tmp_path / "out.csv").touch()
    score_here(folder, tmp_path / "link.csv", incremental=True)
    assert score_here(folder, tmp_path / "link.csv", incremental=True).scored == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert len(read_csv(tmp_path / "out.csv")) == 7


@pytest.mark.parametrize("out", OUTPUTS)
def test_only_errors_are_tried_again(folder, tmp_path, out, small_shards):
    target = tmp_path / out
    score_here(folder, target)
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG"))
    (folder / "b.png").unlink()  # was read, and is not looked for
    (folder / "new.png").write_bytes(encoded(picture(4), "PNG"))  # was not there
    summary = score_here(folder, target, retry_errors=True)
    rows = {row.path: row for row in read_rows(target)}
    assert (summary.files, summary.scored) == (7, 3)
    assert (rows["sub/cut.png"].label, rows["b.png"].label) == (4, 1)
    assert rows["empty"].status == "error"
    assert "new.png" not in rows


def test_errors_may_be_tried_again_and_all_be_remembered(folder, tmp_path):
    out = tmp_path / "out.csv"
    score_here(folder, out, incremental=True)
    assert score_here(folder, out, retry_errors=True).scored == 3
    assert score_here(folder, out, incremental=True).scored == 0
    assert score_here(folder, out, incremental=True, retry_errors=True).scored == 3


def test_errors_of_no_run_or_of_another_cannot_be_tried_again(folder, tmp_path, weights_file):
    with pytest.raises(ScoringError, match="there is no table of an earlier run") as raised:
        score_here(folder, tmp_path / "out.csv", retry_errors=True)
    assert raised.value.advice == "retry_errors"
    score_here(folder, tmp_path / "out.csv")
    with pytest.raises(ScoringError, match="the weights changed"):
        score_here(folder, tmp_path / "out.csv", retry_errors=True, weights=weights_file)


# --- output and summary ---------------------------------------------------------------------------


def test_the_summary_is_kept_beside_the_output(folder, tmp_path):
    os.mkfifo(folder / "pipe")
    summary = score_here(folder, tmp_path / "out.csv")
    kept = json.loads(summary_file(tmp_path / "out.csv").read_text())
    assert kept["statuses"] == summary.statuses
    assert kept["reasons"]["the file is empty"] == 1
    assert kept["skipped"] == {"neither file nor folder": 1}
    assert kept["skipped_named"] == {"pipe": "neither file nor folder"}
    assert kept["largest"][0] == {"width": 120, "height": 140, "path": "b.png"} or (
        kept["largest"][0]["width"] >= 120
    )
    assert {slow["path"] for slow in kept["slowest"]} <= set(read_csv(tmp_path / "out.csv"))
    assert kept["command"]["weights"] == hashlib.sha256(champion().read_bytes()).hexdigest()
    told = "\n".join(summary.lines())
    assert "7 rows (3 error, 3 ok, 1 rejected)" in told
    assert "no row: 1 × neither file nor folder" in told
    assert "slowest: " in told


def test_the_slowest_picture_is_named_also_among_small_ones(tmp_path, monkeypatch):
    """Pictures of 28×28 pixels are drawn later than they are opened, many together."""
    (tmp_path / "in").mkdir()
    for number in range(20):
        small = picture(4, (28, 28), 18, pen=2, paper=(210, 210, 210)).convert("L")
        small.putpixel((0, 0), 200 + number)
        (tmp_path / "in" / f"{number:02}.png").write_bytes(encoded(small, "PNG"))
    real = preprocess.grey
    at_work, marks = [], []

    def grey(image):
        number = image.getpixel((0, 0)) - 200
        at_work.append((number, marks[-1]))
        time.sleep(0.3 if number == 7 else 0)
        return real(image)

    monkeypatch.setattr(preprocess, "grey", grey)
    with open_plan(str(tmp_path / "in"), str(tmp_path / "out.csv")) as found:
        for shard in found.undone():
            score_shard(found, shard, on_item=marks.append)
        summary = finish(found, rows=found.files, seconds=1)
    assert len(at_work) == 20
    assert all(number == mark for number, mark in at_work)
    assert marks[-1] == -1
    slow, other = summary.slowest[:2]
    assert slow["path"] == "07.png"
    assert slow["seconds"] >= 0.3
    assert other["seconds"] < 0.3


# --- drift ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_drawn(tmp_path_factory):
    """The champion, but with 3,000 drawn digits to compare with, as if trained on such."""
    classifier = Classifier.load()
    digits = drawn.draw(np.arange(3000) % 10, np.random.default_rng(0))
    reference = drift.describe(feature_values(classifier.read_many(list(digits))))
    path = tmp_path_factory.mktemp("drawn") / "weights.npz"
    metadata = replace(classifier.weights.metadata, reference=reference)
    golden = drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1)
    weights.save(path, classifier.weights.network, metadata=metadata, golden=golden)
    return path


def fill(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(pictures):
        (folder / f"{number:03}.png").write_bytes(encoded(Image.fromarray(pixels), "PNG"))
    return folder


RNG = np.random.default_rng(1)
LIKE = drawn.draw(np.arange(200) % 10, RNG)

UNLIKE = {
    "faint": ({"confidences", "ink"}, LIKE * 0.4),
    "noisy": ({"confidences", "rejections", "ink"}, LIKE + RNG.normal(0, 70, LIKE.shape)),
    "all sevens": ({"labels"}, drawn.draw(np.full(200, 7), RNG)),
    "half of them blank": (
        {"labels", "rejections", "ink"},
        LIKE * (np.arange(200) % 2).reshape(-1, 1, 1),
    ),
}


def past(found):
    return {feature.name for feature in found.features if feature.past}


def test_pictures_like_the_validation_digits_are_no_drift(tmp_path, of_drawn):
    folder = fill(tmp_path / "in", LIKE)
    summary = score_here(folder, tmp_path / "out.csv", weights=of_drawn)
    assert [feature.name for feature in summary.drift.features] == list(drift.FEATURES)
    assert {feature.n for feature in summary.drift.features} == {200}
    assert not summary.drift.past
    assert "drift" not in str(summary)


@pytest.mark.parametrize("what", UNLIKE)
def test_pictures_unlike_them_are(tmp_path, of_drawn, what):
    features, pictures = UNLIKE[what]
    folder = fill(tmp_path / "in", pictures.clip(0, 255).astype(np.uint8))
    summary = score_here(folder, tmp_path / "out.csv", weights=of_drawn)
    assert summary.drift.past
    assert past(summary.drift) >= features
    (line,) = [line for line in summary.lines() if "drift" in line]
    assert line.startswith("  drift: unlike the validation digits in ")
    for feature in summary.drift.features:
        told = f"{feature.name} (PSI {feature.psi:.2f}, limit {feature.limit:.2f})"
        assert (told in line) == feature.past
    kept = json.loads(summary_file(tmp_path / "out.csv").read_text())
    assert kept["drift"] == asdict(summary.drift)


@pytest.mark.slow
def test_mnists_test_digits_are_no_drift_for_the_champion(mnist_data, tmp_path):
    images = datasets.load("mnist", mnist_data).test.images[::20]
    summary = score_here(fill(tmp_path / "in", images), tmp_path / "out.csv")
    assert not summary.drift.past
    noise = np.random.default_rng(0).normal(0, 60, images.shape)
    noisy = (images + noise).clip(0, 255).astype(np.uint8)
    summary = score_here(fill(tmp_path / "noisy", noisy), tmp_path / "noisy.csv")
    assert past(summary.drift) >= {"confidences", "ink"}


def test_workers_shards_and_a_run_in_two_parts_do_not_change_what_is_found(
    tmp_path, of_drawn, small_shards
):
    folder = fill(tmp_path / "in", LIKE[:40])
    (folder / "notes.txt").write_text("no picture")
    one, two = (
        score(str(folder), str(tmp_path / f"{workers}.csv"), of_drawn, workers=workers).drift
        for workers in (1, 2)
    )
    assert one == two
    assert one.features[0].n == 40
    out = str(tmp_path / "parts.csv")
    with open_plan(str(folder), out, of_drawn) as found:
        run_shards(found, found.undone()[:7], workers=1)
        assert found.undone()
    assert score(str(folder), out, of_drawn).drift == one


def test_the_counts_are_those_of_the_rows(folder, tmp_path, of_drawn, small_shards):
    summary = score_here(folder, tmp_path / "out.csv", weights=of_drawn)
    rows = [row for row in read_rows(tmp_path / "out.csv") if row.status != "error"]
    labels, confidences, rejections, _ = summary.drift.features
    assert labels.n == len(rows) == 4  # of seven files, three of which are errors
    assert rejections.counts == [3, 1]
    likely = [np.argmax(row[6:16]) for row in rows]
    assert labels.counts == np.bincount(likely, minlength=10).tolist()
    above = np.searchsorted(confidences.edges, [row.confidence for row in rows], side="right")
    assert confidences.counts == np.bincount(above, minlength=len(confidences.counts)).tolist()


def test_rows_that_are_kept_are_not_counted(folder, tmp_path, of_drawn, small_shards):
    out, options = tmp_path / "out.csv", {"weights": of_drawn, "incremental": True}
    assert score_here(folder, out, **options).drift.features[0].n == 4
    assert score_here(folder, out, **options).drift is None
    (folder / "new.png").write_bytes(encoded(picture(8), "PNG"))
    found = score_here(folder, out, **options).drift
    assert found.features[0].counts == [0] * 8 + [1, 0]
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG"))
    found = score_here(folder, out, weights=of_drawn, retry_errors=True).drift
    assert found.features[0].counts == [0] * 4 + [1] + [0] * 5


def test_where_nothing_can_be_read_or_compared_there_is_no_drift(folder, tmp_path, weights_file):
    assert score_here(folder, tmp_path / "old.csv", weights=weights_file).drift is None
    summary = score_here(folder, tmp_path / "out.csv")
    assert summary.drift
    for name in ("a.jpg", "b.png", "sub/blank.png", "sub/deep/c.PNG"):
        (folder / name).write_text("no picture")
    assert score_here(folder, tmp_path / "out.csv").drift is None
    assert json.loads(summary_file(tmp_path / "out.csv").read_text())["drift"] is None


def test_rejections_at_another_rate_than_that_of_the_weights_are_not_compared(folder, tmp_path):
    for rate, names in (
        (0.001, drift.FEATURES),  # which is that of the weights, but named
        (0.05, ("labels", "confidences", "ink")),
        (0.0, ("labels", "confidences", "ink")),
    ):
        found = score_here(folder, tmp_path / "out.csv", reject_rate=rate).drift
        assert tuple(feature.name for feature in found.features) == names


def test_an_output_within_the_source_is_not_scored_the_next_time(folder):
    for out in OUTPUTS:
        for _ in range(2):
            assert score_here(folder, folder / out, incremental=True).files == 7
        for path in folder.glob("out*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_an_output_that_a_pattern_matches_is_not_scored_either(folder):
    for _ in range(2):
        assert score_here(folder / "**", folder / "out", incremental=True).files == 7


def test_a_folder_of_parts_that_shrinks_keeps_no_old_part(folder, tmp_path, small_shards):
    score_here(folder, tmp_path / "out")
    (folder / "b.png").unlink()
    (folder / "a.jpg").unlink()
    (folder / "empty").unlink()
    score_here(folder, tmp_path / "out")
    assert len(pd.read_parquet(tmp_path / "out")) == 4
    assert len(list((tmp_path / "out").glob("part-*"))) == 2


def test_the_summary_says_how_much_it_leaves_out(folder, tmp_path):
    summary = score_here(folder, tmp_path / "out.csv")
    many = {f"reason {number}": 1 for number in range(8)}
    pipes = {f"pipe {number}": "pipe" for number in range(8)}
    long = replace(summary, reasons=many, skipped={"pipe": 2000}, skipped_named=pipes)
    assert "  and 3 other reasons" in long.lines()
    assert "    and 1,995 more" in long.lines()
    few = {"pipe": "pipe"}
    short = replace(summary, reasons={"a": 1}, skipped={"pipe": 1}, skipped_named=few)
    assert not [line for line in short.lines() if line.strip().startswith("and ")]


def test_progress_is_told(folder, tmp_path, small_shards):
    told = []
    score(str(folder), str(tmp_path / "out.csv"), on_progress=lambda *counts: told.append(counts))
    assert told[-1] == (7, 7)
    assert all(0 <= done <= of == 7 for done, of in told)


def test_what_cannot_be_scored_is_one_sentence(folder, tmp_path):
    for source, out, message in (
        (folder, "out.ods", r"rows are written as \.csv, \.jsonl, \.parquet"),
        (tmp_path / "none", "out.csv", "cannot be listed .there is no such file or folder"),
        (tmp_path / "void", "out.csv", "holds no files to score"),
        (tmp_path / "void" / "*.png", "out.csv", "holds no files to score"),
        ("nowhere://x/y", "out.csv", "nowhere://x/y: cannot be opened"),
        (folder, folder, "is the source, so it cannot be the output; name another output"),
        (folder, folder / "sub", "holds other files"),
        (folder, "/", "is no name for a file or a folder"),
        (tmp_path / "a.tar.gz", "out.csv", "is no list of paths .its content is an archive."),
    ):
        (tmp_path / "void").mkdir(exist_ok=True)
        (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b\x08\x00 and so on")
        with pytest.raises(ScoringError, match=message):
            score_here(source, tmp_path / out)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ScoringError, match="is a folder; name a file"):
        score_here(folder, tmp_path / "d.csv")
    assert not (tmp_path / "out.csv").exists()
    assert not list(tmp_path.glob("*.nnpipe"))


@pytest.mark.parametrize(
    "out", ["memory://", "memory:///", "file://", "file:///", "s3://", "", "/"]
)
def test_an_output_without_a_name_is_one_sentence(folder, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ScoringError, match=f"^{out}: is no name for a file or a folder; add one"):
        score(str(folder), out)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failing_output_leaves_the_old_one_and_all_that_was_done(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    score_here(folder / "sub", out)
    old = out.read_bytes()

    def full(stream, parts, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nnpipe.scoring.rows._join_csv", full)
    with pytest.raises(OutputError, match=r"out\.csv: could not be written .No space left"):
        score_here(folder, out)
    assert out.read_bytes() == old
    monkeypatch.undo()
    with open_plan(str(folder), str(out)) as found:
        assert found.undone() == []
        finish(found, rows=0, seconds=1)
    assert len(read_csv(out)) == 7
    assert not list(tmp_path.glob(".nnpipe-*"))


@pytest.mark.slow
def test_mnists_test_digits_as_files_are_read_as_they_are_evaluated(mnist_data, tmp_path):
    """10,000 PNGs, scored from their folder: the very probabilities, and so the very accuracy."""
    classifier, test = Classifier.load(), datasets.load("mnist", mnist_data).test
    folder = tmp_path / "mnist"
    folder.mkdir()
    for number, image in enumerate(test.images):
        (folder / f"{number:05}.png").write_bytes(encoded(Image.fromarray(image), "PNG"))
    score(str(folder), str(tmp_path / "out.csv"))
    rows = pd.read_csv(tmp_path / "out.csv")
    found = rows[[f"p{digit}" for digit in range(10)]].to_numpy()
    assert abs(found - classifier.probabilities(test.images)).max() < 5.1e-7
    evaluated = evaluate(test.labels, classifier.logits(test.images))
    assert (found.argmax(axis=1) == test.labels).mean() == evaluated.accuracy.value
    rejected = rows.status != "ok"
    assert rejected.mean() < 0.01
    assert (rows.confidence[rejected] < classifier.threshold).all()
