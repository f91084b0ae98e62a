"""A folder that is scored again and again: files come, are still being written, and move on."""

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from nnpipe import records
from nnpipe.classifier import champion
from nnpipe.errors import LostError, ScoringError, SettingError, WeightsError
from nnpipe.scoring import local, outputs, planning, read_rows
from nnpipe.scoring.entries import DROPPED, MOST_LOST, WAITING
from nnpipe.scoring.plan import load_plan
from nnpipe.scoring.rows import COLUMNS, LAST, Row
from nnpipe.scoring.shards import score_shard
from nnpipe.scoring.summary import finish, summary_file

from .make_samples import encoded, picture
from .scoring import open_plan, score
from .test_scoring import OUTPUTS, content, folder, score_here, settled, small_shards

__all__ = ["folder", "settled", "small_shards"]

ALL = ["a.jpg", "b.png", "empty", "notes.txt", "sub/blank.png", "sub/cut.png", "sub/deep/c.PNG"]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scan(source, out, **options):
    """Score without worker processes, as an inbox is scored."""
    return score_here(source, out, incremental=True, **options)


def table(out):
    """The rows of a table by their paths."""
    return {row.path: row for row in read_rows(out)}


def gone(out):
    return [row.path for row in read_rows(out) if row.gone]


def frame(out):
    """The table as pandas reads it."""
    if out.suffix == ".csv":
        return pd.read_csv(out)
    return pd.read_json(out, lines=True) if out.suffix == ".jsonl" else pd.read_parquet(out)


@pytest.fixture
def later(monkeypatch):
    """Let some seconds pass, as far as the listing can see."""
    clock, shift = local.time.time_ns, [0]
    monkeypatch.setattr(local.time, "time_ns", lambda: clock() + shift[0] * 10**9)

    def pass_by(seconds):
        shift[0] += seconds

    return pass_by


# --- an empty inbox -------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_an_empty_inbox_is_a_table_without_rows_and_fills_up_later(tmp_path, folder, out):
    inbox, target = tmp_path / "inbox", tmp_path / out
    inbox.mkdir()
    for _ in range(2):
        summary = score(inbox, target, incremental=True)
        assert (summary.files, summary.scored, summary.complete) == (0, 0, True)
        assert summary.lines()[0].startswith("0 rows (0 new), ")
        assert list(read_rows(target)) == []
    if out != "out.jsonl":  # which has no header
        assert list(frame(target).columns) == list(Row._fields[:-1])
    shutil.copytree(folder, inbox, dirs_exist_ok=True)
    assert score(inbox, target, incremental=True).scored == 7
    shutil.rmtree(inbox)
    inbox.mkdir()
    summary = score(inbox, target, incremental=True)
    assert (summary.files, summary.scored, summary.kept, summary.gone) == (7, 0, 0, 7)
    assert summary.lines()[0].startswith("7 rows (0 new, 7 gone), ")
    assert gone(target) == ALL


def test_other_runs_refuse_an_empty_source_and_keep_the_table(tmp_path, folder):
    out = tmp_path / "out.csv"
    scan(folder, out)
    before = out.read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(ScoringError, match="holds no files to score"):
        score_here(folder, out)
    assert out.read_bytes() == before
    assert scan(folder, out).gone == 7


@pytest.mark.parametrize(
    "source", ["none", "none/*.png", "none/**", "file://{}/none", "memory://none"]
)
def test_an_inbox_that_does_not_exist_is_an_error(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScoringError, match=r"none\S*: cannot be listed \(.*no such .*folder|direc"):
        scan(source.format(tmp_path), tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


# --- files that have moved on ---------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_rows_of_files_that_are_gone_stay_until_they_are_pruned(
    tmp_path, folder, out, small_shards
):
    target = tmp_path / out
    scan(folder, target)
    before = table(target)
    (folder / "b.png").unlink()
    shutil.rmtree(folder / "sub")
    for _ in range(2):
        summary = scan(folder, target)
        assert (summary.scored, summary.kept, summary.gone) == (0, 3, 4)
        after = table(target)
        assert list(after) == list(before)
        for path, row in after.items():
            assert row._replace(gone=False) == before[path]
        assert gone(target) == ["b.png", "sub/blank.png", "sub/cut.png", "sub/deep/c.PNG"]
    found = frame(target)
    assert list(found.columns) == list(Row._fields[:-1])
    assert found["gone"].dtype == bool
    assert list(found["path"][found["gone"]]) == gone(target)
    summary = scan(folder, target, prune=True)
    assert (summary.files, summary.gone, summary.skipped) == (3, 0, {DROPPED: 4})
    assert list(table(target)) == ["a.jpg", "empty", "notes.txt"]


