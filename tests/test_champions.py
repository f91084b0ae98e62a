import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from nnpipe import cli, datasets, runs, weights
from nnpipe.champions import Store, champion_of, rules, store
from nnpipe.classifier import champion
from nnpipe.datasets import Digits, drawn
from nnpipe.epochs import Epoch
from nnpipe.errors import (
    DatasetError,
    MissingExtraError,
    OutputError,
    PromotionError,
    TrainingError,
    WeightsError,
)
from nnpipe.network import Network
from nnpipe.runs import MODEL, RECORD, WEIGHTS_FILE

from .conftest import ROOT
from .damage import DAMAGE
from .test_weights import spoil_metadata

NAMES = (WEIGHTS_FILE, MODEL, RECORD)
RULES = ["dataset", "whole", "not worse", "better", "recall"]
IS_BETTER, PRESENT = rules.is_better, rules.present


SHIPPED = weights.load(champion())
GOOD = SHIPPED.network  # it reads drawn digits, too
GOLDEN = drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1)
ABOUT = replace(
    SHIPPED.metadata,
    dataset="drawn",
    dataset_checksum="0" * 64,
    recipe="sgd",
    validation_accuracy=None,
    test_accuracy=None,
)


def write(folder, network, model=None, **told):
    """Write a run: weights, a record and, for one of PyTorch, its model."""
    about = replace(ABOUT, **{"engine": "torch" if model else "numpy", **told})
    weights.save(folder / WEIGHTS_FILE, network, metadata=about, golden=GOLDEN)
    if model:
        from nnpipe.torch_training.model import save_model, to_state_dict

        save_model(folder / MODEL, to_state_dict(model))
    runs.write_record(
        folder,
        runs.Record(
            engine=about.engine,
            recipe=about.recipe,
            seed=about.seed,
            parameters={},
            dataset=about.dataset,
            dataset_checksum=about.dataset_checksum,
            created=about.created,
            git_commit=None,
            seconds=1.0,
            history=[Epoch(1, 1, 0.1, 0.1, 0.99, 1.0)],
        ),
    )
    return folder


@pytest.fixture(scope="session")
def pictures(small_dataset):
    """The validation digits of the small data set, redrawn once for all tests."""
    return PRESENT(small_dataset.validation.images)


@pytest.fixture(autouse=True)
def data(monkeypatch, small_dataset, pictures):
    """Wherever digits are looked for, the small data set is found, and as good is good enough."""
    monkeypatch.setattr(datasets, "load", lambda name, folder: replace(small_dataset, name=name))
    monkeypatch.setattr(rules, "present", lambda images: pictures)
    monkeypatch.setattr(rules, "is_better", lambda gain, error: gain >= 0)
    return small_dataset


@pytest.fixture
def strict(monkeypatch):
    """The real rule: a candidate must gain more than a standard error."""
    monkeypatch.setattr(rules, "is_better", IS_BETTER)


def noisy(network, scale, seed=0):
    """The network with noise on its weights."""
    rng = np.random.default_rng(seed)
    return Network(
        tuple(
            layer._replace(W=layer.W + rng.normal(0, scale, layer.W.shape).astype("f4"))
            for layer in network.layers
        )
    )


def without(network, digit):
    """The network, but it never answers that digit."""
    *first, last = network.layers
    b = last.b.copy()
    b[digit] -= 1000
    return Network((*first, last._replace(b=b)))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A folder of weights: the champion, and three candidates that read as it does."""
    root = tmp_path_factory.mktemp("champions") / "weights"
    write(root, GOOD)
    for number in (1, 2, 3):
        write(root / "runs" / f"r{number}", noisy(GOOD, 1e-6, number), seed=number)
    return root


@pytest.fixture
def root(fresh, tmp_path):
    """A copy of that, to be changed."""
    return shutil.copytree(fresh, tmp_path / "weights")


def content(folder):
    """What a champion is made of, byte for byte."""
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).exists()}


def damage(path, at=2000):
    """Change one byte in the middle."""
    changed = bytearray(path.read_bytes())
    changed[at] ^= 0xFF
    path.write_bytes(changed)


def promote(run, root, data_dir):
    return Store(root).promote(run, data_dir=data_dir)


def rollback(root, name=None):
    return Store(root).rollback(name)


def models(root):
    return Store(root).models()


def judge(candidate, champion, data_dir):
    return rules.judge(candidate, champion, data_dir=data_dir)


def up(root, name):
    done = promote(root / "runs" / name, root, root / "data")
    assert done.promoted, done.decision
    return done


# --- the rules --------------------------------------------------------------------------------


def reasons(decision):
    return {rule.name: (rule.passed, rule.reason) for rule in decision.rules}


def test_what_pytorch_trained_needs_its_model_beside_it(root):
    write(root / "runs/alone", noisy(GOOD, 0.0001), engine="torch")
    decision = judge(root / "runs/alone" / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert not decision.promote
    assert "there is no pytorch_model.pth to compare it with" in reasons(decision)["whole"][1]


def test_a_better_candidate_fulfils_all_rules(root, strict):
    write(root, noisy(GOOD, 0.2))
    decision = judge(root / "runs/r1" / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert decision.promote
    assert [rule.name for rule in decision.rules] == RULES
    told = reasons(decision)
    assert told["dataset"] == (True, "both were trained on drawn (SHA-256 000000000000…)")
    assert told["not worse"][1].startswith("of 500 validation digits it gains ")
    assert "half as they are and half redrawn as pictures, it reads " in told["better"][1]
    assert "no digit loses more than 1 point of recall" in told["recall"][1]


def test_a_candidate_that_is_only_as_good_leaves_the_champion(root, strict):
    decision = judge(root / "runs/r1" / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert [rule.name for rule in decision.rules if not rule.passed] == ["better"]


def test_only_a_gain_beyond_its_standard_error_is_better():
    """Against SciPy's paired t-test, whose statistic is the gain in standard errors."""
    old = np.zeros(1000)
    for gained in (1, 2, 10, 40):
        new = old.copy()
        new[:gained] = 1
        new[gained : gained + 30] = -1
        gain, error = rules.difference(new, old)
        t = scipy.stats.ttest_rel(new, old).statistic
        assert gain / error == pytest.approx(t, rel=1e-3)  # which divides by n − 1
        assert IS_BETTER(gain, error) == (t > 1)
    assert not IS_BETTER(*rules.difference(old, old))


