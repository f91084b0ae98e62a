import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from nnpipe.calibration import RATES, fit_temperature, threshold, thresholds
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
    kept = thresholds(confidences)
    assert list(map(float, kept)) == list(RATES)
    for rate in RATES:
        refused = (confidences < threshold(kept, rate)).mean()
        assert refused == pytest.approx(rate, abs=1e-4)


def test_between_two_rates_the_threshold_lies_between_theirs():
    kept = {"0.0": 0.0, "0.01": 0.4, "0.02": 0.6}
    assert threshold(kept, 0.015) == pytest.approx(0.5)
    assert threshold(kept, 0) == 0