def test_duckdb_reads_the_same_columns(tmp_path, folder):
    import duckdb

    for out in OUTPUTS:
        scan(folder, tmp_path / out)
    (folder / "b.png").unlink()
    for out in OUTPUTS:
        scan(folder, tmp_path / out)
    for out, read in {
        "out.csv": duckdb.read_csv,
        "out.jsonl": duckdb.read_json,
        "out.parquet": duckdb.read_parquet,
        "out/*.parquet": duckdb.read_parquet,
    }.items():
        found = read(f"{tmp_path}/{out}").order("path")
        columns = dict(zip(found.columns, zip(*found.fetchall(), strict=True), strict=True))
        assert list(columns) == list(Row._fields[:-1])
        assert str(found.types[-1]) == "BOOLEAN"
        assert columns["gone"] == tuple(path == "b.png" for path in ALL)
        assert set(columns["model"]) == {sha256(champion())}


def test_prune_needs_incremental(tmp_path, folder):
    with pytest.raises(SettingError, match="prune is set without incremental"):
        score(folder, tmp_path / "out.csv", prune=True)
    assert not (tmp_path / "out.csv").exists()


def test_what_is_gone_does_not_make_a_run_incomplete(tmp_path, folder):
    out = tmp_path / "out.csv"
    assert not scan(folder, out).complete
    for path in ("empty", "notes.txt", "sub/blank.png", "sub/cut.png"):
        (folder / path).unlink()
    summary = scan(folder, out)
    assert summary.complete
    assert (summary.statuses, summary.reasons, summary.gone) == ({"ok": 3}, {}, 4)
    assert sum(summary.labels.values()) == 3


def test_a_gone_file_that_comes_back_unchanged_is_not_read_again(tmp_path, folder, monkeypatch):
    out = tmp_path / "out.csv"
    scan(folder, out)
    before = table(out)
    (folder / "sub").rename(tmp_path / "away")  # the files keep their times
    assert scan(folder, out).gone == 3
    (tmp_path / "away").rename(folder / "sub")
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG"))
    read = []
    real = local.Local.read

    def spy(self, entries):
        read.extend(entry.path for entry in entries)
        return real(self, entries)

    monkeypatch.setattr(local.Local, "read", spy)
    assert scan(folder, out).gone == 0
    assert read == ["sub/cut.png"]
    after = table(out)
    assert after.pop("sub/cut.png").label == 4
    assert after == {path: row for path, row in before.items() if path in after}


def test_a_gone_file_that_another_model_read_is_scored_again_when_it_is_back(
    tmp_path, folder, weights_file
):
    out = tmp_path / "out.csv"
    scan(folder, out)
    before = table(out)
    (folder / "sub").rename(tmp_path / "away")
    summary = scan(folder, out, weights=weights_file)
    assert (summary.scored, summary.gone, summary.model) == (4, 3, sha256(weights_file))
    rows = table(out)
    for path in ALL:
        model = champion() if path.startswith("sub/") else weights_file
        assert rows[path].model == sha256(model)
    assert rows["sub/deep/c.PNG"] == before["sub/deep/c.PNG"]._replace(gone=True)
    assert scan(folder, out).scored == 4  # back to the first model, whose rows these are
    (tmp_path / "away").rename(folder / "sub")
    assert scan(folder, out).scored == 3
    assert gone(out) == []


