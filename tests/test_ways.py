"""One digit presented in many ways is read as the same digit, and what shows none is rejected.

The digits are MNIST's validation digits, or drawn ones where MNIST is not there. The champion reads
each of them as it is, so that only the way it is presented can make a difference.
"""

from functools import cache

import numpy as np
import pytest
import ways

from nnpipe import datasets
from nnpipe.datasets import drawn

from .seen import champion

EACH, EMPTY = 10, 50  # pictures of each way, with a digit and without

HARD = {"paper with a hair and dust"}  # a curved hair may look like a 1


@pytest.fixture(scope="module")
def digits(request):
    """Images and labels, in random order."""
    rng = np.random.default_rng(0)
    try:
        validation = datasets.load("mnist", request.getfixturevalue("mnist_data")).validation
    except pytest.skip.Exception:
        labels = rng.permutation(np.arange(1000) % 10)
        images = drawn.draw(labels, rng)
    else:
        some = rng.permutation(len(validation.labels))[:1000]
        images, labels = validation.images[some], validation.labels[some]
    right = champion().probabilities(images).argmax(axis=1) == labels
    return images[right], labels[right]


@pytest.fixture(scope="module")
def accuracy(digits):
    """Returns the share of digits that are read right in a way."""
    images, labels = digits

    @cache
    def measure(name):
        number = list(ways.WAYS).index(name)
        rng = np.random.default_rng(number)
        chosen = np.arange(EACH * number, EACH * (number + 1)) % len(labels)
        readings = champion().read_many([ways.WAYS[name](images[i], rng) for i in chosen])
        return np.mean([r.label == labels[i] for r, i in zip(readings, chosen, strict=True)])

    return measure


@pytest.mark.parametrize("name", ways.WAYS)
def test_most_digits_are_read_in_each_way(accuracy, name):
    assert accuracy(name) >= 0.7


def test_nearly_all_digits_are_read_whatever_the_way(accuracy):
    """After the test above, it only adds up."""
    assert np.mean([accuracy(name) for name in ways.WAYS]) >= 0.95


@pytest.mark.parametrize("name", [name for name in ways.EMPTY if name not in HARD])
def test_a_picture_without_a_digit_is_rejected(name):
    pictures = [ways.EMPTY[name](np.random.default_rng(seed)) for seed in range(EMPTY)]
    assert np.mean([r.status == "rejected" for r in champion().read_many(pictures)]) >= 0.8


@pytest.mark.parametrize("gap", [1, 2, 4])
def test_two_digits_are_rejected(digits, gap):
    """The gap is in pixels of MNIST's."""
    images, _ = digits
    rng = np.random.default_rng(0)
    pairs = [ways.pair(*images[[2 * i, 2 * i + 1]], gap, rng) for i in range(4 * EACH)]
    assert np.mean([r.status == "rejected" for r in champion().read_many(pairs)]) >= 0.85


@pytest.mark.slow
def test_nothing_but_the_seed_decides_on_a_picture(digits):
    """So that the figures of two versions are of the same pictures."""
    images, _ = digits
    for way in ways.WAYS.values():
        first, second = (np.asarray(way(images[0], np.random.default_rng(0))) for _ in range(2))
        np.testing.assert_array_equal(first, second)
