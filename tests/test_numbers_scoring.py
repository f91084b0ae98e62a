"""Numbers of several digits in tables: their rows, formats and constraints, and later runs."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from PIL import Image

from nnpipe import Classifier
from nnpipe.classifier import Reading
from nnpipe.errors import ScoringError, SettingError
from nnpipe.numbers.reading import Digit, Number
from nnpipe.scoring import NumberRow, Row, local, planning, read_rows, rows, shards
from nnpipe.scoring.entries import Entry
from nnpipe.scoring.plan import VALID
from nnpipe.scoring.rows import to_row
from nnpipe.scoring.shards import score_shard

from .make_samples import encoded, picture
from .scoring import large_numbers, open_plan, score, score_here
from .test_scoring import OUTPUTS, content

COLUMNS = (
    "path,page,field,status,label,confidence,second,second_confidence,reason,width,height,sha256,"
    "digits"
)


@pytest.fixture
def folder(tmp_path):
    """Numbers, a blank picture, and a text."""
    folder = tmp_path / "numbers"
    folder.mkdir()
    for index, number in enumerate(large_numbers()):
        Image.fromarray(number.picture).save(folder / f"{index}-{number.label}.png")
    (folder / "blank.png").write_bytes(encoded(picture(0, pen=0.1, height=1), "PNG"))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def small_shards(monkeypatch):
    """Two files to a shard."""
    monkeypatch.setattr(planning, "SHARD_FILES", 2)
    monkeypatch.setattr(planning, "FEW_FILES", 2)


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Files are old enough for their time stamps to be trusted as soon as they are written."""
    monkeypatch.setattr(local, "JUST_NOW", 0)


# --- rows -----------------------------------------------------------------------------------------


def test_each_row_holds_the_number_of_its_own_file(folder, tmp_path):
    """What the classifier says of each picture alone is what stands in its row."""
    summary = score(folder, tmp_path / "out.csv", digits="any")
    classifier = Classifier.load()
    table = list(read_rows(tmp_path / "out.csv"))
    assert [row.path for row in table] == sorted(path.name for path in folder.iterdir())
    for row in table:
        alone = classifier.read(folder / row.path, digits="any")
        assert row.digits == (
            json.dumps(alone.digits, separators=(",", ":")) if alone.digits else None
        )
        for name in ("status", "label", "confidence", "second", "second_confidence", "reason"):
            assert getattr(row, name) == getattr(alone, name), (row.path, name)
    by_name = {row.path: row for row in table}
    assert by_name["blank.png"].status == "rejected"
    assert by_name["blank.png"].label is by_name["blank.png"].digits is None
    assert by_name["notes.txt"].status == "error"
    right = [row.label == row.path[2:-4] for row in table if row.label]
    assert sum(right) >= 5
    assert summary.statuses == {"error": 1, "ok": len(right), "rejected": 9 - len(right)}
    assert summary.drift is None
    assert not summary.complete


def test_the_summary_counts_numbers_by_their_digits(folder, tmp_path):
    summary = score(folder, tmp_path / "out.csv", digits="2-4")
    labels = [row.label for row in read_rows(tmp_path / "out.csv") if row.label]
    assert summary.labels == {
        f"{n} digits": sum(len(label) == n for label in labels)
        for n in sorted(set(map(len, labels)))
    }
    assert f"  {next(iter(summary.labels))}: " in str(summary)


def test_separators_stay_in_the_label(tmp_path):
    picture = np.full((60, 200), 255, np.uint8)
    for left in (20, 60, 120, 160):  # each a 1
        picture[10:50, left : left + 4] = 0
    picture[46:50, 92:96] = 0
    Image.fromarray(picture).save(tmp_path / "11.11.png")
    score_here(tmp_path / "*.png", tmp_path / "out.csv", digits="4", separators=".")
    (row,) = read_rows(tmp_path / "out.csv")
    assert row.label == "11.11"


ROWS = [
    to_row(
        Entry("=1.png"),
        Number("ok", "007", 0.9, "07", 0.05, "", 30, 20, (Digit(0, 0.9, 1.0, 2.5, 3.0, 4.0),) * 3),
        digest="0" * 64,
        run="r",
        model="m",
    ),
    to_row(Entry("b.png"), Number("ok", "12,50", 0.8, "1250", 0.1, "a note", 30, 20), digest=None),
    to_row(Entry("c.png"), Number("rejected", None, 0.1, "1", 0.1, "@x", 30, 20), digest=None),
    to_row(Entry("d.png"), Number("error", reason="no picture"), digest=None)._replace(gone=True),
]


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("origin", [False, True])
def test_rows_of_numbers_come_back_from_every_format(tmp_path, out, origin):
    form = rows.format_of(
        Path(out), kind=NumberRow, origin=origin, escape_formulas=origin and out == "out.csv"
    )
    part, whole = io.BytesIO(), io.BytesIO()
    form.write(part, [ROWS[:2], ROWS[2:]])
    form.join(whole, [part.getvalue()])
    whole.seek(0)
    kept = ROWS if origin else [row._replace(run=None, model=None, gone=False) for row in ROWS]
    assert list(form.read(whole)) == kept


