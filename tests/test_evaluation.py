import csv
import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from nnpipe import report
from nnpipe.errors import EvaluationError
from nnpipe.evaluation import evaluate


def answers(labels, predicted, confidence=0.7):
    p = np.full((len(labels), 10), (1 - confidence) / 9)
    p[np.arange(len(labels)), predicted] = confidence
    return p


@pytest.fixture
def some():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1000)
    p = rng.dirichlet(np.ones(10), 1000) + 0.5 * np.eye(10)[labels]
    return labels, p / p.sum(1, keepdims=True)


def test_all_figures_are_those_of_scikit_learn(some):
    labels, p = some
    found, predicted = evaluate(labels, p), p.argmax(1)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert found.errors == (labels != predicted).sum() > 0
    assert found.loss == pytest.approx(metrics.log_loss(labels, p))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert (found.confusion == metrics.confusion_matrix(labels, predicted)).all()
    expected = metrics.precision_recall_fscore_support(labels, predicted)
    for figures, (precision, recall, f1, support) in zip(
        found.classes, zip(*expected, strict=True), strict=True
    ):
        assert figures.precision == pytest.approx(precision)
        assert figures.recall == pytest.approx(recall)
        assert figures.f1 == pytest.approx(f1)
        assert figures.support == support


def test_classes_that_never_occur_have_no_figures():
    """Labels 1 1 2, answers 1 2 2: worked by hand."""
    found = evaluate([1, 1, 2], answers([1, 1, 2], [1, 2, 2]))
    one, two, three = found.classes[1:4]
    assert (one.precision, one.recall, one.f1, one.confused_with) == (
        1,
        0.5,
        pytest.approx(2 / 3),
        2,
    )
    assert (two.precision, two.recall, two.f1, two.confused_with) == (
        0.5,
        1,
        pytest.approx(2 / 3),
        None,
    )
    assert (three.precision, three.recall, three.f1, three.support) == (None, None, None, 0)
    assert found.macro_f1 == pytest.approx(2 / 3)


def test_all_wrong_is_no_error():
    found = evaluate([3], answers([3], [5]))
    assert (found.accuracy, found.errors, found.macro_f1) == (0, 1, 0)


def test_a_probability_of_zero_gives_a_large_finite_loss():
    p = np.zeros((1, 10))
    p[0, 1] = 1
    assert 80 < evaluate([0], p).loss < 100


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([], np.empty((0, 10)), "no digits to evaluate"),
        ([1, 2], np.ones((1, 10)), r"2 labels need probabilities \(2, 10\), got \(1, 10\)"),
        ([10], np.ones((1, 10)), r"labels must lie in 0…9, found 10…10"),
        ([-1], np.ones((1, 10)), r"labels must lie in 0…9, found -1…-1"),
        ([1], np.full((1, 10), np.nan), "must be finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(labels, p, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(labels, p)


def test_the_report_holds_the_figures_in_every_form(tmp_path, some):
    evaluation = evaluate(*some)
    report.write(tmp_path / "new" / "report", evaluation, {"weights": "w.npz", "seed": 3})
    folder = tmp_path / "new" / "report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.csv",
        "metrics.json",
        "per_class.csv",
        "report.md",
    ]
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["about"] == {"weights": "w.npz", "seed": 3}
    assert figures["accuracy"] == evaluation.accuracy
    assert figures["confusion"] == evaluation.confusion.tolist()

    per_class = pd.read_csv(folder / "per_class.csv")
    assert per_class["recall"].tolist() == [c.recall for c in evaluation.classes]
    confusion = pd.read_csv(folder / "confusion.csv", index_col="label")
    assert (confusion.to_numpy() == evaluation.confusion).all()

    text = (folder / "report.md").read_text()
    assert text.startswith(f"# {evaluation.accuracy:.2%} of 1,000 digits read right")
    assert text.count("\n| ") == 4 + 12 + 12


def test_a_report_of_absent_classes_is_valid_json_and_csv(tmp_path):
    report.write(tmp_path, evaluate([1], answers([1], [1])), {})
    assert "NaN" not in (tmp_path / "metrics.json").read_text()
    with open(tmp_path / "per_class.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["recall"] == ""
    assert rows[1]["recall"] == "1.0"
