"""Each number of a list on at most one picture: all pictures are given their numbers jointly."""

import json
import re
from itertools import product
from math import inf, log, prod

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import linear_sum_assignment

from nnpipe import Classifier
from nnpipe.errors import ScoringError, SettingError
from nnpipe.numbers.constraints import NOT_POSSIBLE
from nnpipe.scoring import NumberRow, planning, read_rows
from nnpipe.scoring.once import assign, settle
from nnpipe.scoring.plan import OURS
from nnpipe.scoring.shards import score_shard
from nnpipe.scoring.statistics import load_statistics
from nnpipe.scoring.summary import finish, load_finished

from .conftest import ROOT
from .make_samples import encoded, picture
from .scoring import large_numbers, open_plan, score, score_here
from .test_scoring import OUTPUTS, content

ONCE = {"digits": "any", "valid_once": True}


@pytest.fixture
def small_shards(monkeypatch):
    """Two files to a shard."""
    monkeypatch.setattr(planning, "SHARD_FILES", 2)
    monkeypatch.setattr(planning, "FEW_FILES", 2)


@pytest.fixture
def looks_like_948():
    """A picture that may be 948 or, less probably, 998."""
    return next(number.picture for number in large_numbers() if number.label == "948")


@pytest.fixture
def folder(tmp_path, looks_like_948):
    """Three pictures alike, another number, a blank picture, and a text."""
    folder = tmp_path / "sheets"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(looks_like_948).save(folder / name)
    Image.fromarray(large_numbers()[0].picture).save(folder / "d.png")
    (folder / "blank.png").write_bytes(encoded(picture(0, pen=0.1, height=1), "PNG"))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def ids(tmp_path):
    """The list of numbers."""
    (tmp_path / "ids.csv").write_text("id,name\n948,Ann\n998,Bob\n94,Cy\n")
    return tmp_path / "ids.csv"


def rows_of(out):
    return {row.path: row for row in read_rows(out)}


# --- pictures -------------------------------------------------------------------------------------


def test_pictures_that_look_alike_get_different_numbers(folder, ids, tmp_path):
    """Alone all three are 948. There is one more number that they may be, and none for the last."""
    score_here(folder, tmp_path / "alone.csv", digits="any", valid=ids)
    alone = rows_of(tmp_path / "alone.csv")
    assert [alone[name].label for name in ("a.png", "b.png", "c.png")] == ["948"] * 3
    summary = score(folder, tmp_path / "out.csv", valid=ids, workers=2, **ONCE)
    table = rows_of(tmp_path / "out.csv")
    first, second, third = sorted(
        (table[name] for name in ("a.png", "b.png", "c.png")), key=lambda row: row.label or "x"
    )
    assert (first.label, first.reason, first.second) == ("948", "", None)
    assert first.confidence > alone["a.png"].confidence
    assert first.digits == alone["a.png"].digits
    assert second.label == "998"
    assert second.reason == f"948 was given to {first.path}"
    assert second.second is second.digits is None
    assert 0.9 < second.confidence < first.confidence
    assert third.status == "rejected"
    assert third.label is third.digits is None
    assert third.reason == second.reason
    assert (third.confidence, third.second) == (0, "948")
    assert third.second_confidence == alone["a.png"].confidence
    for name in ("d.png", "blank.png", "notes.txt"):
        assert table[name] == alone[name]
    assert summary.statuses == {"error": 1, "ok": 3, "rejected": 2}
    assert summary.labels == {"2 digits": 1, "3 digits": 2}
    assert summary.reasons[second.reason] == 2
    assert (summary.files, summary.scored, summary.kept) == (6, 6, 0)
    assert not (tmp_path / "out.csv.nnpipe").exists()


def test_the_candidates_of_a_number_are_those_of_its_list(looks_like_948):
    """They add up to one at most; without a constraint there are none, and nobody is shown any."""
    read = Classifier.load().read
    number = read(looks_like_948, digits="any", valid=["948", "998", "94"])
    labels, shares = zip(*number.candidates, strict=True)
    assert labels == ("948", "998", "94")
    assert sorted(shares, reverse=True) == list(shares)
    assert sum(shares) < 1
    assert (number.label, number.confidence) == (labels[0], round(shares[0], 6))
    assert (number.second, number.second_confidence) == (labels[1], round(shares[1], 6))
    assert read(looks_like_948, digits="any").candidates == ()
    assert "candidates" not in number.shown
    assert "candidates" not in repr(number)