def test_rows_of_a_folder_that_cannot_be_read_stay(tmp_path, folder, monkeypatch):
    out = tmp_path / "out.csv"
    scan(folder, out)
    real = os.scandir

    def closed(path):
        if os.fsdecode(path).rstrip("/").endswith("/sub"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(local.os, "scandir", closed)
        summary = scan(folder, out)
    assert summary.skipped_named == {"sub": "folder cannot be read (Permission denied)"}
    assert not summary.complete
    assert gone(out) == ["sub/blank.png", "sub/cut.png", "sub/deep/c.PNG"]
    assert scan(folder, out).scored == 0
    assert gone(out) == []


def test_another_folder_in_the_same_table_keeps_no_row(tmp_path, folder):
    scan(folder, tmp_path / "out.csv")
    scan(folder / "sub", tmp_path / "out.csv")
    assert list(table(tmp_path / "out.csv")) == ["blank.png", "cut.png", "deep/c.PNG"]


@pytest.mark.parametrize("first", [{}, {"incremental": True}], ids=["plain", "incremental"])
def test_rows_stay_also_if_nothing_else_is_known_of_the_run_before(tmp_path, folder, first, caplog):
    """It was not incremental, or its state folder was removed."""
    caplog.set_level("INFO")
    out = tmp_path / "out.csv"
    score_here(folder, out, **first)
    shutil.rmtree(f"{out}.nnpipe", ignore_errors=True)
    (folder / "b.png").unlink()
    assert scan(folder, out).scored == 6
    assert gone(out) == ["b.png"]
    assert table(out)["b.png"].model == sha256(champion())
    why = "the run before " + ("left no records" if first else "was not incremental")
    assert f"every file is scored: {why}, so it is not known" in caplog.messages[-1]


def test_many_rows_of_gone_files_need_few_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "FEW_FILES", 1)
    monkeypatch.setattr(planning, "SHARD_SIZE", 1)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(64):
        (inbox / f"{number}.txt").write_text("no picture")
    scan(inbox, tmp_path / "out.csv")
    shutil.rmtree(inbox)
    inbox.mkdir()
    with open_plan(inbox, tmp_path / "out.csv", incremental=True) as found:
        assert found.counts == [4] * 16


# --- who read a file ------------------------------------------------------------------------------


def test_each_row_knows_the_run_and_the_model_that_read_it(tmp_path, folder, weights_file):
    out = tmp_path / "out.parquet"
    first = scan(folder, out)
    (folder / "new.png").write_bytes(encoded(picture(8), "PNG"))
    second = scan(folder, out)
    assert first.run != second.run
    assert first.model == second.model == sha256(champion())
    for run in (first.run, second.run):
        assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", run)
    assert {path: row.run for path, row in table(out).items()} == {
        path: second.run if path == "new.png" else first.run for path in [*ALL, "new.png"]
    }
    kept = json.loads(summary_file(out).read_text())
    assert (kept["run"], kept["model"]) == (second.run, second.model)
    assert [kept[name] for name in ("files", "scored", "kept", "gone")] == [8, 1, 7, 0]
    assert second.run.endswith(f"-{load_plan(tmp_path / 'out.parquet.nnpipe').id}")


@pytest.mark.parametrize("out", OUTPUTS)
def test_tables_of_other_runs_have_no_such_columns(tmp_path, folder, out):
    scan(folder, tmp_path / out)
    summary = score_here(folder, tmp_path / out)
    assert summary.run
    assert list(frame(tmp_path / out).columns) == list(COLUMNS)
    assert {row[-LAST:] for row in read_rows(tmp_path / out)} == {(None, None, False, None)}


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_run_that_is_resumed_keeps_its_id_and_writes_the_same_bytes(
    tmp_path, folder, out, small_shards, monkeypatch
):
    monkeypatch.setattr(planning.time, "strftime", lambda *args: "20261129T184022Z")
    monkeypatch.setattr(planning.secrets, "token_hex", lambda n: "00000001")
    for place in ("whole", "killed"):
        scan(folder, tmp_path / place / out)
    (folder / "b.png").unlink()
    for number in range(6):
        (folder / f"new{number}.png").write_bytes(encoded(picture(number), "PNG"))
    monkeypatch.setattr(planning.secrets, "token_hex", lambda n: "1a2b3c4d")
    scan(folder, tmp_path / "whole" / out)
    with open_plan(folder, tmp_path / "killed" / out, incremental=True) as begun:
        for shard in begun.undone()[1:4]:
            score_shard(begun, shard)
    monkeypatch.setattr(planning.secrets, "token_hex", lambda n: "ffffffff")
    monkeypatch.setattr(planning.time, "strftime", lambda *args: "20301129T184022Z")
    summary = score(folder, tmp_path / "killed" / out, incremental=True)
    assert summary.run == "20261129T184022Z-1a2b3c4d"
    assert (summary.scored, summary.kept, summary.gone) == (6, 6, 1)
    assert content(tmp_path / "killed" / out) == content(tmp_path / "whole" / out)


