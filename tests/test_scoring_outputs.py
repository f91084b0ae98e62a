"""Scoring overwrites and removes only what nnpipe wrote, and loses no row in silence."""

import csv
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnpipe.errors import OutputError, ScoringError
from nnpipe.files import temporary_folder
from nnpipe.scoring import Row, local, outputs, plan, planning, read_rows, rows, summary
from nnpipe.scoring.plan import load_plan
from nnpipe.scoring.shards import score_shard
from nnpipe.scoring.summary import finish, summary_file

from .make_samples import encoded, picture
from .scoring import open_plan

OUTPUTS = ("out.csv", "out.jsonl", "out.parquet", "out")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One file in each shard, and time stamps that are trusted at once."""
    monkeypatch.setattr(planning, "SHARD_FILES", 1)
    monkeypatch.setattr(planning, "FEW_FILES", 1)
    monkeypatch.setattr(local, "JUST_NOW", 0)


@pytest.fixture
def folder(tmp_path):
    """Two pictures, and a file that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(1), "PNG"))
    (folder / "b.png").write_bytes(encoded(picture(2), "PNG"))
    (folder / "c.txt").write_text("no picture")
    return folder


def score(source, out, **options):
    """Score in this process."""
    with open_plan(str(source), str(out), **options) as begun:
        for shard in begun.undone():
            score_shard(begun, shard)
        return finish(begun, rows=begun.files, seconds=1)


def begin(source, out, *, shards=3, **options):
    """Score some shards, and stop as a killed process would."""
    with open_plan(str(source), str(out), **options) as begun:
        for shard in begun.undone()[:shards]:
            score_shard(begun, shard)
    return begun


def state_of(out):
    return out.with_name(f"{out.name}.nnpipe")