def test_numbers_are_text_in_every_format(tmp_path):
    for out in OUTPUTS[:3]:
        form = rows.format_of(Path(out), kind=NumberRow)
        part = io.BytesIO()
        form.write(part, [ROWS])
        with open(tmp_path / out, "wb") as stream:
            form.join(stream, [part.getvalue()])
    table = pd.read_csv(tmp_path / "out.csv", dtype={"label": "string", "second": "string"})
    assert ",".join(table.columns) == COLUMNS
    assert table["label"].tolist()[:2] == ["007", "12,50"]
    assert json.loads(table["digits"][0])[0] == [0, 0.9, 1.0, 2.5, 3.0, 4.0]
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (first["label"], first["second"]) == ("007", "07")
    columns = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert ",".join(columns.column_names) == COLUMNS
    assert columns["label"].to_pylist() == ["007", "12,50", None, None]
    assert {str(columns.schema.field(name).type) for name in ("label", "second", "digits")} == {
        "string"
    }


def test_single_digits_stay_integers():
    part = io.BytesIO()
    form = rows.format_of(Path("x.parquet"), origin=True)
    row = to_row(Entry("a"), Reading("ok", 7, 0.9, (0.1,) * 10, "", 3, 4), digest=None)
    form.write(part, [[row]])
    assert str(pyarrow.parquet.read_schema(part).field("label").type) == "int8"
    part.seek(0)
    assert list(form.read(part)) == [row]
    assert isinstance(row, Row)


# --- the same bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_interruptions_and_workers_do_not_change_a_byte(
    folder, tmp_path, small_shards, monkeypatch, out
):
    options = {"digits": "any", "separators": ".,"}
    (tmp_path / "at-once").mkdir()
    score(folder, tmp_path / "at-once" / out, workers=2, **options)
    monkeypatch.setattr(shards, "NUMBERS", 1)
    with open_plan(folder, tmp_path / out, **options) as plan:
        assert len(plan.undone()) > 2
        for shard in plan.undone()[1:3]:
            score_shard(plan, shard)
    with open_plan(folder, tmp_path / out, **options) as again:
        assert again.id == plan.id
        assert len(again.undone()) == len(plan.shards) - 2
    score_here(folder, tmp_path / out, **options)
    assert content(tmp_path / out) == content(tmp_path / "at-once" / out)


# --- constraints ----------------------------------------------------------------------------------


@pytest.fixture
def lists(tmp_path):
    """Two lists of numbers: with those of the pictures, and without."""
    some = [number.label for number in large_numbers()]
    others = [f"{index:05}" for index in range(50)]
    (tmp_path / "some.csv").write_text("\n".join([*some, *others]))
    (tmp_path / "others.csv").write_text("\n".join(others))
    return tmp_path / "some.csv", tmp_path / "others.csv"


def test_only_numbers_of_the_list_are_read(folder, tmp_path, lists):
    score_here(folder, tmp_path / "out.csv", digits="any", valid=lists[0])
    labels = {row.label for row in read_rows(tmp_path / "out.csv")} - {None}
    assert len(labels) >= 5
    assert labels <= set(lists[0].read_text().split())
    assert not (tmp_path / "out.csv.nnpipe").exists()
    summary = score_here(folder, tmp_path / "none.csv", digits="any", valid=lists[1])
    assert summary.labels == {}


def test_a_plan_keeps_the_list(folder, tmp_path, lists, small_shards):
    """Workers on other machines cannot read it, and it may change during the run."""
    options = {"digits": "any", "valid": lists[0]}
    with open_plan(folder, tmp_path / "out.csv", **options) as plan:
        numbers = lists[0].read_text().split()
        lists[0].unlink()
        assert plan.wanted().valid.numbers == sorted(set(numbers))
        score_shard(plan, 0)
    lists[0].write_text("\n".join(reversed(numbers)))
    with open_plan(folder, tmp_path / "out.csv", **options) as again:
        assert again.id == plan.id
        (again.folder / VALID).write_text("1")
        with pytest.raises(ScoringError, match=r"valid\.txt: is damaged"):
            again.wanted()


CHANGES = [
    ({"digits": "2-4"}, "the number of digits changed (any → 2-4)"),
    ({"separators": "."}, "the separators changed ('' → '.')"),
    ({"check": "luhn"}, "the check digit changed (None → luhn)"),
    ({"between": "0-99"}, "the range changed (None → 0-99)"),
    ({"valid": Path("list.txt")}, "the list of valid numbers changed (SHA-256 None → "),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=[next(iter(c)) for c, _ in CHANGES])
