from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import logsumexp
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from nnpipe.errors import EvaluationError
from nnpipe.evaluation import evaluate, robustness
from nnpipe.evaluation.cases import MOST, Duplicate, find_duplicates
from nnpipe.evaluation.classes import Pair, f1
from nnpipe.evaluation.confidence import (
    BINS,
    Point,
    apply_budgets,
    class_reliability,
    reliability,
)
from nnpipe.evaluation.robustness import CHANGES, Change, measure, through, warp
from nnpipe.evaluation.statistics import (
    Comparison,
    Estimate,
    compare,
    mcnemar,
    percentiles,
    share,
    wilson,
)
from nnpipe.network import Layer, Network, cross_entropy, softmax

DIGITS = range(10)
CHANGED = {change.name: change for change in CHANGES}
PROBE = Network((Layer(np.eye(784), np.zeros(784)),))
"""Its logits are the pixels that it sees."""


def logits_of(answers, confidences=0.7):
    """Logits whose softmax gives each answer this confidence, and all others the same."""
    p = np.repeat((1 - np.broadcast_to(confidences, len(answers))[:, np.newaxis]) / 9, 10, axis=1)
    p[np.arange(len(answers)), answers] = confidences
    return np.log(p)


def same(found, expected):
    """None stands for what scikit-learn calls NaN."""
    if found is None:
        return bool(np.isnan(expected))
    return found.low <= found.value == pytest.approx(expected) and found.value <= found.high


def ends(estimate):
    return estimate.low, estimate.high


def change(name, pictures, strength):
    return (
        CHANGED[name]
        .logits(PROBE, pictures.reshape(-1, 784), strength=strength)
        .reshape(-1, 28, 28)
    )