def leave_as_version_1(source, out, **options):
    """Make an incremental table, its summary and its state as version 1 left them."""
    with open_plan(source, out, incremental=True, **options) as found:
        old = replace(found, run="")
        for shard in old.undone():
            score_shard(old, shard)
        finish(old, rows=old.files, seconds=1)
    content = json.loads(summary_file(out).read_text())
    for name in ("run", "model", "kept", "gone"):
        del content[name]
    del content["command"]["prune"]
    summary_file(out).write_text(json.dumps(content))
    plan = out.with_name(f"{out.name}.nnpipe") / "plan.json"
    content = json.loads(plan.read_text())
    for name in ("run", "row_counts", "fields"):
        del content[name]
    plan.write_text(json.dumps(content))
    assert list(frame(out).columns) == list(COLUMNS)


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_table_of_version_1_is_taken_over(tmp_path, folder, weights_file, out, small_shards):
    target = tmp_path / out
    leave_as_version_1(folder, target, weights=weights_file)
    (folder / "b.png").unlink()
    (folder / "new.png").write_bytes(encoded(picture(8), "PNG"))
    assert score_here(folder, target, retry_errors=True, weights=weights_file).scored == 3
    summary = scan(folder, target, weights=weights_file)
    assert (summary.scored, summary.kept, summary.gone) == (7, 0, 1)  # its records had no pages
    rows = table(target)
    assert {row.model for row in rows.values()} == {sha256(weights_file)}
    assert gone(target) == ["b.png"]
    assert scan(folder, target).scored == 7
    row = table(target)["b.png"]
    assert (row.run, row.model, row.gone) == (None, sha256(weights_file), True)


def test_an_interrupted_run_of_version_1_begins_anew(tmp_path, folder, small_shards):
    out = tmp_path / "out.csv"
    with open_plan(folder, out, incremental=True) as begun:
        old = replace(begun, run="")
        old.save()
        score_shard(old, 0)
    plan = out.with_name("out.csv.nnpipe") / "plan.json"
    written = json.loads(plan.read_text())
    for name in ("run", "row_counts", "fields"):
        del written[name]
    plan.write_text(json.dumps(written))
    with open_plan(folder, out, incremental=True) as again:
        assert (again.id == begun.id, again.undone()) == (False, [0, 1, 2, 3])
    assert scan(folder, out).scored == 7
    assert scan(folder, out).kept == 7
    assert list(frame(out).columns) == list(Row._fields[:-1])


@pytest.mark.parametrize("state", ["there", "removed"])
@pytest.mark.parametrize("out", OUTPUTS)
def test_errors_of_an_incremental_table_are_tried_again(tmp_path, folder, out, state):
    target = tmp_path / out
    first = scan(folder, target)
    (folder / "notes.txt").unlink()
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG"))
    scan(folder, target)
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG")[:600])
    middle = scan(folder, target)
    (folder / "sub" / "cut.png").write_bytes(encoded(picture(4), "PNG"))
    before = table(target)
    if state == "removed":
        shutil.rmtree(f"{target}.nnpipe")
    summary = score_here(folder, target, retry_errors=True)
    assert (summary.scored, summary.kept, summary.gone) == (2, 4, 1)
    after = table(target)
    assert after["notes.txt"] == before["notes.txt"]
    assert after["notes.txt"].gone
    assert before["sub/cut.png"].run == middle.run
    assert {path: row.run for path, row in after.items()} == dict.fromkeys(ALL, first.run) | {
        "empty": summary.run,
        "sub/cut.png": summary.run,
    }
    assert after["sub/cut.png"].label == 4
    assert list(frame(target).columns) == list(Row._fields[:-1])


