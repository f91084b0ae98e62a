from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from nnpipe.calibration import (
    ERROR_BUDGETS,
    RATES,
    error_thresholds,
    fit_temperature,
    threshold,
    thresholds,
)
from nnpipe.network import softmax


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 10, 3000)


@pytest.fixture
def logits(labels):
    """As a network gives them that is right in most cases and too sure of it."""
    rng = np.random.default_rng(1)
    return 5 * (rng.normal(size=(3000, 10)) + 3 * np.eye(10)[labels])


def test_the_temperature_is_the_most_likely_one(logits, labels):
    best = minimize_scalar(
        lambda t: log_loss(labels, softmax(logits / t)), bounds=(0.05, 20), method="bounded"
    )
    assert fit_temperature(logits, labels) == pytest.approx(best.x, rel=1e-3)


def test_a_calibrated_confidence_is_the_share_of_right_answers(logits, labels):
    probabilities = softmax(logits / fit_temperature(logits, labels))
    right = probabilities.argmax(1) == labels
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 1)):
        chosen = (probabilities.max(1) > low) & (probabilities.max(1) <= high)
        assert chosen.sum() > 50
        assert right[chosen].mean() == pytest.approx(probabilities.max(1)[chosen].mean(), abs=0.06)


def test_even_labels_that_are_never_missed_give_a_finite_temperature():
    logits = 30 * np.eye(10, dtype=np.float32)
    assert 0 < fit_temperature(logits, np.arange(10)) < 1


def test_thresholds_refuse_the_stated_shares():
    confidences = np.random.default_rng(0).random(10_000)
    by_rate = thresholds(confidences)
    assert list(map(float, by_rate)) == list(RATES)
    for rate in RATES:
        refused = (confidences < threshold(by_rate, rate)).mean()
        assert refused == pytest.approx(rate, abs=1e-4)


def test_between_two_rates_the_threshold_lies_between_theirs():
    by_rate = {"0.0": 0.0, "0.01": 0.4, "0.02": 0.6}
    assert threshold(by_rate, 0.015) == pytest.approx(0.5)
    assert threshold(by_rate, 0) == 0


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 2500),
    levels=st.sampled_from([1, 2, 5, 40, 10**6]),
    errors=st.sampled_from([0, 0.001, 0.004, 0.01, 0.02, 0.3, 1]),
)
@example(seed=0, n=1000, levels=1, errors=0.001)
@example(seed=0, n=1, levels=1, errors=1)
def test_no_lower_confidence_keeps_to_the_budget_of_errors(seed, n, levels, errors):
    """Against all confidences that occur, many of them more than once, in exact fractions."""
    rng = np.random.default_rng(seed)
    c = rng.integers(1, levels, n, endpoint=True) / levels
    right = rng.random(n) >= errors * 2 * (1 - c + 1 / levels)
    lowest = error_thresholds(c, right)
    assert list(lowest) == [str(budget) for budget in ERROR_BUDGETS]

    values, level = np.unique(c, return_inverse=True)
    read = np.cumsum(np.bincount(level)[::-1])[::-1]
    wrong = np.cumsum(np.bincount(level, ~right)[::-1])[::-1]
    for budget in map(str, ERROR_BUDGETS):
        within = [
            value
            for value, k, w in zip(values.tolist(), read.tolist(), wrong.tolist(), strict=True)
            if Fraction(int(w), k) <= Fraction(budget)
        ]
        expected = min(within, default=None)
        assert lowest[budget] == (0.0 if expected == values[0] else expected)


def test_a_budget_allows_everything_or_nothing_or_what_is_surer():
    """Two hundred answers, surer from one to the next."""
    c = np.linspace(0.1, 1, 200)
    allowed = {str(budget): 0.0 for budget in ERROR_BUDGETS}
    assert error_thresholds(c, c > 0) == allowed
    assert error_thresholds(c, c < 0) == dict.fromkeys(allowed)
    assert error_thresholds(c, c < 1) == allowed | {"0.001": None}
    assert error_thresholds(c, c > c[0]) == {"0.01": 0.0, "0.005": 0.0, "0.001": c[1]}
    assert error_thresholds(c, c > c[2]) == {"0.01": c[2], "0.005": c[3], "0.001": c[3]}
    assert error_thresholds(np.full(200, 0.7), c > c[0])["0.001"] is None