@pytest.fixture(scope="module")
def some():
    """Labels and logits of a network that is too sure and confuses 3 with 5."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 3000)
    logits = 2 * (rng.normal(size=(3000, 10)) + 2.5 * np.eye(10)[labels])
    logits[labels == 3, 5] += 2
    return labels, logits


@pytest.fixture(scope="module")
def found(some):
    return evaluate(*some, temperature=1.7)


@pytest.fixture(scope="module")
def resampled(some):
    """F1 of each digit on pictures drawn anew."""
    labels, answers = some[0], some[1].argmax(1)
    rng = np.random.default_rng(1)
    draws = (rng.integers(0, len(labels), len(labels)) for _ in range(600))
    return np.array([metrics.f1_score(labels[i], answers[i], average=None) for i in draws])


@pytest.fixture(scope="module")
def pictures():
    """Float64, all different, with ink up to the border."""
    return np.random.default_rng(0).random((40, 28, 28))


@pytest.fixture
def inputs(pictures):
    return pictures.reshape(-1, 784).astype(np.float32)


# Figures of classes


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
@example([(3, 3)])
@example([(3, 5)])
@example([(4, 4)] * 7)
@example([(4, 1), (4, 2), (1, 2)])
def test_figures_of_classes_are_those_of_scikit_learn(cells):
    labels, answers = map(np.array, zip(*cells, strict=True))
    found = evaluate(labels, logits_of(answers))
    assert same(found.accuracy, metrics.accuracy_score(labels, answers))
    assert (found.n, found.errors) == (len(cells), (labels != answers).sum())
    expected = metrics.confusion_matrix(labels, answers, labels=DIGITS)
    assert (found.confusion == expected).all()

    figures = metrics.precision_recall_fscore_support(
        labels, answers, labels=DIGITS, zero_division=np.nan
    )
    for label, (precision, recall, expected_f1, support) in enumerate(zip(*figures, strict=True)):
        of = found.classes[label]
        assert (of.label, of.support, of.predicted) == (label, support, (answers == label).sum())
        assert same(of.precision, precision)
        assert same(of.recall, recall)
        assert same(of.f1, expected_f1)
        others = answers[(labels == label) & (answers != label)]
        assert of.confused == np.bincount(others, minlength=10).max()
        assert of.confused_with == (np.bincount(others).argmax() if others.size else None)

    macro = metrics.f1_score(
        labels, answers, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert same(found.macro_f1, macro)
    assert 0 <= found.macro_f1.low <= found.macro_f1.high <= 1


def test_figures_of_many_pictures_are_those_of_scikit_learn(some, found):
    labels, answers = some[0], some[1].argmax(1)
    report = metrics.classification_report(labels, answers, output_dict=True)
    assert found.accuracy.value == pytest.approx(report["accuracy"])
    assert found.macro_f1.value == pytest.approx(report["macro avg"]["f1-score"])
    for of in found.classes:
        expected = report[str(of.label)]
        assert of.precision.value == pytest.approx(expected["precision"])
        assert of.recall.value == pytest.approx(expected["recall"])
        assert of.f1.value == pytest.approx(expected["f1-score"])
        assert of.support == expected["support"]


def test_pairs_come_by_frequency():
    """Labels 1 1 2 7 7 7 8, answers 1 2 1 1 1 9 8: worked by hand."""
    found = evaluate([1, 1, 2, 7, 7, 7, 8], logits_of([1, 2, 1, 1, 1, 9, 8]))
    assert found.confused_pairs == (Pair(7, 1, 2), Pair(1, 2, 1), Pair(2, 1, 1), Pair(7, 9, 1))
    assert sum(pair.count for pair in found.confused_pairs) == found.errors
    confused = {of.label: (of.confused_with, of.confused) for of in found.classes}
    assert confused[7] == (1, 2)
    assert confused[1] == (2, 1)
    assert confused[8] == (None, 0)
    assert confused[0] == (None, 0)


def test_a_class_that_never_occurs_has_no_recall_and_is_not_in_the_mean():
    """Labels 1 1 2, answers 1 4 2: worked by hand."""
    found = evaluate([1, 1, 2], logits_of([1, 4, 2]))
    one, two, three, four = found.classes[1:5]
    assert (one.precision.value, one.recall.value, one.f1.value) == (1, 0.5, pytest.approx(2 / 3))
    assert (two.precision.value, two.recall.value, two.f1.value) == (1, 1, 1)
    assert (three.precision, three.recall, three.f1, three.support) == (None, None, None, 0)
    assert (four.precision.value, four.recall, four.f1.value, four.predicted) == (0, None, 0, 1)
    assert found.macro_f1.value == pytest.approx((2 / 3 + 1) / 2)


def test_a_class_that_is_never_answered_has_no_precision_and_an_f1_of_0():
    found = evaluate([1, 2], logits_of([1, 1]))
    assert (found.classes[2].precision, found.classes[2].recall.value) == (None, 0)
    assert found.classes[2].f1.value == 0
    assert found.macro_f1.value == pytest.approx(1 / 3)


def test_one_class_alone_is_evaluated():
    found = evaluate([3] * 50, logits_of([3] * 50))
    assert found.macro_f1 == Estimate(1, 1, 1)
    assert found.classes[3].f1.value == 1
    assert found.classes[3].f1.low < 1
    assert found.confused_pairs == found.cases.errors == ()
    assert all(of.f1 is None for of in found.classes if of.label != 3)


@pytest.mark.parametrize("labels", [[3], [3] * 9, range(10)])
def test_all_may_be_wrong(labels):
    found = evaluate(labels, logits_of([(label + 1) % 10 for label in labels]))
    assert (found.errors, found.accuracy.value) == (len(labels), 0)
    assert 0 < found.accuracy.high < 1
    assert found.macro_f1 == Estimate(0, 0, 0)
    assert found.cases.hits == ()
    assert np.isfinite(found.calibration.before.nll)


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([], np.empty((0, 10)), "no digits to evaluate"),
        ([1, 2], np.ones((1, 10)), r"2 labels need logits \(2, 10\), got \(1, 10\)"),
        ([1, 2], np.ones((2, 9)), r"2 labels need logits \(2, 10\), got \(2, 9\)"),
        ([1], np.ones(10), r"1 labels need logits \(1, 10\), got \(10,\)"),
        ([10], np.ones((1, 10)), r"labels must lie in 0…9, found 10…10"),
        ([-1, 4], np.ones((2, 10)), r"labels must lie in 0…9, found -1…4"),
        ([1], np.full((1, 10), np.nan), "must be finite, found NaN or infinity"),
        ([1], np.full((1, 10), -np.inf), "must be finite, found NaN or infinity"),
    ],
)
def test_what_cannot_be_compared_is_refused(labels, logits, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(labels, logits)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([[1], [2]], {}, r"must be a list of integers, not int64 \(2, 1\)"),
        ([1.5, 2], {}, r"must be a list of integers, not float64 \(2,\)"),
        ([1, 2], {"refused": [True]}, r"2 labels need as many refusals, got \(1,\)"),
        ([1, 2], {"refused": [True] * 3}, r"2 labels need as many refusals, got \(3,\)"),
        ([1, 2], {"disputed": frozenset({0, 2})}, "disputed labels must lie in 0…1"),
        ([1, 2], {"disputed": frozenset({-1, 0})}, "disputed labels must lie in 0…1"),
    ],
)
def test_labels_and_what_is_known_of_them_must_fit(labels, options, message):
    with pytest.raises(EvaluationError, match=message):
        evaluate(labels, np.ones((2, 10)), **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_and_logits_of_any_type_give_the_same_figures(some, found, dtype):
    again = evaluate(some[0].astype(dtype), some[1].astype(np.float32), temperature=1.7)
    assert (again.confusion == found.confusion).all()
    assert again.calibration.after.nll == pytest.approx(found.calibration.after.nll)


def test_evaluation_is_reproducible_and_changes_nothing(some, found):
    kept = [array.copy() for array in some]
    again = evaluate(*some, temperature=1.7)
    assert again.macro_f1 == found.macro_f1
    assert all((a == b).all() for a, b in zip(kept, some, strict=True))


@pytest.mark.slow
def test_a_million_pictures_are_evaluated():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 10**6)
    logits = rng.normal(size=(10**6, 10)) + 2 * np.eye(10)[labels]
    found = evaluate(labels, logits, temperature=0.9, error_thresholds={0.01: 0.9, 0.001: None})
    answers = logits.argmax(1)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(labels, answers))
    assert (found.confusion == metrics.confusion_matrix(labels, answers)).all()
    expected = metrics.f1_score(labels, answers, average="macro")
    assert found.macro_f1.value == pytest.approx(expected)
    assert found.macro_f1.high - found.macro_f1.low < 0.003
    assert len(found.coverage.curve) == 200


# Intervals


@settings(deadline=None)
@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@example((0, 1))
@example((1, 1))
@example((0, 10**6))
@example((10**6, 10**6))
@example((1, 10**6))
@example((3, 7))
def test_the_interval_of_a_share_is_scipys_wilson_interval(counts):
    hits, n = counts
    found, expected = wilson(hits, n), binomtest(hits, n).proportion_ci(method="wilson")
    assert found.value == hits / n
    assert ends(found) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert share(hits, n) == found


def test_a_share_of_nothing_is_none():
    assert share(0, 0) is None
    assert f1(0, support=0, predicted=0) is None


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
@example(0, 1, 0)
@example(5, 0, 0)
def test_the_interval_of_f1_is_that_of_the_jaccard_share(hits, missed, mistaken):
    union = hits + missed + mistaken
    found = f1(hits, support=hits + missed, predicted=hits + mistaken)
    if not union:
        assert found is None
        return
    expected = binomtest(hits, union).proportion_ci(method="wilson")
    assert found.value == pytest.approx(2 * hits / (2 * hits + missed + mistaken))
    assert ends(found) == pytest.approx([2 * j / (1 + j) for j in expected], rel=1e-9, abs=1e-12)


def test_the_interval_of_f1_is_what_drawing_pictures_anew_gives(found, resampled):
    for of in found.classes:
        assert of.precision.value < 1
        assert of.recall.value < 1
        low, high = np.percentile(resampled[:, of.label], [2.5, 97.5])
        width = high - low
        assert width > 0.02
        assert ends(of.f1) == pytest.approx((low, high), abs=0.15 * width)


def test_the_middle_95_percent_of_resampled_figures_are_the_interval():
    resampled = np.random.default_rng(0).permutation(np.linspace(0, 1, 1001))
    found = percentiles(0.6, resampled)
    assert (found.value, *ends(found)) == pytest.approx((0.6, 0.025, 0.975))
    assert percentiles(0.0, resampled).low == 0
    assert percentiles(1.0, resampled).high == 1


def test_the_interval_of_macro_f1_is_what_drawing_pictures_anew_gives(found, resampled):
    low, high = np.percentile(resampled.mean(axis=1), [2.5, 97.5])
    assert high - low > 0.01
    assert ends(found.macro_f1) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_pictures_without_errors_leave_macro_f1_no_width_but_f1_some():
    found = evaluate(np.arange(100) % 10, logits_of(np.arange(100) % 10))
    assert found.macro_f1 == Estimate(1, 1, 1)
    assert all(of.f1.low < of.f1.value == of.f1.high == 1 for of in found.classes)


# Reliability


def test_log_loss_and_brier_scores_are_those_of_scikit_learn(some, found):
    labels, logits = some
    assert found.calibration.temperature == 1.7
    for reliability_at, p in (
        (lambda c: c.before, softmax(logits)),
        (lambda c: c.after, softmax(logits / 1.7)),
    ):
        overall = reliability_at(found.calibration)
        assert overall.nll == pytest.approx(metrics.log_loss(labels, p))
        expected = metrics.brier_score_loss(labels, p, scale_by_half=False)
        assert overall.brier == pytest.approx(expected)
        assert overall.brier == pytest.approx(((p - np.eye(10)[labels]) ** 2).sum(1).mean())
        for of in found.calibration.classes:
            one = reliability_at(of)
            expected = metrics.log_loss(labels == of.label, p[:, of.label])
            assert one.nll == pytest.approx(expected, rel=1e-6)
            expected = metrics.brier_score_loss(labels == of.label, p[:, of.label])
            assert one.brier == pytest.approx(expected)


def test_bins_are_those_of_scikit_learn(some, found):
    labels, logits = some
    p = softmax(logits / 1.7)
    cases = [(found.calibration.after, logits.argmax(1) == labels, p.max(1))]
    cases += [(of.after, labels == of.label, p[:, of.label]) for of in found.calibration.classes]
    for of, right, confidences in cases:
        accuracy, confidence = calibration_curve(right, confidences, n_bins=15)
        assert [b.accuracy.value for b in of.bins] == pytest.approx(accuracy)
        assert [b.confidence for b in of.bins] == pytest.approx(confidence)
        assert sum(b.n for b in of.bins) == 3000
        assert all(b.low <= b.confidence <= b.high for b in of.bins)
        assert of.ece == pytest.approx(
            sum(abs(b.accuracy.value - b.confidence) * b.n / 3000 for b in of.bins)
        )


def test_a_probability_at_the_edge_of_two_bins_counts_once():
    p = np.linspace(0, 1, BINS + 1)
    right = np.arange(BINS + 1) % 2 == 0
    found = class_reliability(np.where(right, 4, 0), p[:, np.newaxis] * np.eye(10)[4], label=4).bins
    accuracy, confidence = calibration_curve(right, p, n_bins=BINS)
    assert [b.accuracy.value for b in found] == pytest.approx(accuracy)
    assert [b.confidence for b in found] == pytest.approx(confidence)
    assert sum(b.n for b in found) == BINS + 1


def test_the_calibration_error_worked_by_hand():
    """Two answers at 90 %, one of them right; two at 70 %, both right.

    Half of all is 40 points off, half 30: 0.5 × 0.4 + 0.5 × 0.3 = 0.35. For digit 1, two at 70 %
    are it, one at 90 % and one at 0.1 / 9 are not.
    """
    found = evaluate([1, 1, 3, 4], logits_of([1, 1, 3, 1], [0.7, 0.7, 0.9, 0.9])).calibration
    assert found.before == found.after
    assert found.after.ece == pytest.approx(0.35)
    low, high = found.after.bins
    assert (low.n, low.confidence, low.accuracy.value) == (2, pytest.approx(0.7), 1)
    assert (low.low, low.high) == pytest.approx((10 / 15, 11 / 15))
    assert (high.n, high.confidence, high.accuracy.value) == (2, pytest.approx(0.9), 0.5)
    assert (high.low, high.high) == pytest.approx((13 / 15, 14 / 15))
    assert found.after.nll == pytest.approx(-np.log([0.7, 0.7, 0.9, 0.1 / 9]).mean())
    one = found.classes[1].after
    assert [b.n for b in one.bins] == [1, 2, 1]
    assert one.ece == pytest.approx((0.1 / 9 + 2 * 0.3 + 0.9) / 4)
    assert one.brier == pytest.approx(((0.1 / 9) ** 2 + 2 * 0.3**2 + 0.9**2) / 4)


def test_temperature_divides_the_logits_of_what_comes_after_alone(some, found):
    labels, logits = some
    plain, divided = evaluate(labels, logits).calibration, evaluate(labels, logits / 1.7)
    assert found.calibration.before == plain.before == plain.after
    assert found.calibration.after == divided.calibration.before
    assert found.cases == divided.cases
    assert found.coverage == divided.coverage
    assert (found.confusion == divided.confusion).all()
    for of, of_plain in zip(found.calibration.classes, plain.classes, strict=True):
        assert of.before == of_plain.after != of.after


def test_perfect_and_worst_probabilities_have_the_ends_of_every_scale():
    labels, p = np.array([2, 5]), np.eye(10)[[2, 5]]
    best, worst = reliability(labels, p), reliability(labels, p[::-1])
    assert (best.nll, best.brier, best.ece) == (0, 0, 0)
    assert (worst.brier, worst.ece) == (2, 1)
    assert str(best.nll) == "0.0"
    worst = class_reliability(labels, p[::-1], label=2)
    assert (worst.brier, worst.ece) == (1, 1)


def test_a_probability_of_zero_gives_a_large_finite_loss():
    found = evaluate([0], 1e4 * np.eye(10)[[1]]).calibration
    for of in (found.before, found.classes[0].before, found.classes[1].before):
        assert 700 < of.nll < 750


@pytest.mark.parametrize("gap", [5, 30, 37, 40, 200, 700])
def test_the_loss_of_a_class_is_that_of_its_logits_however_sure_it_is(gap):
    logits = gap * np.eye(10)[[0]]
    found = evaluate([1], logits).calibration
    assert found.before.nll == pytest.approx(cross_entropy(logits, np.array([1])))
    expected = logsumexp(logits) - logsumexp(logits[:, 1:])
    assert found.classes[0].before.nll == pytest.approx(expected)
    assert found.classes[1].before.nll == pytest.approx(found.before.nll)


def test_no_loss_is_below_0_however_probabilities_are_rounded():
    logits = np.random.default_rng(0).normal(size=(100, 10))
    logits[:, 0] = -60
    for row in logits:
        for of in evaluate([1], [row]).calibration.classes:
            assert of.before.nll >= 0


# Coverage, rejection, disputed labels


def test_thresholds_are_applied_as_they_were_chosen():
    """Confidences 95 90 80 60 50 %, the second and the fourth wrong: worked by hand."""
    thresholds = {0.5: 0.0, 0.3: 0.6, 0.1: 0.9, 0.01: 0.96, 0.001: None}
    found = apply_budgets([0.5, 0.9, 0.8, 0.95, 0.6], [0, 1, 0, 0, 1], thresholds=thresholds)
    assert [
        (b.budget, b.threshold, b.read, b.coverage, b.errors, b.error) for b in found.budgets
    ] == [
        (0.5, 0.0, 5, 1.0, 2, wilson(2, 5)),
        (0.3, 0.6, 4, 0.8, 2, wilson(2, 4)),
        (0.1, 0.9, 2, 0.4, 1, wilson(1, 2)),
        (0.01, 0.96, 0, 0.0, 0, None),
        (0.001, None, 0, 0.0, 0, None),
    ]
    shares = [(0.2, 0), (0.4, 1 / 2), (0.6, 1 / 3), (0.8, 2 / 4), (1, 2 / 5)]
    assert found.curve == tuple(Point(*point) for point in shares)


def test_the_curve_runs_from_the_surest_answer_to_all_of_them(some, found):
    labels, logits = some
    wrong = (logits.argmax(1) != labels)[np.argsort(-softmax(logits / 1.7).max(1))]
    curve = found.coverage.curve
    assert len(curve) == 200
    assert curve[0].coverage == 1 / 3000
    assert curve[-1] == Point(1, found.errors / 3000)
    assert np.diff([point.coverage for point in curve]).max() < 1 / 150
    for point in curve:
        expected = wrong[: round(point.coverage * 3000)].mean()
        assert point.error == pytest.approx(expected)


def test_budgets_take_calibrated_confidences(some):
    labels, logits = some
    found = evaluate(labels, logits, temperature=1.7, error_thresholds={0.01: 0.8, 0.001: None})
    taken = softmax(logits / 1.7).max(1) >= 0.8
    kept, nothing = found.coverage.budgets
    assert kept.read == taken.sum()
    assert kept.errors == (taken & (logits.argmax(1) != labels)).sum() > 0
    assert kept.error == wilson(kept.errors, kept.read)
    assert (nothing.read, nothing.coverage, nothing.errors, nothing.error) == (0, 0, 0, None)
    assert evaluate(labels, logits).coverage.budgets == ()


def test_rejected_is_what_is_unsure_or_refused():
    """Answers wrong at 60 %, right at 50 %, right at 90 %, wrong at 95 %, right at 80 %."""
    labels, logits = [1, 2, 3, 4, 5], logits_of([7, 2, 3, 7, 5], [0.6, 0.5, 0.9, 0.95, 0.8])

    def figures(**options):
        found = evaluate(labels, logits, **options).rejection
        assert found.rejected + found.accepted == 5
        assert found.accuracy == share(found.accepted - found.errors, found.accepted)
        return found.threshold, found.rejected, found.errors

    assert figures() == (0, 0, 2)
    assert figures(threshold=0.55) == (0.55, 1, 2)
    assert figures(threshold=0.7) == (0.7, 2, 1)
    assert figures(threshold=0.7, refused=[0, 0, 0, 1, 0]) == (0.7, 3, 0)
    assert figures(threshold=0.7, refused=[1, 0, 0, 0, 0]) == (0.7, 2, 1)
    assert figures(refused=[1, 0, 0, 0, 0]) == (0, 1, 1)
    assert figures(threshold=1) == (1, 5, 0)
    assert evaluate(labels, logits, threshold=1).rejection.accuracy is None
    assert evaluate(labels, logits, threshold=0.7, refused=[1] * 5).errors == 2


def test_a_confidence_at_the_threshold_is_accepted():
    logits = logits_of([1])
    confidence = softmax(logits).max()
    assert evaluate([1], logits, threshold=confidence).rejection.accepted == 1
    above = np.nextafter(confidence, 1)
    assert evaluate([1], logits, threshold=above).rejection.accepted == 0


def test_disputed_labels_are_counted_apart():
    labels, logits = [1, 2, 3, 4, 5], logits_of([7, 2, 3, 7, 5])
    assert evaluate(labels, logits).disputed is None
    found = evaluate(labels, logits, disputed=frozenset({3, 1})).disputed
    assert (found.indices, found.errors, found.n) == ((1, 3), 1, 3)
    assert found.accuracy == wilson(2, 3)
    found = evaluate(labels, logits, disputed=frozenset(range(5))).disputed
    assert (found.errors, found.n, found.accuracy) == (2, 0, None)


# Two networks


@settings(deadline=None)
@given(st.integers(0, 6000), st.integers(0, 6000))
@example(0, 1)
@example(0, 6000)
@example(3000, 3001)
def test_mcnemars_test_is_scipys_of_a_fair_coin(gained, lost):
    expected = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-8, abs=1e-200)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


@pytest.mark.parametrize(("gained", "lost"), [(1, 0), (2, 5), (10, 1065), (0, 1022), (900, 2900)])
def test_mcnemars_test_is_exact_even_where_scipys_underflows(gained, lost):
    n = gained + lost
    ways = sum(comb(n, k) for k in range(min(gained, lost) + 1))
    assert mcnemar(gained, lost) == pytest.approx(float(Fraction(2 * ways, 2**n)), rel=1e-8, abs=0)


@pytest.mark.parametrize("n", [0, 1, 5, 10**6])
def test_as_many_gained_as_lost_tell_nothing(n):
    assert mcnemar(n, n) == 1


def test_huge_differences_have_a_p_value():
    expected = binomtest(500_000, 1_001_000, 0.5).pvalue
    assert mcnemar(500_000, 501_000) == pytest.approx(expected, rel=1e-6)
    assert mcnemar(100_000, 300_000) == 0


def test_a_comparison_counts_what_either_reads():
    new = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    old = np.array([1, 1, 0, 0, 0, 0, 1, 0, 0, 0], bool)
    p_value = pytest.approx(2 * (1 + 5) / 2**5)
    assert compare(new, old) == Comparison(2, 4, 1, 3, p_value)
    assert compare(old, new) == Comparison(2, 1, 4, 3, p_value)
    assert compare(new, new) == Comparison(6, 0, 0, 4, 1.0)


# Changed pictures


def test_what_changes_nothing_leaves_the_plain_accuracy(network, inputs):
    answers = network.logits(inputs).argmax(1)
    labels = np.where(np.arange(40) % 4, answers, (answers + 1) % 10)
    found = measure(network, inputs, labels=labels)
    assert [series.name for series in found] == list(CHANGED)
    recall = metrics.recall_score(
        labels, answers, labels=DIGITS, average=None, zero_division=np.nan
    )
    expected = [None if np.isnan(r) else pytest.approx(r) for r in recall]
    assert None in expected
    for series in found:
        at = series.strengths.index(series.unchanged)
        assert series.accuracy[at] == wilson(30, 40)
        assert [of[at] for of in series.classes] == expected
        assert series.n == 40
        assert len(series.accuracy) == len(series.strengths)
        assert {len(of) for of in series.classes} == {len(series.strengths)}


def test_accuracies_of_classes_make_up_that_of_all(network, inputs):
    labels = np.arange(40) % 10
    for series in measure(network, inputs, labels=labels):
        means = np.mean(series.classes, axis=0)
        assert means == pytest.approx([of.value for of in series.accuracy])


def test_one_picture_can_be_changed(network, inputs):
    for series in measure(network, inputs[:1], labels=np.array([3])):
        assert series.n == 1
        assert {of.value for of in series.accuracy} <= {0, 1}
        assert set(series.classes[3]) <= {0, 1}
        assert {of for label, of in enumerate(series.classes) if label != 3} == {
            (None,) * len(series.strengths)
        }


@pytest.mark.parametrize("n", [9_999, 10_000, 10_001, 15_000, 25_000])
def test_of_many_pictures_ten_thousand_are_taken_evenly(monkeypatch, n):
    seen = []

    def logits(_, X, *, strength):
        seen.append(X[:, 0])
        return np.eye(10)[(X[:, 0] + strength).astype(int) % 10]

    monkeypatch.setattr(robustness, "CHANGES", (Change("known", "", (0, 1), 0, logits),))
    (series,) = measure(None, np.arange(n)[:, np.newaxis], labels=np.arange(n) % 10)
    assert series.n == len(seen[0]) == min(n, 10_000)
    assert [of.value for of in series.accuracy] == [1, 0]
    steps = np.diff(seen[0])
    assert (seen[0][0], seen[0][-1]) == (0, n - 1)
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


def test_nothing_warped_is_the_identity():
    assert (warp(np.eye(2)) == np.eye(784)).all()


def test_a_network_that_sees_changed_pictures_gives_their_logits(network, inputs):
    rng = np.random.default_rng(0)
    for M in (warp(rng.normal(size=(2, 2)), (1.5, -2)), rng.normal(size=(784, 784)) / 28):
        found, expected = through(network, M).logits(inputs), network.logits(inputs @ M)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert through(network, M).layers[0].W.dtype == np.float32


@pytest.mark.parametrize(("degrees", "quarters"), [(90, -1), (-90, 1), (180, 2), (0, 0)])
def test_quarters_turn_clockwise(pictures, degrees, quarters):
    expected = np.rot90(pictures, quarters, axes=(1, 2))
    np.testing.assert_allclose(change("rotation", pictures, degrees), expected, atol=1e-6)


@pytest.mark.parametrize("degrees", [d for d in CHANGED["rotation"].strengths if d])
def test_rotation_is_scipys(pictures, degrees):
    expected = ndimage.rotate(
        pictures, -degrees, axes=(2, 1), reshape=False, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(change("rotation", pictures, degrees), expected, atol=1e-6)


@pytest.mark.parametrize("factor", CHANGED["scale"].strengths)
def test_scaling_is_scipys_about_the_middle(pictures, factor):
    for picture, found in zip(pictures, change("scale", pictures, factor), strict=True):
        expected = ndimage.affine_transform(
            picture, np.eye(2) / factor, 13.5 - 13.5 / factor, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_factor_above_1_makes_pictures_larger():
    square = np.zeros((1, 28, 28))
    square[:, 9:19, 9:19] = 1
    for factor in CHANGED["scale"].strengths:
        assert change("scale", square, factor).sum() == pytest.approx(100 * factor**2, rel=0.05)


def test_any_warp_is_scipys(pictures):
    rng = np.random.default_rng(0)
    for picture in pictures:
        A, offset = rng.normal(size=(2, 2)), rng.normal(size=2) * 3
        expected = ndimage.affine_transform(
            picture, A, 13.5 - A @ [13.5, 13.5] + offset, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(
            picture.ravel() @ warp(A, tuple(offset)), expected.ravel(), atol=1e-6
        )


@pytest.mark.parametrize("pixels", CHANGED["shift"].strengths)
def test_quarters_of_the_pictures_shift_up_down_left_and_right(network, pictures, pixels):
    moved = pictures.copy()
    for first, (down, across) in enumerate([(-1, 0), (1, 0), (0, -1), (0, 1)]):
        by = (0, down * pixels, across * pixels)
        moved[first::4] = ndimage.shift(pictures[first::4], by, order=0)
    if pixels == 2:
        assert (moved[0, :26] == pictures[0, 2:]).all()
        assert not moved[0, 26:].any()
    for n in (1, 2, 3, 40):
        X = pictures[:n].reshape(n, 784).astype(np.float32)
        expected = network.logits(moved[:n].reshape(n, 784).astype(np.float32))
        found = CHANGED["shift"].logits(network, X, strength=pixels)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("sigma", CHANGED["blur"].strengths)
def test_blur_is_scipys_gaussian_filter(pictures, sigma):
    expected = ndimage.gaussian_filter(pictures, (0, sigma, sigma), mode="constant", truncate=10)
    np.testing.assert_allclose(change("blur", pictures, sigma), expected, atol=2e-5)


@pytest.mark.parametrize("pixels", CHANGED["stroke"].strengths)
def test_strokes_grow_and_shrink_by_a_plus(pictures, pixels):
    plus = ndimage.generate_binary_structure(2, 1)[np.newaxis]
    spread = ndimage.grey_dilation if pixels > 0 else ndimage.grey_erosion
    expected = pictures
    for _ in range(int(abs(pixels))):
        expected = spread(expected, footprint=plus)
    if pixels % 1:
        expected = (expected + spread(expected, footprint=plus)) / 2
    found = change("stroke", pictures.astype(np.float32), pixels)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_strokes_change_alike_in_every_block(monkeypatch, pictures):
    expected = change("stroke", pictures, 1)
    monkeypatch.setattr(robustness, "BLOCK", 7)
    assert (change("stroke", pictures, 1) == expected).all()


@pytest.mark.parametrize("sigma", CHANGED["noise"].strengths)
def test_noise_has_its_deviation_and_stays_within_black_and_white(sigma):
    grey = np.full((2048, 28, 28), 0.5, np.float32)
    found = change("noise", grey, sigma)
    assert 0 <= found.min() <= found.max() <= 1
    drawn = np.random.default_rng(1).normal(0.5, sigma, 10**6).clip(0, 1)
    assert found.mean() == pytest.approx(0.5, abs=2e-3)
    assert found.std() == pytest.approx(drawn.std(), abs=2e-3)
    block = robustness.BLOCK
    assert (found[:block] == found[block : 2 * block]).all()
    assert (grey == 0.5).all()


@pytest.mark.parametrize("strength", CHANGED["contrast"].strengths)
def test_contrast_thins_the_ink(inputs, strength):
    found = CHANGED["contrast"].logits(PROBE, inputs, strength=strength)
    np.testing.assert_allclose(found, strength * inputs, rtol=1e-6)


@pytest.mark.parametrize("side", CHANGED["occlusion"].strengths)
def test_a_square_of_paper_covers_some_of_the_inner_pixels(side):
    ink = np.ones((2000, 28, 28), np.float32)
    hidden = change("occlusion", ink, side) == 0
    rows, columns = hidden.any(axis=2), hidden.any(axis=1)
    assert (rows.sum(axis=1) == side).all()
    assert (columns.sum(axis=1) == side).all()
    assert (hidden == rows[:, :, np.newaxis] & columns[:, np.newaxis]).all()
    for across in (rows, columns):
        assert (np.diff(across.astype(int), axis=1, prepend=0) == 1).sum() == (2000 if side else 0)
    somewhere = np.zeros((28, 28), bool)
    somewhere[4:24, 4:24] = side > 0
    assert (hidden.any(axis=0) == somewhere).all()
    assert (ink == 1).all()


def test_what_is_not_covered_stays(pictures):
    found = change("occlusion", pictures, 8)
    assert ((found == 0) | (found == pictures)).all()
    assert ((found == 0).sum(axis=(1, 2)) == 64).all()


# Pictures to look at


def test_pictures_to_look_at_come_by_their_probabilities():
    """Wrong: 0 at 60 %, 2 at 90 %, 4 at 70 %. Right: 1 at 95 %, 3 at 40 %, 5 at 50 %."""
    labels, answers = [1, 2, 3, 4, 5, 6], [7, 2, 9, 4, 8, 6]
    logits = logits_of(answers, [0.6, 0.95, 0.9, 0.4, 0.7, 0.5])
    found = evaluate(labels, logits).cases
    assert found.errors == found.suspects == (2, 4, 0)
    assert found.hits == (3, 5, 1)
    known = evaluate(labels, logits, disputed=frozenset({4, 5})).cases
    assert known.suspects == (2, 0)
    assert (known.errors, known.hits) == (found.errors, found.hits)


def test_suspects_come_by_the_probability_of_the_label():
    """Both answers are 0, the first the surer one; but the second leaves its label less."""
    p = np.array([[0.8, 0.15, *[0.05 / 8] * 8], [0.6, 0.01, *[0.39 / 8] * 8]])
    found = evaluate([1, 1], np.log(p)).cases
    assert found.errors == (0, 1)
    assert found.suspects == (1, 0)


def test_at_most_24_pictures_of_a_kind_are_looked_at(some, found):
    labels, logits = some
    p = softmax(logits / 1.7)
    wrong = p.argmax(1) != labels
    of_label = p[np.arange(3000), labels]
    by_confidence, by_label = np.argsort(p.max(1)), np.argsort(of_label)
    assert MOST == 24
    assert found.cases.errors == tuple([i for i in by_confidence[::-1] if wrong[i]][:24])
    assert found.cases.hits == tuple([i for i in by_confidence if not wrong[i]][:24])
    suspects = [i for i in by_label if wrong[i]]
    assert found.cases.suspects == tuple(suspects[:24])
    again = evaluate(labels, logits, temperature=1.7, disputed=frozenset(suspects[:20]))
    assert again.cases.suspects == tuple(suspects[20:44])


def test_pictures_that_look_alike_come_in_their_order():
    found = evaluate([1] * 300 + [2] * 300, logits_of([1] * 600)).cases
    assert found.hits == tuple(range(24))
    assert found.errors == found.suspects == tuple(range(300, 324))


# Duplicates


def test_copies_among_others_are_found_with_both_labels():
    a, b, c, d = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    almost = a.copy()
    almost[27, 27] ^= 1
    pictures, labels = np.array([c, a, almost, b, a]), np.array([0, 1, 2, 3, 4])
    others, other_labels = np.array([d, a, b, a]), np.array([5, 6, 3, 7])
    found = find_duplicates(pictures, labels, earlier=(others, other_labels))
    assert found == (Duplicate(1, 1, 1, 6), Duplicate(3, 2, 3, 3), Duplicate(4, 1, 4, 6))
    assert find_duplicates(others, other_labels, earlier=(pictures, labels)) == (
        Duplicate(1, 1, 6, 1),
        Duplicate(2, 3, 3, 3),
        Duplicate(3, 1, 7, 1),
    )
    assert find_duplicates(pictures, labels, earlier=(others[:0], other_labels[:0])) == ()
    assert find_duplicates(pictures[:0], labels[:0], earlier=(others, other_labels)) == ()


def test_copies_in_one_set_are_found_but_for_the_first():
    a, b, c = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    pictures, labels = np.array([a, b, a, c, b, a]), np.array([0, 1, 0, 3, 4, 5], np.uint8)
    assert find_duplicates(pictures, labels) == (
        Duplicate(2, 0, 0, 0),
        Duplicate(4, 1, 4, 1),
        Duplicate(5, 0, 5, 0),
    )
    assert find_duplicates(pictures[1:4], labels[1:4]) == ()


def test_copies_are_found_however_they_lie_in_memory(pictures):
    whole = (255 * pictures).astype(np.uint8)
    turned = np.asfortranarray(whole)
    found = find_duplicates(turned, np.zeros(40), earlier=(whole[::-1], np.ones(40)))
    assert [(of.index, of.earlier) for of in found] == [(i, 39 - i) for i in range(40)]