def test_digits_are_judged_as_they_are_and_redrawn(small_dataset, pictures):
    images, rows = pictures
    assert set(rows) == set(range(500))
    assert len(images) == len(rows) >= rules.REDRAWN * 500
    again = PRESENT(small_dataset.validation.images)
    assert np.array_equal(again[0], images)
    right, redrawn = np.arange(500) % 3 == 0, np.arange(len(rows)) % 2 == 0
    shares = pd.Series(redrawn).groupby(rows).mean()
    assert np.array_equal(rules.scores(right, redrawn, rows=rows)[1], (right + shares) / 2)


@pytest.mark.parametrize("told", [{"dataset": "mnist"}, {"dataset_checksum": "1" * 64}])
def test_another_data_set_is_refused(root, told):
    folder = write(root / "runs/other", GOOD, seed=9, **told)
    decision = judge(folder / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert not decision.promote
    assert [rule.name for rule in decision.rules] == RULES[:1]
    assert decision.rules[0].reason.endswith(": not the same")


def test_drawn_digits_never_replace_mnist(root):
    shutil.copy(champion(), root / WEIGHTS_FILE)
    before = content(root)
    done = promote(root / "runs/r1", root, root)
    assert (done.promoted, done.name) == (False, None)
    assert "it was trained on drawn (SHA-256 000000000000…) and the champion on mnist (" in (
        done.decision.rules[0].reason
    )
    assert content(root) == before
    assert not list((root / "former").glob("0*"))


def test_digits_other_than_those_learned_from_are_an_error(root, monkeypatch, data):
    other = replace(data, checksum="2" * 64)
    monkeypatch.setattr(datasets, "load", lambda name, folder: other)
    with pytest.raises(DatasetError, match="was trained on other drawn digits than those in"):
        judge(root / "runs/r1" / WEIGHTS_FILE, root / WEIGHTS_FILE, root)


def test_a_damaged_candidate_is_refused_with_its_reason(root):
    damage(root / "runs/r1" / WEIGHTS_FILE)
    decision = judge(root / "runs/r1" / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert [(rule.name, rule.passed) for rule in decision.rules] == [("whole", False)]
    assert "r1/model_weights.npz: is not a whole .npz file" in decision.rules[0].reason


def test_a_damaged_champion_is_an_error_that_names_the_way_back(root):
    damage(root / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="it is the champion") as caught:
        judge(root / "runs/r1" / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert caught.value.advice == "rollback"
    with pytest.raises(WeightsError, match="it is the champion"):
        promote(root / "runs/r1", root, root)


def test_a_candidate_reads_as_its_pytorch_model_does(root):
    whole = write(root / "runs/whole", GOOD, model=GOOD, seed=4)
    told = reasons(judge(whole / WEIGHTS_FILE, root / WEIGHTS_FILE, root))
    assert told["whole"][0]
    assert "NumPy and PyTorch read all 500 validation digits alike" in told["whole"][1]
    for name, model, why in (
        ("other", noisy(GOOD, 0.05), "the export does not compute what PyTorch does: "),
        ("sizes", Network.initialise(np.random.default_rng(0), (784, 8, 10)), "it has layers (78"),
    ):
        folder = write(root / "runs" / name, GOOD, model=model)
        decision = judge(folder / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
        assert [rule.name for rule in decision.rules] == RULES[:2]
        assert why in decision.rules[1].reason
    (whole / MODEL).write_bytes(b"no model")
    decision = judge(whole / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert "cannot be read as a PyTorch model" in decision.rules[1].reason


def test_without_torch_a_pytorch_model_is_one_sentence(root, monkeypatch):
    folder = write(root / "runs/torch", GOOD, model=GOOD)
    for name in [n for n in sys.modules if n.startswith("nnpipe.torch_training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("nnpipe.torch_training.model", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        MissingExtraError, match=r"needs torch, .* pip install '\.\[train\]' in nnpipe's folder"
    ):
        judge(folder / WEIGHTS_FILE, root / WEIGHTS_FILE, root)
    assert judge(root / "runs/r1" / WEIGHTS_FILE, root / WEIGHTS_FILE, root).promote  # it has none


def test_a_worse_candidate_is_refused(root):
    folder = write(root / "runs/worse", noisy(GOOD, 0.2))
    told = reasons(judge(folder / WEIGHTS_FILE, root / WEIGHTS_FILE, root))
    assert not told["not worse"][0]
    assert not told["better"][0]


def test_one_digit_that_gets_worse_is_refused_though_another_gets_better(root):
    write(root, without(without(GOOD, 3), 5))
    folder = write(root / "runs/no-7", without(GOOD, 7))
    told = reasons(judge(folder / WEIGHTS_FILE, root / WEIGHTS_FILE, root))
    assert told["not worse"][0]
    assert told["recall"][0] is False
    assert "digit 7 does worst, " in told["recall"][1]
    assert told["recall"][1].endswith("% before and 0.00% now")


class Answers:
    """A classifier that answers as it is told."""

    def __init__(self, answers):
        self.answers = answers

    def logits(self, images):
        return np.eye(10)[self.answers]


@pytest.mark.parametrize(
    ("lost", "gained", "not_worse", "recall"),
    [
        ({}, {}, True, True),
        ({0: 1}, {}, False, True),
        ({0: 1}, {1: 1}, True, True),
        ({}, {0: 10, 1: 10}, True, True),
        ({4: 10}, {5: 10}, True, True),  # one point of 1,000 digits
        ({4: 11}, {5: 11}, True, False),
        ({4: 11}, {}, False, False),
    ],
)
def test_the_limits_of_being_worse_are_exact(monkeypatch, lost, gained, not_worse, recall):
    labels = np.repeat(np.arange(10, dtype=np.uint8), 1000)
    new, old = labels.copy(), labels.copy()
    for answers, wrong in ((new, lost), (old, gained)):
        for digit, n in wrong.items():
            answers[1000 * digit : 1000 * digit + n] = (digit + 1) % 10
    monkeypatch.setattr(rules, "present", lambda images: (images, np.arange(len(images))))
    digits = Digits(np.zeros((len(labels), 28, 28), np.uint8), labels)
    found = {r.name: r for r in rules._compared(Answers(new), Answers(old), validation=digits)}
    assert (found["not worse"].passed, found["recall"].passed) == (not_worse, recall)


# --- promotion and rollback -------------------------------------------------------------------


def test_promotion_then_rollback_restores_byte_for_byte_twice(root):
    write(root, GOOD, model=GOOD)  # the first champion has a PyTorch model, the others none
    states = [content(root)]
    for name in ("r1", "r2"):
        up(root, name)
        states.append(content(root))
        assert content(root) == content(root / "runs" / name)
    assert list(states[0]) == list(NAMES)
    assert MODEL not in states[1]
    for state, name in ((states[1], "0002-r1"), (states[0], "0001-shipped")):
        assert rollback(root).name == name
        assert content(root) == state
    with pytest.raises(PromotionError, match="holds no former champion before this one"):
        rollback(root)
    assert content(root) == states[0]
    assert sorted(path.name for path in (root / "former").glob("0*")) == [
        "0001-shipped",
        "0002-r1",
        "0003-r2",
    ]


def test_the_archive_tells_how_each_became_champion(root):
    up(root, "r1")
    done = up(root, "r2")
    told = json.loads((root / "former/0003-r2/promotion.json").read_text())
    assert (told["number"], told["name"], told["replaced"]) == (3, "0003-r2", 2)
    assert told["run"] == str(root / "runs/r2")
    assert told["sha256"] == done.sha256
    assert told["rules"] == [asdict(rule) for rule in done.decision.rules]
    first = json.loads((root / "former/0001-shipped/promotion.json").read_text())
    assert (first["run"], first["replaced"], first["rules"]) == (None, None, [])


@pytest.mark.parametrize("name", ["0001-shipped", "1", "0001"])
def test_a_former_champion_comes_back_by_name_or_number(root, name):
    first = content(root)
    up(root, "r1")
    up(root, "r2")
    rollback(root, name)
    assert content(root) == first
    rollback(root, "0003-r2")
    assert content(root) == content(root / "runs/r2")
    with pytest.raises(PromotionError, match="holds no former champion '9'"):
        rollback(root, "9")


def test_the_same_weights_may_be_champion_twice_and_the_way_back_is_that_of_each(root):
    for name in ("r1", "r2", "r1"):
        up(root, name)
    found = [rollback(root).name for _ in range(3)]
    assert found == ["0003-r2", "0002-r1", "0001-shipped"]


def test_what_was_rolled_back_is_promoted_again_only_if_a_person_says_so(root):
    up(root, "r1")
    rollback(root)
    before = content(root)
    # The same network, trained again: another file, with another date.
    write(root / "runs/same", noisy(GOOD, 1e-6, 1), created="2030-01-01T00:00:00+00:00")
    for name in ("r1", "same"):
        done = promote(root / "runs" / name, root, root)
        assert not done.promoted
        (rule,) = done.decision.rules
        assert (rule.name, rule.passed) == ("veto", False)
        assert rule.reason.startswith("it was champion and was rolled back on 20")
        assert rule.reason.endswith(", as 0002-r1")
    assert content(root) == before
    up(root, "r2")  # others are judged as ever
    rollback(root)
    done = Store(root).promote(root / "runs/r1", data_dir=root, again=True)
    assert done.name == "0002-r1"  # needs no second archive
    assert {m.name: m.state for m in models(root)}["0003-r2"] == "rolled back"
    assert rollback(root).name == "0001-shipped"


def test_a_person_who_brings_it_back_lifts_the_veto(root):
    up(root, "r1")
    rollback(root)
    rollback(root, "0002-r1")
    states = {m.name: m.state for m in models(root)}
    assert (states["0002-r1"], states["0001-shipped"]) == ("champion", "former")
    rollback(root)
    assert not promote(root / "runs/r1", root, root).promoted  # left once more


@pytest.mark.parametrize("text", ["", "{}", "[7]", '[{"network": 1}]'])
def test_nothing_is_promoted_while_it_is_not_known_what_was_rolled_back(root, text):
    up(root, "r1")
    before = content(root)
    (root / "former/vetoes.json").write_text(text)
    for change in (lambda: promote(root / "runs/r2", root, root), lambda: rollback(root)):
        with pytest.raises(PromotionError, match="it is not known what was rolled back; move it"):
            change()
    assert content(root) == before
    assert models(root)[0].state == "champion"
    (root / "former/vetoes.json").unlink()
    (root / "former/vetoes.json").symlink_to("nowhere")
    with pytest.raises(PromotionError, match="it is not known what was rolled back"):
        promote(root / "runs/r2", root, root)
    (root / "former/vetoes.json").unlink()
    rollback(root)
    assert (root / "former/vetoes.json").exists()


def test_the_champion_itself_is_refused(root):
    up(root, "r1")
    for run in (root / "runs/r1", root):
        done = promote(run, root, root)
        assert not done.promoted
        assert "it is the champion already" in done.decision.rules[0].reason


def test_what_is_no_finished_run_is_one_sentence(root):
    (root / "runs/empty").mkdir()
    with pytest.raises(WeightsError, match="there is no such weights file"):
        promote(root / "runs/empty", root, root)
    weights.save(
        root / "runs/half" / WEIGHTS_FILE, noisy(GOOD, 1e-6), metadata=ABOUT, golden=GOLDEN
    )
    with pytest.raises(TrainingError, match="is no finished run"):
        promote(root / "runs/half", root, root)
    with pytest.raises(PromotionError, match="none: there is no such folder"):
        promote(root / "runs/r1", root / "none", root)
    with pytest.raises(PromotionError, match=r"holds no former champion$"):
        rollback(root)


def test_a_run_that_changes_while_it_is_judged_is_refused(root, monkeypatch):
    before = content(root)

    def judge_slowly(candidate, champion, data_dir):
        decision = judge(candidate, champion, data_dir)
        shutil.copy(root / "runs/r2" / WEIGHTS_FILE, candidate)
        return decision

    monkeypatch.setattr(store, "judge", judge_slowly)
    with pytest.raises(PromotionError, match="was changed while it was judged"):
        promote(root / "runs/r1", root, root)
    assert content(root) == before


def test_where_there_is_no_champion_a_whole_candidate_becomes_one(root):
    (root / WEIGHTS_FILE).unlink()
    damage(root / "runs/r2" / WEIGHTS_FILE)
    assert not promote(root / "runs/r2", root, root).promoted
    done = up(root, "r1")
    assert [rule.name for rule in done.decision.rules] == RULES
    assert all("there is no champion" in r.reason for r in done.decision.rules if r.name != "whole")
    assert done.name == "0001-r1"
    assert content(root) == content(root / "runs/r1")


def test_a_champion_that_was_put_there_by_hand_is_kept_too(root):
    up(root, "r1")
    write(root, noisy(GOOD, 1e-6, 7), seed=7)
    by_hand = content(root)
    up(root, "r2")
    assert rollback(root).name == "0003-replaced-by-hand"
    assert content(root) == by_hand
    assert rollback(root).name == "0002-r1"


# --- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_damaged_champion_comes_back(root, how):
    up(root, "r1")
    if how == "damaged":
        damage(root / WEIGHTS_FILE)
    else:
        (root / WEIGHTS_FILE).unlink()
    assert rollback(root).name == "0002-r1"
    assert content(root) == content(root / "runs/r1")


def test_a_damaged_champion_is_replaced_by_the_last_that_is_whole(root):
    first = content(root)
    up(root, "r1")
    damage(root / WEIGHTS_FILE)
    damage(root / "former/0002-r1" / WEIGHTS_FILE)
    assert rollback(root).name == "0001-shipped"
    assert content(root) == first
    damage(root / WEIGHTS_FILE)
    (root / "former/0001-shipped" / RECORD).unlink()
    with pytest.raises(PromotionError, match="holds no former champion that is whole"):
        rollback(root)


@pytest.mark.parametrize("file", [WEIGHTS_FILE, RECORD])
def test_a_damaged_archive_is_refused(root, file):
    up(root, "r1")
    before = content(root)
    damage(root / "former/0001-shipped" / file, 20)
    for name in (None, "0001-shipped"):
        with pytest.raises(PromotionError, match=f"{file}: is missing or damaged"):
            rollback(root, name)
    assert content(root) == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rules": [{"x": 1}]}'])
def test_an_archive_whose_record_is_damaged_is_no_way_back(root, text):
    up(root, "r1")
    before = content(root)
    (root / "former/0001-shipped/promotion.json").write_text(text)
    with pytest.raises(PromotionError, match="holds no former champion"):
        rollback(root)
    assert content(root) == before
    assert {m.name: m.state for m in models(root)}["0001-shipped"] == "damaged"
    up(root, "r2")
    assert (root / "former/0003-r2").exists()


@pytest.mark.parametrize("text", ["", "7", "null", '{"a": 1}', '[[1], "x"]', "[99, null]"])
def test_who_was_installed_last_is_found_without_its_file(root, text):
    first = content(root)
    up(root, "r1")
    (root / "former/champion.json").write_text(text)
    assert rollback(root).name == "0001-shipped"
    assert content(root) == first


def test_companions_that_do_not_fit_are_mended(root):
    up(root, "r1")
    for name in (MODEL, RECORD):
        (root / name).write_text("of another")
    assert not promote(root / "runs/r1", root, root).promoted
    assert content(root) == content(root / "runs/r1")


# --- kills, full disks, two at once --------------------------------------------------------------

# Does the same change again and again, in a fork each, and lets it die, or the disk be full, one
# step later each time. A step is: open for writing, half a write, fsync, mkdir, rename, remove.
STEPS = """
import builtins, errno, json, os, shutil, signal, sys
from pathlib import Path
from nnpipe import files
from nnpipe.champions import Store, archive, store
from nnpipe.champions.rules import Decision
from nnpipe.runs import WEIGHTS_FILE
from nnpipe.errors import NnpipeError, OutputError, PromotionError
from nnpipe.weights import load

base, how, change = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store.judge = lambda *_, **__: Decision(True, ())
NAMES = (WEIGHTS_FILE, *archive.COMPANIONS)
left = None  # steps until it happens; None: never

def step(name):
    global left
    if left is None:
        return
    left -= 1
    if left < 0 and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    # A disk that is full stays so, but for removing; and what renames needs no space.
    if left == 0 and how == "fail once" or left <= 0 and how == "full" and name in NEED_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

NEED_SPACE = ("open", "write", "fsync", "os.mkdir")
WATCHED = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")

def hook(event, arguments):
    writes = os.O_WRONLY | os.O_RDWR
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & writes:
        step("open")
    elif event in WATCHED and not (how != "kill" and event in ("os.remove", "os.rmdir")):
        step(event)

class Stream:
    def __init__(self, stream):
        self.stream = stream
    def __enter__(self):
        return self
    def __exit__(self, *exception):
        self.stream.close()
    def __getattr__(self, name):
        return getattr(self.stream, name)
    def write(self, data):
        self.stream.write(data[: len(data) // 2])
        self.stream.flush()
        step("write")
        self.stream.write(data[len(data) // 2 :])

files.open = lambda *a, **k: Stream(builtins.open(*a, **k))
os.fsync = lambda fd: step("fsync")  # no power fails here, and it takes its time
sys.addaudithook(hook)

def content(folder):
    return {n: (folder / n).read_bytes() for n in NAMES if (folder / n).exists()}

def promote(root):
    return Store(root).promote(root / "runs/r3", data_dir=root)

def rollback(root):
    return Store(root).rollback()

act = {"promote": promote, "rollback": rollback}[change]
before, candidate = content(base), content(base / "runs/r3")
after = candidate if change == "promote" else content(base / "former/0001-shipped")
assert before[WEIGHTS_FILE] != after[WEIGHTS_FILE]
seen = []
for k in range(1000):
    root = base.parent / f"{how}-{k}"
    shutil.copytree(base, root)
    child = os.fork()
    if not child:
        left = k if how == "kill" else k + 1
        try:
            act(root)
        except OutputError as error:
            assert "could not be written" in str(error)
            os._exit(7)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0 if how == "kill" or left > 0 else 8)  # 8: the step did not matter
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 7, 8, -signal.SIGKILL), code
    load(root / WEIGHTS_FILE)
    now = content(root)
    assert now[WEIGHTS_FILE] in (before[WEIGHTS_FILE], after[WEIGHTS_FILE])
    if code == 7:
        assert now == before, k
    if code in (0, 8):
        assert now == after
    seen.append((code, now[WEIGHTS_FILE] == after[WEIGHTS_FILE], now in (before, after)))
    # The next one finds its way, whatever it is that comes next.
    for again in (promote, rollback) if k % 2 else (rollback, promote):
        is_champion = content(root)[WEIGHTS_FILE] == candidate[WEIGHTS_FILE]
        try:
            again(root)
        except PromotionError as error:
            assert is_champion or again is rollback, error
        now = content(root)
        archived = [content(f) for f in (root / "former").glob("0*")]
        assert now in (before, after, *archived), (k, again)
    assert not (root / "former/.new").exists()
    assert not list(root.glob(".nnpipe*"))
    shutil.rmtree(root)
    if code == 0:
        break
print(json.dumps(seen))
"""


def in_a_process(code, *arguments, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True, **more)


@pytest.fixture
def small(tmp_path):
    """The same with small networks; the first two have companions that are no use."""
    root = tmp_path / "small"
    for number in (1, 2, 3):
        network = Network.initialise(np.random.default_rng(number), (784, 2, 10))
        folder = root if number == 1 else root / "runs" / f"r{number}"
        write(folder, network, seed=number)
        if number != 2:
            (folder / MODEL).write_text(f"a model, number {number}")
    return root


@pytest.mark.parametrize("change", ["promote", "rollback"])
@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full", "fail once"])
def test_a_change_that_ends_at_any_step_leaves_the_old_champion_or_the_new(
    small, monkeypatch, how, change
):
    if change == "rollback":
        monkeypatch.setattr(store, "judge", lambda *_, **__: rules.Decision(True, ()))
        up(small, "r2")
    process = in_a_process(STEPS, small, how, change)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    seen = json.loads(out)
    codes = [code for code, _, _ in seen]
    assert codes[-1] == 0
    assert set(codes[:-1]) == ({-9} if how == "kill" else {7, 8})
    assert len(codes) > 15
    if how == "kill":
        assert {new for _, new, _ in seen[:-1]} == {False, True}
        assert not all(fits for _, _, fits in seen)  # companions of the one, weights of the other


PROMOTE = """
import sys, time
import numpy as np
from pathlib import Path
from nnpipe import datasets
from nnpipe.champions import Store, rules
from nnpipe.datasets import Dataset, Digits

root, name = Path(sys.argv[1]), sys.argv[2]
with np.load(root / "digits.npz") as file:
    digits = Digits(file["images"], file["labels"])
datasets.load = lambda *_: Dataset("drawn", "0" * 64, digits, digits, digits)
rules.is_better = lambda gain, error: True
end = time.monotonic() + 30
(root / f"{name}.ready").touch()
while not (root / "go").exists() and time.monotonic() < end:
    time.sleep(0.001)
done = Store(root).promote(root / "runs" / name, data_dir=root)
assert done.promoted, done.decision
"""


def test_two_who_promote_at_once_come_one_after_the_other(root, data):
    np.savez(root / "digits.npz", images=data.validation.images, labels=data.validation.labels)
    processes = [in_a_process(PROMOTE, root, name) for name in ("r1", "r2")]
    end = time.monotonic() + 60
    while len(list(root.glob("*.ready"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    (root / "go").touch()
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    former = sorted(path.name for path in (root / "former").glob("0*"))
    first, second = (name.removeprefix(f"000{n}-") for n, name in enumerate(former[1:], 2))
    assert {first, second} == {"r1", "r2"}
    assert content(root) == content(root / "runs" / second)
    told = json.loads((root / "former" / former[2] / "promotion.json").read_text())
    assert told["replaced"] == 2
    assert rollback(root).name == f"0002-{first}"
    assert content(root) == content(root / "runs" / first)


def test_who_comes_second_is_judged_against_the_new_champion(root, monkeypatch):
    import fcntl

    (root / "former").mkdir()
    with open(root / "former/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        judged = []

        def note(candidate, against, data_dir):
            judged.append(against.read_bytes())
            return judge(candidate, against, data_dir)

        monkeypatch.setattr(store, "judge", note)
        waiting = threading.Thread(target=up, args=(root, "r1"), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert not judged
        shutil.copy(root / "runs/r2" / WEIGHTS_FILE, root / WEIGHTS_FILE)
    waiting.join(30)
    assert not waiting.is_alive()
    assert judged == [(root / "runs/r2" / WEIGHTS_FILE).read_bytes()]


def test_a_folder_that_cannot_be_written_is_one_sentence(root):
    (root / "former").write_text("a file")
    with pytest.raises(OutputError, match="could not be written"):
        promote(root / "runs/r1", root, root)


@pytest.mark.parametrize("name", [RECORD, MODEL, "former/champion.json"])
def test_a_file_that_cannot_be_replaced_is_named(root, name):
    up(root, "r1")
    (root / name).unlink(missing_ok=True)
    (root / name).mkdir()
    before = (root / WEIGHTS_FILE).read_bytes()
    with pytest.raises(OutputError, match=f"^{root / name}: could not be written"):
        rollback(root)
    assert (root / WEIGHTS_FILE).read_bytes() == before


@pytest.mark.parametrize("number", ["123456789012345678", "9" * 19, "9" * 240])
def test_a_folder_with_a_huge_number_leaves_a_way_back(root, number):
    """Records have no numbers beyond 2**63."""
    before = content(root)
    (root / f"former/{number}-mine").mkdir(parents=True)
    up(root, "r1")
    rollback(root)
    assert content(root) == before
    assert models(root)[0].state == "champion"


def test_after_the_last_number_nothing_is_promoted(root):
    before = content(root)
    (root / f"former/{'9' * 18}-mine").mkdir(parents=True)
    with pytest.raises(PromotionError, match="-mine: has the last number; move it elsewhere"):
        up(root, "r1")
    assert content(root) == before


# --- the list, and the command line ----------------------------------------------------------


@pytest.fixture
def command(monkeypatch, tmp_path, capfd, root):
    """Run the command in this process; returns (exit code, out, err)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        arguments = ["nnpipe", "models", *map(str, arguments), "--weights-dir", str(root)]
        monkeypatch.setattr(sys, "argv", arguments)
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        if isinstance(code, str):  # what sys.exit would print
            print(code, file=sys.stderr)
            code = 1
        return code, *capfd.readouterr()

    return command


def test_the_list_has_all_kinds(root):
    up(root, "r1")
    damage(root / "runs/r3" / WEIGHTS_FILE)
    (root / "runs/unfinished").mkdir()
    found = models(root)
    assert [(model.name, model.state) for model in found] == [
        ("0002-r1", "champion"),
        ("0001-shipped", "former"),
        ("r2", "candidate"),
        ("r3", "damaged"),
    ]
    assert (found[0].dataset, found[0].recipe, found[0].seed) == ("drawn", "sgd", 1)
    assert "is not a whole .npz file" in found[3].reason
    damage(root / WEIGHTS_FILE)
    damage(root / "former/0001-shipped" / WEIGHTS_FILE)
    assert [(model.name, model.state) for model in models(root)] == [
        ("champion", "damaged"),
        ("0002-r1", "former"),
        ("0001-shipped", "damaged"),
        ("r2", "candidate"),
        ("r3", "damaged"),
    ]
    (root / WEIGHTS_FILE).unlink()
    assert models(root)[0].name == "0002-r1"


def test_the_list_is_a_table_or_json(root, command):
    write(root, GOOD, validation_accuracy=0.98765, test_accuracy=0.5)
    damage(root / "runs/r3" / WEIGHTS_FILE)
    code, out, err = command("list")
    assert code == 0
    assert err.startswith("damaged: ")
    head, first, second, *_ = out.splitlines()
    for title, cell in (("state", "champion"), ("validation", "98.77%"), ("test", "50.00%")):
        assert first[head.index(title) :].startswith(cell)
    assert second.split() == ["r1", "candidate", "drawn", "sgd", "1", "-", "-", second.split()[-1]]
    code, out, _ = command("list", "--json")
    assert code == 0
    assert json.loads(out) == [asdict(model) for model in models(root)]


def test_promote_tells_each_rule_and_exits_with_0_or_1(root, command):
    code, out, err = command("promote", root / "runs/r1")
    assert (code, out) == (0, "")
    *rules, last = err.splitlines()
    assert [line[:9].strip() for line in rules] == RULES
    assert all(line[11:13] == "ok" for line in rules)
    assert last == "0002-r1 is the champion now"
    write(root / "runs/worse", noisy(GOOD, 0.2))
    code, out, err = command("promote", root / "runs/worse")
    assert (code, out) == (1, "")
    *rules, last = err.splitlines()
    assert [line[11:18].strip() for line in rules] == ["ok", "ok"] + 3 * ["refused"]
    assert last == (
        f"nnpipe: {root}/runs/worse: refused by 'not worse', 'better', 'recall'; the champion stays"
    )
    code, _, err = command("promote", root / "runs/r1")
    assert code == 1
    assert "it is the champion already" in err
    assert err.splitlines()[-1].startswith(f"nnpipe: {root}/runs/r1: refused by 'new'")


def test_rollback_tells_who_is_champion(root, command):
    command("promote", root / "runs/r1")
    assert command("rollback") == (0, "", "0001-shipped is the champion now\n")
    code, _, err = command("promote", root / "runs/r1")
    assert code == 1
    assert err.endswith(
        "refused by 'veto'; the champion stays; add --again to promote it all the same\n"
    )
    assert command("rollback", "2") == (0, "", "0002-r1 is the champion now\n")
    code, out, err = command("rollback", "none")
    assert (code, out) == (1, "")
    assert err == (
        f"nnpipe: {root}/former: holds no former champion 'none'; 'nnpipe models list' "
        "shows all champions and runs\n"
    )


def test_the_default_root_is_that_of_the_repository(monkeypatch):
    assert store.default_root() == ROOT / "weights"


def test_the_champion_of_an_installed_nnpipe_is_left_alone(monkeypatch):
    """A wheel holds its champion itself; candidates and champions then lie in ./weights."""
    inside = ROOT / "nnpipe" / WEIGHTS_FILE
    monkeypatch.setattr(store, "shipped_champion", lambda: inside)
    assert Store().champion == Path("weights/model_weights.npz")
    assert champion_of(None) == inside
    assert champion_of(Path("mine")) == Path("mine/model_weights.npz")


# --- what else may be in the place of a file --------------------------------------------------


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_candidate_is_one_line_of_the_list(root, how):
    for name in ("r1", "r2"):
        (root / "runs" / name / RECORD).unlink()
        DAMAGE[how](root / "runs" / name / WEIGHTS_FILE)
    found = {model.name: model for model in models(root)}
    assert found["r3"].state == "candidate"
    for name in ("r1", "r2"):
        assert found[name].state == "damaged"
        assert f"{name}/model_weights.npz: " in found[name].reason
        assert found[name].reason.isprintable()


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_archive_is_one_line_of_the_list(root, how):
    archives = [Store(root).archive.add(name, content(root)) for name in ("a", "b", "c")]
    folders = [root / "former" / former.name for former in archives]
    DAMAGE[how](folders[0] / "promotion.json")
    DAMAGE[how](folders[1] / WEIGHTS_FILE)
    (root / "former/champion.json").write_text("[3, 1]")
    DAMAGE[how](root / "former/champion.json")
    write(root, noisy(GOOD, 1e-6, 9))
    states = {model.name: model for model in models(root)}
    assert states["0003-c"].state == "former"
    for name in ("0001-a", "0002-b"):
        assert states[name].state == "damaged"
        assert states[name].reason.isprintable()


@pytest.mark.parametrize("how", ["pipe", "folder", "loop", "socket"])
def test_what_is_no_file_in_a_run_is_one_sentence(root, how):
    before = content(root)
    for name in (WEIGHTS_FILE, MODEL, RECORD):
        folder = shutil.copytree(root / "runs/r1", root / "runs" / f"no-{name}")
        (folder / name).touch()
        DAMAGE[how](folder / name)
        with pytest.raises(PromotionError, match=f"{name}: could not be read"):
            promote(folder, root, root)
    assert content(root) == before


@pytest.mark.parametrize("how", ["pipe", "loop"])
def test_a_champion_that_is_no_file_comes_back(root, how):
    up(root, "r1")
    DAMAGE[how](root / WEIGHTS_FILE)
    assert models(root)[0].state == "damaged"
    with pytest.raises(WeightsError, match="it is the champion"):
        promote(root / "runs/r2", root, root)
    assert rollback(root).name == "0002-r1"
    assert content(root) == content(root / "runs/r1")


def test_the_list_survives_metadata_of_wrong_types(root, command):
    for name, change in (("r1", {"test_accuracy": "good"}), ("r2", {"recipe": "\x1b[2J\ud800"})):
        spoil_metadata(root / "runs" / name / WEIGHTS_FILE, **change)
    code, out, err = command("list")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [
        ["r1", "damaged"],
        ["r2", "damaged"],
        ["r3", "candidate"],
    ]
    assert "test_accuracy is 'good', expected float" in err
    assert (out + err).replace("\n", "").isprintable()


def test_the_scratch_folder_loses_only_files_of_nnpipe(root, tmp_path):
    """A link in its place is refused, and what is linked to is not touched."""
    scratch, mine = root / "former/.new", tmp_path / "mine"
    (scratch / "0007-x").mkdir(parents=True)
    mine.mkdir()
    (mine / WEIGHTS_FILE).write_text("mine")
    for path in (scratch / WEIGHTS_FILE, scratch / "0007-x/promotion.json", scratch / "notes.txt"):
        path.write_text("x")
    (scratch / ".nnpipe-0123456789ab.tmp").touch()
    (scratch / "0008-linked").symlink_to(mine)
    up(root, "r1")
    assert {path.name for path in scratch.iterdir()} == {"notes.txt", "0008-linked"}
    assert (mine / WEIGHTS_FILE).read_text() == "mine"

    shutil.rmtree(scratch)
    scratch.symlink_to(mine)
    before = content(root)
    with pytest.raises(PromotionError, match=r"\.new: is not a folder that nnpipe made"):
        promote(root / "runs/r2", root, root)
    assert content(root) == before
    assert [path.name for path in mine.iterdir()] == [WEIGHTS_FILE]
    assert (mine / WEIGHTS_FILE).read_text() == "mine"


def test_a_run_whose_name_cannot_be_printed_is_archived_under_another(root):
    folder = shutil.copytree(root / "runs/r1", root / "runs/a\x1b\n")
    done = promote(folder, root, root)
    assert done.name == "0002-a--"
    assert Store(root).archive.read(root / "former" / done.name).run == folder
    assert {model.name: model.state for model in models(root)}["0002-a--"] == "champion"