def test_other_numbers_are_another_command(
    folder, tmp_path, monkeypatch, caplog, small_shards, change, message
):
    """For an interrupted run, for an incremental one, and for one that tries errors again."""
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("12\n")
    new = {"digits": "any", **change}
    with open_plan(folder, "plain.csv", digits="any") as plan:
        score_shard(plan, 0)
    with open_plan(folder, "plain.csv", **new) as other:
        assert other.id != plan.id
        assert len(other.undone()) == len(other.shards)
    score_here(folder, "out.csv", digits="any", incremental=True)
    with (
        pytest.raises(ScoringError) as refused,
        open_plan(folder, "out.csv", **new, retry_errors=True),
    ):
        pass
    assert message in str(refused.value)
    with (
        caplog.at_level(logging.INFO),
        open_plan(folder, "out.csv", **new, incremental=True) as plan,
    ):
        assert plan.kept == 0
    assert message in caplog.text


def test_another_list_of_the_same_name_is_another_command(folder, tmp_path, lists):
    options = {"digits": "any", "valid": lists[0], "incremental": True}
    score_here(folder, tmp_path / "out.csv", **options)
    with open_plan(folder, tmp_path / "out.csv", **options) as plan:
        assert plan.kept == plan.files == 10
    lists[0].write_text("12\n")
    with open_plan(folder, tmp_path / "out.csv", **options) as plan:
        assert plan.kept == 0


WRONG = [
    ({"valid": Path("list.txt")}, "valid is set without digits"),
    ({"separators": "."}, "separators is set without digits"),
    ({"check": "luhn"}, "check is set without digits"),
    ({"between": "0-9"}, "between is set without digits"),
    ({"digits": "4-2"}, "digits is '4-2'"),
    ({"digits": "any", "separators": "x"}, "separators holds 'x'"),
    ({"digits": "any", "check": "nonsense"}, "check is 'nonsense'"),
    ({"digits": "any", "between": "9-1"}, "between is '9-1'"),
    ({"digits": "any", "valid": Path("missing.txt")}, "missing.txt: cannot be read"),
    ({"digits": "any", "reject_rate": 0.1}, "reject_rate is set with digits"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_settings_are_one_sentence_before_any_work(tmp_path, monkeypatch, options, message):
    """Even the source, which does not exist, is not looked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="^" + message) as error, open_plan("no", "x", **options):
        pass
    assert (error.value.advice == "digits") == ("without digits" in message)
    assert list(tmp_path.iterdir()) == []


# --- later runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_an_incremental_run_keeps_numbers(folder, tmp_path, out):
    options = {"digits": "any", "incremental": True}
    score_here(folder, tmp_path / out, **options)
    first = {row.path: row for row in read_rows(tmp_path / out)}
    (gone, *others) = sorted(path for path in first if path.endswith(".png"))
    (folder / gone).unlink()
    (folder / "new.png").write_bytes((folder / others[0]).read_bytes())
    summary = score_here(folder, tmp_path / out, **options)
    assert (summary.kept, summary.gone) == (9, 1)
    second = {row.path: row for row in read_rows(tmp_path / out)}
    assert second[gone] == first[gone]._replace(gone=True)
    assert [second[path] for path in others] == [first[path] for path in others]
    assert second["new.png"][1:9] == first[others[0]][1:9]
    summary = score_here(folder, tmp_path / out, prune=True, **options)
    assert summary.gone == 0
    assert gone not in {row.path for row in read_rows(tmp_path / out)}


def test_errors_are_tried_again(folder, tmp_path):
    score_here(folder, tmp_path / "out.csv", digits="any")
    before = list(read_rows(tmp_path / "out.csv"))
    (folder / "notes.txt").write_bytes((folder / before[0].path).read_bytes())
    summary = score_here(folder, tmp_path / "out.csv", digits="any", retry_errors=True)
    assert summary.scored == 1
    *others, last = read_rows(tmp_path / "out.csv")
    assert others == before[:-1]
    assert last[1:7] == before[0][1:7]


@pytest.mark.parametrize("option", ["incremental", "retry_errors"])
@pytest.mark.parametrize(("old", "new"), [(None, "any"), ("any", None)])
def test_a_table_of_one_kind_does_not_go_on_as_another(folder, tmp_path, option, old, new):
    out = tmp_path / "out.csv"
    score_here(folder, out, digits=old, incremental=True)
    before = content(out)
    message = r"out\.csv: holds [a-z ]+, so [a-z ]+ cannot be added; move it away"
    with (
        pytest.raises(ScoringError, match=message),
        open_plan(folder, out, digits=new, **{option: True}),
    ):
        pass
    assert content(out) == before


def test_a_new_table_may_have_another_kind(folder, tmp_path):
    """A run that continues nothing replaces the table, as with other weights."""
    out = tmp_path / "out.csv"
    with open_plan(folder, out, incremental=True) as plan:  # is interrupted after its only shard
        score_shard(plan, 0)
    (folder / "blank.png").unlink()
    assert score_here(folder, out, digits="any", incremental=True).gone == 0
    assert {type(row) for row in read_rows(out)} == {NumberRow}
    score_here(folder, out)
    assert {type(row) for row in read_rows(out)} == {Row}