def test_the_champion_is_read_once(tmp_path, folder, weights_file, monkeypatch):
    """A promotion in the meantime does not change the weights of a run that has begun."""
    model = tmp_path / "champion.npz"
    shutil.copy(champion(), model)
    real = records.read_bytes
    times = []

    def read_and_promote(path, *args, **options):
        content = real(path, *args, **options)
        if path == model:
            times.append(path)
            shutil.copy(weights_file, model)
        return content

    monkeypatch.setattr(records, "read_bytes", read_and_promote)
    summary = scan(folder, tmp_path / "out.csv", weights=model)
    assert times == [model]
    assert summary.model == sha256(champion())
    scan(folder, tmp_path / "other.csv")
    rows = zip(read_rows(tmp_path / "out.csv"), read_rows(tmp_path / "other.csv"), strict=True)
    assert all(row[:-LAST] == other[:-LAST] for row, other in rows)


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"no weights"), os.remove])
def test_weights_that_cannot_be_read_are_named(tmp_path, folder, weights_file, damage):
    damage(weights_file)
    with pytest.raises(WeightsError, match=rf"^{weights_file}: "):
        scan(folder, tmp_path / "out.csv", weights=weights_file)


# --- files that are still being written -----------------------------------------------------------


def test_a_file_that_has_just_changed_waits_for_the_next_run(tmp_path, folder, later):
    out = tmp_path / "out.csv"
    later(3600)
    scan(folder, out, settle=3000)
    later(-3600)
    (folder / "new.png").write_bytes(encoded(picture(8), "PNG")[:700])
    later(2990)  # the others have waited as long
    summary = scan(folder, out, settle=3000)
    assert (summary.files, summary.scored, summary.gone) == (7, 0, 0)
    assert summary.skipped == {WAITING: 8}
    assert summary.skipped_named["new.png"] == WAITING
    assert f"  waiting: 8 × {WAITING}" in summary.lines()
    (folder / "new.png").write_bytes(encoded(picture(8), "PNG"))
    later(20)
    summary = scan(folder, out, settle=3000)
    assert (summary.files, summary.scored, summary.skipped) == (8, 1, {})
    assert table(out)["new.png"].label == 8


def test_a_row_from_before_stays_as_it_is_while_its_file_is_written(tmp_path, folder, later):
    out = tmp_path / "out.csv"
    scan(folder, out)
    before = table(out)
    (folder / "a.jpg").write_bytes(encoded(picture(9), "JPEG")[:700])
    scan(folder, out, settle=3600)
    assert table(out) == before
    (folder / "a.jpg").write_bytes(encoded(picture(9), "JPEG"))
    later(4000)
    assert scan(folder, out, settle=3600).scored == 1
    assert table(out)["a.jpg"].label == 9


def test_a_file_that_waits_while_the_model_changes_is_scored_by_the_next_run(
    tmp_path, folder, weights_file
):
    """Also if no time passes, but the user no longer wants to wait."""
    out = tmp_path / "out.csv"
    scan(folder, out)
    assert scan(folder, out, weights=weights_file, settle=3600).scored == 0
    assert {row.model for row in read_rows(out)} == {sha256(champion())}
    assert scan(folder, out, weights=weights_file).scored == 7


def test_files_that_wait_do_not_make_a_run_incomplete(tmp_path, folder):
    summary = scan(folder, tmp_path / "out.csv", settle=3600)
    assert (summary.files, summary.complete) == (0, True)


def test_without_incremental_files_that_wait_have_no_row_either(tmp_path, folder, later):
    with pytest.raises(ScoringError, match=f"/pictures: is {WAITING}$"):
        score_here(folder, tmp_path / "out.csv", settle=3600)
    assert list(tmp_path.glob("out*")) == []
    later(4000)
    assert score_here(folder, tmp_path / "out.csv", settle=3600).files == 7


@pytest.mark.parametrize("source", ["{}/*.png", "{}/list.txt"])
def test_files_of_patterns_and_lists_wait_too(tmp_path, folder, later, source):
    (folder / "list.txt").write_text(f"{folder}/b.png\n")
    source = source.format(folder)
    assert scan(source, tmp_path / "out.csv", settle=60).skipped == {WAITING: 1}
    later(100)
    assert scan(source, tmp_path / "out.csv", settle=60).scored == 1