def test_numbers_that_nobody_else_has_are_read_as_without_the_option(tmp_path):
    """Byte for byte."""
    source = tmp_path / "sheets"
    source.mkdir()
    for number in large_numbers():
        Image.fromarray(number.picture).save(source / f"{number.label}.png")
    (tmp_path / "ids.csv").write_text("\n".join(number.label for number in large_numbers()))
    score_here(source, tmp_path / "alone.csv", digits="any", valid=tmp_path / "ids.csv")
    labels = [row.label for row in read_rows(tmp_path / "alone.csv") if row.label]
    assert len(labels) == len(set(labels)) > 5
    score_here(source, tmp_path / "once.csv", valid=tmp_path / "ids.csv", **ONCE)
    again = {row.path: row for row in read_rows(tmp_path / "once.csv")}
    for row in read_rows(tmp_path / "alone.csv"):
        assert again[row.path].label == row.label
        assert again[row.path].confidence >= (row.confidence or 0)


def steady(text):
    """Without probabilities, which are others when digits are cut or weighed in another way."""
    return re.sub(r"0\.\d+", "P", text)


def test_the_example_of_the_docs_is_real(folder, ids, tmp_path):
    for name in ("c.png", "d.png", "blank.png", "notes.txt"):
        (folder / name).unlink()
    ids.write_text("948\n998\n")
    text = (ROOT / "docs/scoring.md").read_text()
    score_here(folder, tmp_path / "alone.csv", digits="3", valid=ids)
    score_here(folder, tmp_path / "once.csv", **{**ONCE, "digits": "3"}, valid=ids)
    for out in ("alone.csv", "once.csv"):
        columns = [line.split(",")[:9] for line in (tmp_path / out).read_text().splitlines()]
        shown = "\n".join(",".join(cells) for cells in columns)
        assert steady(f"```\n{shown}\n```") in steady(text), shown


# --- the assignment -------------------------------------------------------------------------------


def some_pictures(rng, *, pictures, numbers, most):
    """Candidates with random probabilities, some of which are equal."""
    result = []
    for index in range(pictures):
        count = rng.integers(0, most + 1)
        shares = rng.dirichlet(np.full(count + 1, 0.5))[:count] if count else []
        labels = rng.choice(numbers, count, replace=False)
        pairs = zip(map(str, labels), (float(max(p, 1e-8)) for p in shares), strict=True)
        result.append((f"{index}.png", sorted(pairs, key=lambda pair: -pair[1])))
    return result


def none_of(candidates, most_none):
    return min(max(1 - sum(share for _, share in candidates), 1e-6), most_none)