def snapshot(folder):
    """What is below a folder: the bytes of files, the targets of links, the modes of the rest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = path.read_bytes() if path.is_file() else oct(path.lstat().st_mode)
    return found


# --- state folders --------------------------------------------------------------------------------


def put_folder(state):
    (state / "sub").mkdir(parents=True)
    (state / "sub" / "thesis.txt").write_text("years of work")


def put_link_to_a_folder(state):
    (state.parent / "documents").mkdir()
    (state.parent / "documents" / "thesis.txt").write_text("years of work")
    state.symlink_to(state.parent / "documents")


def put_link_to_nothing(state):
    state.symlink_to(state.parent / "nowhere")


def put_file(state):
    state.write_text("years of work")


def put_plan_of_something_else(state):
    state.mkdir()
    (state / "plan.json").write_text('{"id": "12345678", "goals": ["rest"]}')
    (state / "12345678").mkdir()
    (state / "12345678" / "00000.csv").write_text("mine")


@pytest.mark.parametrize(
    "put",
    [
        put_folder,
        put_link_to_a_folder,
        put_link_to_nothing,
        put_file,
        put_plan_of_something_else,
        os.mkfifo,
    ],
)
def test_what_lies_in_place_of_the_state_folder_is_refused_and_untouched(folder, tmp_path, put):
    put(tmp_path / "out.csv.nnpipe")
    before = snapshot(tmp_path)
    with pytest.raises(ScoringError, match=r"out\.csv\.nnpipe: was not made by nnpipe.*move it"):
        score(folder, tmp_path / "out.csv")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("identity", ["../victim", "/victim", "..", "", "12345678/..", "victim"])
def test_an_id_that_leads_elsewhere_deletes_nothing_there(folder, tmp_path, identity):
    out = tmp_path / "out.csv"
    begin(folder, out)
    victim = (
        tmp_path / "victim" if identity.startswith("/") else (state_of(out) / identity).resolve()
    )
    victim.mkdir(exist_ok=True, parents=True)
    for name in ("manifest.jsonl", "model_weights.npz", "mine.txt"):
        (victim / name).write_text("mine")
    file = state_of(out) / "plan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id": identity}))
    assert load_plan(state_of(out)) is None
    score(folder, out)
    assert (victim / "mine.txt").read_text() == "mine"
    assert len(list(read_rows(out))) == 3


def test_only_files_with_names_of_nnpipe_are_removed_and_links_are_not_followed(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("00000.csv", "manifest.jsonl"):
        (elsewhere / name).write_text("mine")
    out = tmp_path / "out.csv"
    begun = begin(folder, out)
    state = state_of(out)
    (state / "notes.txt").write_text("mine")
    (begun.folder / "notes.txt").write_text("mine")
    (state / "0123abcd").symlink_to(elsewhere)
    (state / "4567abcd").mkdir()
    (state / "4567abcd" / "00000.csv").symlink_to(elsewhere / "00000.csv")
    score(folder, out)
    assert {path.name for path in elsewhere.iterdir()} == {"00000.csv", "manifest.jsonl"}
    left = snapshot(state)
    assert left.pop("nnpipe-state.txt")
    assert {name for name, content in left.items() if content == b"mine"} == {
        "notes.txt",
        f"{begun.id}/notes.txt",
    }
    assert left.keys() == {"notes.txt", begun.id, f"{begun.id}/notes.txt", "0123abcd"}
    score(folder, out)  # and they are not in the way


def test_a_state_folder_of_version_1_0_0_goes_on(folder, tmp_path):
    """It has no marker; its parts have no checksums, so they are made again."""
    out = tmp_path / "out.csv"
    begun = begin(folder, out, shards=2)
    (begun.state / "nnpipe-state.txt").unlink()
    content = json.loads((begun.state / "plan.json").read_text())
    del content["own"], content["run"]
    del content["command"]["escape_formulas"], content["command"]["prune"]
    (begun.state / "plan.json").write_text(json.dumps(content))
    for file in begun.folder.glob("0*.json"):
        content = json.loads(file.read_text())
        del content["sha256"], content["gone"]
        file.write_text(json.dumps(content))
    with open_plan(str(folder), str(out)) as again:
        assert again.id == begun.id
        assert again.undone() == [0, 1, 2]
    score(folder, out)
    assert [row.path for row in read_rows(out)] == ["a.png", "b.png", "c.txt"]


ODD = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"7",
    b"null",
    b'"x"',
    b"{",
    b"[" * 100_000,
    b"9" * 5000,
]
FIELDS = [
    {"id": 7},
    {"id": None},
    {"starts": [0, "1"]},
    {"starts": [0, 10**40]},
    {"starts": float("nan")},
    {"counts": [1]},
    {"counts": [[1], 1, 1]},
    {"kept": float("inf")},
    {"lasting": "yes"},
    {"skipped": {"a": "b"}},
    {"reader": 3},
    {"reader": [1, 2]},
    {"reader": ["a", "b", "c"]},
    {"command": {}},
    {"command": []},
    {"own": {"out.csv": 3}},
    {"more": 1},
]


@pytest.mark.parametrize("change", [*ODD, *FIELDS], ids=repr)
def test_a_damaged_plan_is_made_again(folder, tmp_path, change):
    out = tmp_path / "out.csv"
    file = begin(folder, out).state / "plan.json"
    if isinstance(change, bytes):
        file.write_bytes(change)
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert load_plan(file.parent) is None
    if change in (b"", *FIELDS[:1]):
        assert score(folder, out).files == 3


@pytest.mark.parametrize("name", ["plan.json", "manifest.jsonl", "00001.json", "00001.csv"])
@pytest.mark.parametrize("put", [os.mkfifo, put_link_to_a_folder, put_folder])
def test_a_pipe_a_link_or_a_folder_in_place_of_a_state_file_is_never_waited_for_nor_followed(
    folder, tmp_path, name, put
):
    out = tmp_path / "out.csv"
    begun = begin(folder, out)
    file = (begun.state if name == "plan.json" else begun.folder) / name
    file.unlink()
    put(file)
    with suppress(OutputError):  # a part cannot take the place of a folder
        score(folder, out)
        assert len(list(read_rows(out))) == 3
    for thesis in tmp_path.rglob("thesis.txt"):
        assert thesis.read_text() == "years of work"
    assert bool(list(tmp_path.rglob("thesis.txt"))) == (put is not os.mkfifo)


# --- outputs that are somebody else's -------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS[:3])
def test_a_file_that_nnpipe_did_not_write_is_not_overwritten(folder, tmp_path, out):
    (tmp_path / out).write_text("mine")
    with pytest.raises(ScoringError, match=r"no record of writing it; move it away, or name anoth"):
        score(folder, tmp_path / out)
    assert (tmp_path / out).read_text() == "mine"
    assert not state_of(tmp_path / out).exists()


def test_an_empty_file_is_overwritten_since_nothing_is_lost(folder, tmp_path):
    (tmp_path / "out.csv").touch()
    assert score(folder, tmp_path / "out.csv").files == 3


@pytest.mark.parametrize("names", [["part-00000.parquet", "_SUCCESS"], ["part-00007.parquet"]])
def test_the_parts_of_somebody_else_are_not_replaced(folder, tmp_path, names):
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("" if name == "_SUCCESS" else "mine")
    before = snapshot(tmp_path / "out")
    with pytest.raises(ScoringError, match=r"part-0000\d\.parquet: exists, and nnpipe has no reco"):
        score(folder, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("options", [{}, {"incremental": True}, {"retry_errors": True}], ids=str)
@pytest.mark.parametrize("out", ["out.csv", "out"])
def test_an_output_that_was_corrected_by_hand_is_refused_in_any_later_run(
    folder, tmp_path, out, options
):
    """One byte differs, and neither size nor name."""
    target = tmp_path / out
    score(folder, target, incremental=True)
    file = target / "part-00001.parquet" if out == "out" else target
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(ScoringError) as raised:
        score(folder, target, **options)
    assert str(raised.value) == (
        f"{file}: was changed after nnpipe wrote it; move it away, or name another output"
    )
    assert file.read_bytes() == content
    file.rename(tmp_path / "corrected")
    if not options.get("retry_errors"):
        assert score(folder, target, **options).files == 3
    assert (tmp_path / "corrected").read_bytes() == content


def test_a_part_that_somebody_adds_is_not_removed(folder, tmp_path):
    score(folder, tmp_path / "out")
    (tmp_path / "out" / "part-00009.parquet").write_text("mine")
    with pytest.raises(ScoringError, match=r"00009\.parquet: exists, and nnpipe has no record"):
        score(folder, tmp_path / "out")
    assert (tmp_path / "out" / "part-00009.parquet").read_text() == "mine"


def test_an_output_that_appears_or_changes_during_the_run_is_not_overwritten(folder, tmp_path):
    out = tmp_path / "out.csv"
    for earlier in (False, True):
        if earlier:
            out.unlink()
            score(folder, out)
        with open_plan(str(folder), str(out)) as begun:
            for shard in begun.undone():
                score_shard(begun, shard)
            out.write_text("mine")
            with pytest.raises(ScoringError, match="move it away, or name another output"):
                finish(begun, rows=3, seconds=1)
        assert out.read_text() == "mine"


def test_an_output_of_version_1_0_0_is_compared_by_its_size(folder, tmp_path):
    out = tmp_path / "out.csv"
    score(folder, out)
    content = json.loads(summary_file(out).read_text())
    del content["sha256"], content["command"]["escape_formulas"], content["command"]["prune"]
    summary_file(out).write_text(json.dumps(content))
    assert score(folder, out, retry_errors=True).scored == 1
    summary_file(out).write_text(json.dumps(content))
    out.write_text(out.read_text() + "more\n")
    with pytest.raises(ScoringError, match="was changed after nnpipe wrote it"):
        score(folder, out)


SUMMARIES = [
    *({"plan": 3}, {"command": []}, {"command": {"source": 1}}, {"skipped": {"a": float("nan")}}),
    *({"sha256": []}, {"sha256": {"out.csv": 7}}, {"skipped_named": None}),
]


@pytest.mark.parametrize("change", [*ODD, *SUMMARIES], ids=repr)
def test_a_summary_that_is_none_is_one_sentence_and_stays(folder, tmp_path, change):
    out = tmp_path / "out.csv"
    file = summary_file(out)
    content = {
        "plan": "12345678",
        "files": 0,
        "skipped": {},
        "skipped_named": {},
        "sha256": {},
        "bytes": 0,
    }
    content["command"] = dict.fromkeys(("source", "out", "weights"), "") | {
        "preprocessing": 1,
        "threshold": 0.5,
    }
    if isinstance(change, bytes):
        file.write_bytes(change)
    else:
        file.write_text(json.dumps(content | change))
    before = file.read_bytes()
    with pytest.raises(ScoringError, match=r"out\.csv\.summary\.json: is not a summary that nnp"):
        summary.load_finished(out)
    if change in (b"", SUMMARIES[0]):
        with pytest.raises(ScoringError, match="is not a summary that nnpipe wrote; move it away"):
            score(folder, out)
    assert file.read_bytes() == before
    assert not out.exists()


@pytest.mark.parametrize("put", [os.mkfifo, put_link_to_a_folder, put_link_to_nothing, put_folder])
def test_what_lies_in_place_of_the_summary_is_never_replaced(folder, tmp_path, put):
    put(tmp_path / "out.csv.summary.json")
    before = snapshot(tmp_path)
    with pytest.raises(ScoringError, match=r"summary\.json: is not a summary that nnpipe wrote"):
        score(folder, tmp_path / "out.csv")
    assert snapshot(tmp_path) == before


def test_an_output_that_cannot_be_a_file_or_a_folder_is_refused_before_scoring(folder, tmp_path):
    (tmp_path / "rows").write_text("mine")
    os.mkfifo(tmp_path / "out.csv")
    os.mkfifo(tmp_path / "pipe")
    for out, sentence in (
        ("rows", "rows: is not a folder; name a file with a suffix, or a folder"),
        ("pipe", "pipe: is not a folder; name a file with a suffix, or a folder"),
        (
            "out.csv",
            r"out\.csv: cannot be replaced \(is a pipe or a device",
        ),
    ):
        with pytest.raises(ScoringError, match=sentence):
            score(folder, tmp_path / out)
    assert (tmp_path / "rows").read_text() == "mine"


def test_a_dash_as_output_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScoringError, match=r"^-: rows cannot go to stdout.*; name a file$"):
        score(folder, "-")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


# --- publishing may be cut short at any step ------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


def kill_at(monkeypatch, step):
    """Have the process end at one of the steps in which an output is published."""

    def killed(*args, **kwargs):
        raise Killed

    if step == "before the output takes its name":
        real = plan.Plan.save

        def save(self):
            real(self)
            raise Killed

        monkeypatch.setattr(plan.Plan, "save", save)
    elif step == "in the middle of the parts":
        replacing, names = outputs.replacing, []

        def replacing_two(path, *, scratch):
            names.append(path)
            if len(names) == 3:
                raise Killed
            return replacing(path, scratch=scratch)

        monkeypatch.setattr(outputs, "replacing", replacing_two)
    else:
        monkeypatch.setattr(summary, "write_json", killed)


STEPS = ["before the output takes its name", "in the middle of the parts", "before the summary"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("again", [{}, {"incremental": True}], ids=["same", "other"])
@pytest.mark.parametrize("out", ["out.csv", "out"])
def test_a_kill_while_an_output_is_replaced_changes_no_byte(
    folder, tmp_path, monkeypatch, step, again, out
):
    """The same command goes on, and another one is not stopped by a half-published output."""
    target = tmp_path / "results" / out
    score(folder, target)
    (folder / "a.png").write_bytes(encoded(picture(7), "PNG"))
    (folder / "d.png").write_bytes(encoded(picture(8), "PNG"))
    score(folder, tmp_path / "expected" / out)
    begun = begin(folder, target, shards=4)
    if step != STEPS[1] or out == "out":
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                finish(begun, rows=4, seconds=1)
    begin(folder, target, shards=1, **again)  # and is killed once more
    score(folder, target, **again)
    expected = snapshot(tmp_path / "expected")
    written = snapshot(tmp_path / "results")
    for content in (expected, written):
        for name in list(content):
            if "summary" in name or ".nnpipe" in name:
                del content[name]
    if not again:
        assert written == expected
    assert [row[:20] for row in read_rows(target)] == [
        row[:20] for row in read_rows(tmp_path / "expected" / out)
    ]


# --- parts ----------------------------------------------------------------------------------------


def cut(file):
    file.write_bytes(file.read_bytes()[:-20])


def change_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, change_a_byte, empty])
@pytest.mark.parametrize("out", OUTPUTS)
def test_a_part_that_was_damaged_before_a_resume_is_scored_again(folder, tmp_path, out, damage):
    target = tmp_path / out
    begun = begin(folder, target)
    damage(begun.part(1))
    with open_plan(str(folder), str(target)) as again:
        assert again.undone() == [1]
    assert score(folder, target).files == 3
    assert [row.path for row in read_rows(target)] == ["a.png", "b.png", "c.txt"]


@pytest.mark.parametrize("out", ["out.csv", "out"])
def test_a_part_that_is_damaged_before_it_is_published_is_one_sentence(folder, tmp_path, out):
    target = tmp_path / out
    with open_plan(str(folder), str(target)) as begun:
        for shard in begun.undone():
            score_shard(begun, shard)
        cut(begun.part(1))
        with pytest.raises(ScoringError, match=r"00001\.\w+: is damaged; scoring again repairs it"):
            finish(begun, rows=3, seconds=1)
    assert not (target / "_SUCCESS").exists()
    score(folder, target)
    assert [row.path for row in read_rows(target)] == ["a.png", "b.png", "c.txt"]


@pytest.mark.parametrize(
    "change",
    [
        *ODD,
        {"files": 2},
        {"files": "1"},
        {"seconds": float("nan")},
        {"slowest": [[1]]},
        {"slowest": [["a", 1.0]]},
        {"labels": {"1": "2"}},
        {"histograms": {"ink": 3}},
        {"reasons": None},
        {"sha256": "0" * 64},
        {"more": 1},
    ],
    ids=repr,
)
def test_a_shard_whose_statistics_are_damaged_is_undone(folder, tmp_path, change):
    begun = begin(folder, tmp_path / "out.csv")
    file = begun.statistics(1)
    if isinstance(change, bytes):
        file.write_bytes(change)
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert begun.undone() == [1]


def test_the_summary_names_the_hash_of_each_file(folder, tmp_path):
    import hashlib

    for out in ("out.csv", "out"):
        score(folder, tmp_path / out)
        recorded = json.loads(summary_file(tmp_path / out).read_text())["sha256"]
        files = (tmp_path / out).iterdir() if out == "out" else [tmp_path / out]
        assert recorded == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# --- outputs in the source ------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["", "**"])
@pytest.mark.parametrize("first", OUTPUTS)
def test_what_nnpipe_wrote_into_a_source_gets_no_row_and_is_counted(folder, first, pattern):
    (folder / "sub").mkdir()
    score(folder, folder / "sub" / first, incremental=True)  # which leaves its state there
    written = len([path for path in (folder / "sub").rglob("*") if path.is_file()])
    (folder / "mine.csv").write_text("a table\n")
    (folder / "mine.csv.summary.json").write_text('{"by": "me"}')
    found = score(folder / pattern, folder.parent / "second.csv")
    assert [row.path for row in read_rows(folder.parent / "second.csv")] == [
        *("a.png", "b.png", "c.txt", "mine.csv", "mine.csv.summary.json")
    ]
    assert found.skipped["written by nnpipe"] == written
    assert "sub/" + first in found.skipped_named or first == "out"
    assert f"no row: {written} × written by nnpipe" in str(found)


def test_what_nnpipe_wrote_into_a_source_does_not_make_a_run_incomplete(folder):
    (folder / "c.txt").unlink()
    assert score(folder, folder / "first.csv").complete
    found = score(folder, folder / "second.csv")
    assert found.skipped == {"written by nnpipe": 2}
    assert found.complete


# --- formulas in spreadsheets ---------------------------------------------------------------------

FORMULAS = [
    '=HYPERLINK("http:evil","x").png',
    *("+1", "-1.png", "@sum.png", "'quoted.png", "＝1.png", "tab\t.png", "plain.png", "a=b.png"),
]


def test_cells_that_a_spreadsheet_would_run_are_escaped_when_asked_for(folder, tmp_path):
    for name in FORMULAS:
        shutil.copy(folder / "a.png", folder / name)
    score(folder, tmp_path / "plain.csv")
    score(folder, tmp_path / "escaped.csv", escape_formulas=True)
    with open(tmp_path / "escaped.csv", newline="", encoding="utf-8") as stream:
        cells = {cell for row in csv.reader(stream) for cell in row}
    assert not {cell for cell in cells if re.match("[=+@\t\r\n＝＋－＠-]", cell)}
    assert '\'=HYPERLINK("http:evil","x").png' in cells
    assert {"''quoted.png", "plain.png", "a=b.png", "'-1.png"} <= cells
    plain = list(read_rows(tmp_path / "plain.csv"))
    assert list(read_rows(tmp_path / "escaped.csv", escape_formulas=True)) == plain


def test_escaped_rows_are_used_again_and_escaped_once(folder, tmp_path):
    shutil.copy(folder / "a.png", folder / "=1.png")
    out = tmp_path / "out.csv"
    for escape in (True, True, False, True):
        found = score(folder, out, incremental=True, escape_formulas=escape)
        assert out.read_text().count("'=1.png") == escape
        assert out.read_text().count("''") == 0
    assert found.scored == 0
    assert score(folder, out, retry_errors=True, escape_formulas=True).scored == 1
    assert out.read_text().count("'=1.png") == 1


@given(st.text(), st.text())
def test_escaped_cells_come_back_whatever_they_hold(path, reason):
    import io

    row = Row(path, 1, "", "error", *[None] * 12, reason, None, None, None)
    stream = io.BytesIO()
    form = rows.format_of(Path("x.csv"), escape_formulas=True)
    form.write(stream, [[row]])
    form_read = io.BytesIO(",".join(rows.COLUMNS).encode() + b"\n" + stream.getvalue())
    if "\r" not in path + reason and "\n" not in path + reason and path and "\0" not in path:
        (found,) = form.read(form_read)
        assert (found.path, found.reason) == (path, reason)


@pytest.mark.parametrize("out", OUTPUTS[1:])
def test_formulas_are_escaped_in_csv_only(folder, tmp_path, out):
    with pytest.raises(ScoringError, match=r"formulas are escaped in \.csv files only; name one"):
        score(folder, tmp_path / out, escape_formulas=True)


# --- temporary files ------------------------------------------------------------------------------


def test_a_missing_temporary_folder_is_one_sentence_where_one_is_needed(
    folder, tmp_path, monkeypatch
):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", full)
    with open_plan(str(folder), str(tmp_path / "out.csv")) as begun:
        begun.classifier()  # reads its weights without one
    with pytest.raises(OutputError, match="no temporary folder can be written; name one w"):
        temporary_folder()


@pytest.mark.parametrize("damage", [cut, empty, os.remove])
def test_damaged_weights_in_the_state_are_one_sentence(folder, tmp_path, damage):
    with open_plan(str(folder), str(tmp_path / "out.csv")) as begun:
        damage(begun.folder / "model_weights.npz")
        with pytest.raises(ScoringError, match=r"model_weights\.npz: is damaged; move .*nnpipe aw"):
            begun.classifier()


def test_a_lock_that_holds_something_is_not_ours(folder, tmp_path):
    state = tmp_path / "out.csv.nnpipe"
    state.mkdir()
    (state / "lock").write_text("mine")
    with pytest.raises(ScoringError, match=r"out\.csv\.nnpipe: was not made by nnpipe"):
        score(folder, tmp_path / "out.csv")
    assert (state / "lock").read_text() == "mine"


@pytest.mark.parametrize("change", [lambda h: h["ink"].pop(), lambda h: h["labels"].append(1)])
def test_histograms_of_another_length_are_one_sentence(folder, tmp_path, change):
    begun = begin(folder, tmp_path / "out.csv")
    file = begun.statistics(begun.shards[0])
    content = json.loads(file.read_text())
    change(content["histograms"])
    file.write_text(json.dumps(content))
    with pytest.raises(ScoringError, match=r"out\.csv\.nnpipe: is damaged; move it away to start"):
        score(folder, tmp_path / "out.csv")
    begun.state.rename(tmp_path / "elsewhere")
    score(folder, tmp_path / "out.csv")