def test_a_scanner_with_a_wrong_clock_makes_no_file_wait_for_years(tmp_path, folder, later):
    """And its files are not read again in every run."""
    out = tmp_path / "out.csv"
    ahead = local.time.time() + 10**8
    os.utime(folder / "b.png", (ahead, ahead))
    assert scan(folder, out, settle=60).scored == 0  # it has just changed
    later(100)
    assert scan(folder, out, settle=60).scored == 7
    assert scan(folder, out, settle=60).scored == 0
    later(-1000)  # now the clock of this machine is behind that of the folder's
    assert scan(folder, out, settle=60).skipped == {}


def test_the_clock_of_a_server_may_be_some_seconds_ahead(tmp_path, folder, later):
    later(-5)
    assert scan(folder, tmp_path / "out.csv", settle=60).skipped == {WAITING: 7}
    assert scan(folder, tmp_path / "out.csv").scored == 7


def test_an_inbox_whose_files_move_on_during_a_run_heals_by_itself(tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out.csv"
    inbox.mkdir()
    for number in range(2 * MOST_LOST):
        (inbox / f"{number:03}.png").write_bytes(encoded(picture(number % 10), "PNG"))
    (inbox / "first.png").write_bytes(encoded(picture(1), "PNG"))
    with open_plan(str(inbox), str(out), incremental=True):
        pass  # it is killed when it has only listed the files
    for path in inbox.glob("0*.png"):
        path.unlink()
    with pytest.raises(LostError, match="files in a row are lost") as caught:
        scan(inbox, out)
    assert caught.value.advice == "relist"
    assert scan(inbox, out).files == 1
    assert set(table(out)) == {"first.png"}


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("change", [{}, {"weights": True}, {"retry_errors": True}])
def test_a_run_that_dies_while_it_publishes_loses_no_row(
    tmp_path, folder, out, change, monkeypatch, weights_file
):
    """Even if another command follows, such as one with a champion that was promoted meanwhile."""
    target = tmp_path / out
    scan(folder, target)
    (folder / "b.png").unlink()
    scan(folder, target)
    (folder / "new.png").write_bytes(encoded(picture(5), "PNG"))
    with monkeypatch.context() as patched:
        patched.setattr(outputs, "assemble", dies_after_announcing)
        with pytest.raises(KeyboardInterrupt):
            scan(folder, target)
    assert not summary_file(target).exists()
    options = change | ({"weights": weights_file} if "weights" in change else {})
    summary = scan(folder, target, **options)
    assert (summary.files, summary.gone) == (len(ALL) + 1, 1)
    assert set(table(target)) == {*ALL, "new.png"}
    assert gone(target) == ["b.png"]
    if not change:
        assert summary.scored == 1


def dies_after_announcing(out, parts, *, plan, announce):
    announce({out.name: "0" * 64} if out.suffix else {})
    raise KeyboardInterrupt


def test_files_that_were_read_before_others_moved_on_are_not_read_again(tmp_path):
    inbox, out = tmp_path / "inbox", tmp_path / "out.csv"
    inbox.mkdir()
    for number in range(4 * MOST_LOST):
        (inbox / f"{number:03}.png").write_bytes(encoded(picture(number % 10), "PNG"))
    with open_plan(str(inbox), str(out), incremental=True) as plan:
        score_shard(plan, 0)
        first = plan.counts[0]
    for number in range(first, 2 * MOST_LOST + first):
        (inbox / f"{number:03}.png").unlink()
    with pytest.raises(LostError):
        scan(inbox, out)
    summary = scan(inbox, out)
    assert summary.files == 2 * MOST_LOST
    assert summary.kept >= first


def test_an_older_row_stays_if_a_changed_file_was_not_read_before_it_moved_on(
    tmp_path, folder, weights_file
):
    out = tmp_path / "out.csv"
    scan(folder, out)
    old = table(out)["b.png"]
    (folder / "b.png").write_bytes(encoded(picture(2), "PNG"))
    with open_plan(str(folder), str(out), incremental=True):
        pass  # it is killed, and so loses the row of the file as it was
    (folder / "b.png").unlink()
    scan(folder, out, weights=weights_file)
    assert table(out)["b.png"] == old._replace(gone=True)