@pytest.mark.parametrize("most_none", [1.0, 0.1])
def test_no_other_assignment_is_more_probable(most_none):
    """All of them are tried."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        pictures = some_pictures(rng, pictures=4, numbers=4, most=3)
        choices = [[*some, (None, none_of(some, most_none))] for _, some in pictures]
        best = 0.0
        for chosen in product(*choices):
            labels = [label for label, _ in chosen if label]
            if len(labels) == len(set(labels)):
                best = max(best, prod(share for _, share in chosen))
        given = assign(iter(pictures), most_none=most_none)
        own = {name: label for label, name in given.items()}
        assert len(own) == len(given)
        reached = prod(
            dict(some)[own[name]] if name in own else none_of(some, most_none)
            for name, some in pictures
        )
        assert reached == pytest.approx(best, rel=1e-4)


def test_it_is_as_good_as_that_of_scipys_dense_solver():
    rng = np.random.default_rng(1)
    pictures = some_pictures(rng, pictures=300, numbers=250, most=20)
    costs = np.full((300, 550), inf)
    for row, (_, some) in enumerate(pictures):
        costs[row, 250 + row] = -log(none_of(some, 0.1))
        for label, share in some:
            costs[row, int(label)] = -log(share)
    given = {name: int(label) for label, name in assign(pictures, most_none=0.1).items()}
    reached = sum(costs[row, given.get(name, 250 + row)] for row, (name, _) in enumerate(pictures))
    assert reached == pytest.approx(costs[linear_sum_assignment(costs)].sum(), abs=1e-3)
    assert 100 < len(given) < 250


def test_none_counts_at_most_as_much_as_is_said():
    pictures = [("a.png", [("7", 0.4)]), ("b.png", [("8", 0.05)]), ("c.png", [("9", 0.1)])]
    assert assign(pictures) == {}
    assert assign(pictures, most_none=0.1) == {"7": "a.png", "9": "c.png"}


def test_pictures_without_candidates_are_given_nothing():
    assert assign([("a.png", []), ("b.png", [])]) == {}
    assert assign([("a.png", []), ("b.png", [("1", 1.0)])]) == {"1": "b.png"}


# --- rows -----------------------------------------------------------------------------------------

READ = NumberRow(
    "b.png", 1, "", "ok", "1-2", 0.6, "13", 0.3, "a note", 9, 9, "0", "[[1,0.9,1,1,2,2]]"
)
REJECTED = NumberRow(
    "b.png", 1, "", "rejected", None, 0.08, "72", 0.5, f"{NOT_POSSIBLE}; a note", 9, 9, "0", None
)


def settled(row, *candidates, **given):
    given = {label.removeprefix("n"): name for label, name in given.items()}
    return settle(row, candidates, given=given, threshold=0.1)


def test_a_number_that_is_kept_keeps_its_spelling_and_its_boxes():
    row = settled(READ, ("12", 0.6), ("13", 0.3), ("14", 0.05), n12="b.png", n13="a.png")
    assert row == READ._replace(confidence=0.857143, second="14", second_confidence=0.071429)
    row = settled(READ, ("12", 0.6), ("13", 0.3), n12="b.png", n13="a.png")
    assert (row.second, row.second_confidence) == (None, None)


def test_nothing_changes_if_no_other_picture_has_a_candidate():
    assert settled(READ, ("12", 0.6), ("13", 0.3), n12="b.png") is READ
    assert settled(REJECTED, ("12", 0.08), ("13", 0.02)) is REJECTED
    assert settled(REJECTED) is REJECTED


def test_a_note_stays_behind_the_reason():
    row = settled(READ, ("12", 0.6), ("13", 0.3), n12="a.png", n13="b.png")
    assert (row.status, row.label, row.digits) == ("ok", "13", None)
    assert (row.confidence, row.second) == (0.75, None)
    assert row.reason == "12 was given to a.png; a note"


def test_a_number_that_is_not_probable_enough_is_not_read():
    row = settled(READ, ("12", 0.6), ("13", 0.03), n12="a.png", n13="b.png")
    assert (row.status, row.label, row.digits) == ("rejected", None, None)
    assert (row.confidence, row.second, row.second_confidence) == (0.075, "12", 0.6)
    assert row.reason == "12 was given to a.png; a note"


def test_a_rejected_picture_is_read_if_one_number_is_left():
    others = {f"n{number}": f"{number}.png" for number in range(20, 31)}
    shares = [(str(number), 0.08) for number in range(20, 31)]
    row = settled(REJECTED, *shares, ("31", 0.08), n31="b.png", **others)
    assert (row.status, row.label, row.confidence) == ("ok", "31", 0.666667)
    assert row.reason == "20 was given to 20.png; a note"
    assert settled(REJECTED, ("12", 0.08), ("13", 0.02), n12="a.png") is REJECTED


# --- the same bytes -------------------------------------------------------------------------------


@pytest.mark.parametrize("out", OUTPUTS)
def test_interruptions_and_workers_do_not_change_a_byte(folder, ids, tmp_path, small_shards, out):
    (tmp_path / "at-once").mkdir()
    score(folder, tmp_path / "at-once" / out, valid=ids, workers=2, **ONCE)
    with open_plan(folder, tmp_path / out, valid=ids, **ONCE) as plan:
        assert plan.undone() == [0, 1, 2]
        score_shard(plan, 1)
    with open_plan(folder, tmp_path / out, valid=ids, **ONCE) as again:
        assert again.id == plan.id
        assert again.undone() == [0, 2]
    score_here(folder, tmp_path / out, valid=ids, **ONCE)
    assert content(tmp_path / out) == content(tmp_path / "at-once" / out)
    assert not (tmp_path / f"{out}.nnpipe").exists()
    assert score_here(folder, tmp_path / out, valid=ids, **ONCE).statuses["ok"] == 3


def test_damaged_candidates_are_made_again(folder, ids, tmp_path, small_shards):
    """A run that ends while the output is put together goes on as well."""
    score_here(folder, tmp_path / "whole.csv", valid=ids, **ONCE)
    out = tmp_path / "out.csv"
    with open_plan(folder, out, valid=ids, **ONCE) as plan:
        for shard in plan.shards:
            score_shard(plan, shard)
        assert plan.undone() == []
        plan.part(0, once=True).write_bytes(b"begun")
        pictures = json.loads(plan.candidates(0).read_bytes())
        assert [path for path, _ in pictures] == ["a.png", "b.png"]
        assert load_statistics(plan.statistics(0)).candidates
        plan.candidates(1).write_bytes(b"[]")
        plan.candidates(2).unlink()
        with pytest.raises(ScoringError, match=r"candidates\.json: is damaged; scoring again"):
            finish(plan, rows=6, seconds=1)
        names = {f"{plan.id}/{path.name}" for path in plan.folder.iterdir()}
        assert all(map(OURS.fullmatch, names))
    with open_plan(folder, out, valid=ids, **ONCE) as again:
        assert again.undone() == [1, 2]
    score_here(folder, out, valid=ids, **ONCE)
    assert content(out) == {"out.csv": (tmp_path / "whole.csv").read_bytes()}
    assert not (tmp_path / "out.csv.nnpipe").exists()


# --- commands -------------------------------------------------------------------------------------


WRONG = [
    ({"digits": "any"}, "valid_once is set without valid, the numbers that exist", "valid"),
    (
        {"digits": "any", "valid": "x", "incremental": True},
        "valid_once is set with incremental",
        "",
    ),
    (
        {"digits": "any", "valid": "x", "retry_errors": True},
        "valid_once is set with retry_errors",
        "",
    ),
    ({"valid": "x"}, "valid is set without digits", "digits"),
]


@pytest.mark.parametrize(("options", "message", "advice"), WRONG, ids=[m for _, m, _ in WRONG])
def test_wrong_settings_are_one_sentence_before_any_work(
    tmp_path, monkeypatch, options, message, advice
):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(SettingError, match="^" + message) as error,
        open_plan("no", "x.csv", valid_once=True, **options),
    ):
        pass
    assert error.value.advice == advice
    assert list(tmp_path.iterdir()) == []


def test_with_and_without_are_different_commands(folder, ids, tmp_path, small_shards):
    with open_plan(folder, tmp_path / "out.csv", digits="any", valid=ids) as plan:
        score_shard(plan, 0)
    with open_plan(folder, tmp_path / "out.csv", valid=ids, **ONCE) as other:
        assert other.id != plan.id
        assert other.undone() == [0, 1, 2]
    score_here(folder, tmp_path / "out.csv", valid=ids, **ONCE)
    assert load_finished(tmp_path / "out.csv").command.valid_once
    message = "the rule that each valid number occurs only once changed (True → False)"
    options = {"digits": "any", "valid": ids, "retry_errors": True}
    with pytest.raises(ScoringError) as error, open_plan(folder, tmp_path / "out.csv", **options):
        pass
    assert message in str(error.value)


def test_a_plan_of_an_earlier_version_goes_on(folder, ids, tmp_path, small_shards):
    """Its command does not have the option, and its statistics have no candidates."""
    options = {"digits": "any", "valid": ids}
    with open_plan(folder, tmp_path / "out.csv", **options) as plan:
        score_shard(plan, 0)
    for file, part in ((plan.state / "plan.json", "command"), (plan.statistics(0), None)):
        record = json.loads(file.read_text())
        del (record[part] if part else record)["valid_once" if part else "candidates"]
        file.write_text(json.dumps(record))
    with open_plan(folder, tmp_path / "out.csv", **options) as again:
        assert again.id == plan.id
        assert again.undone() == [1, 2]
