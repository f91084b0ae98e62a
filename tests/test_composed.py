from functools import partial

import numpy as np
import pytest

from nnpipe.datasets import composed
from nnpipe.errors import DatasetError, ProcessError
from nnpipe.preprocess import as_inputs


@pytest.fixture(scope="module")
def compose(small_dataset):
    return partial(composed.compose, small_dataset.training)


@pytest.fixture(scope="module")
def numbers(compose):
    return compose(np.random.default_rng(0), count=150)


def test_every_kind_is_composed(numbers):
    assert {number.kind for number in numbers} == set(composed.KINDS)


def test_a_number_has_a_label_a_picture_and_a_box_for_each_digit(numbers):
    assert {len(number.label) for number in numbers} == set(range(2, 11))
    for number in numbers:
        assert number.picture.dtype == np.uint8
        assert number.picture.ndim == 2
        assert number.label.isdecimal()
        assert len(number.digits) == len(number.boxes) == len(number.label)
        assert {digit.shape for digit in number.digits} == {(28, 28)}
        assert number.boxes.dtype == np.float32


def test_only_marked_numbers_have_separators(numbers):
    for number in numbers:
        assert "".join(filter(str.isdecimal, number.spelled)) == number.label
        assert number.spelled[0].isdecimal()
        assert number.spelled[-1].isdecimal()
    separated = {number.kind for number in numbers if number.spelled != number.label}
    assert separated == {"marked"}


def test_boxes_hold_the_ink(numbers):
    """A box is in its picture. On plain paper there is much contrast in a box, and none outside."""
    inside, outside = [], []
    for number in numbers:
        height, width = number.picture.shape
        left, top, right, bottom = number.boxes.T
        assert (left >= 0).all()
        assert (top >= 0).all()
        assert (right <= width).all()
        assert (bottom <= height).all()
        assert (left < right).all()
        assert (top < bottom).all()
        assert (np.diff((left + right) / 2) > 0).all()
        if number.kind not in ("apart", "close", "touching"):
            continue
        away = np.ones(number.picture.shape, bool)
        for x, y, right, bottom in number.boxes.astype(int):
            inside.append(np.ptp(number.picture[y:bottom, x:right].astype(int)))
            away[max(y - 2, 0) : bottom + 2, max(x - 2, 0) : right + 2] = False
        if away.any():
            outside.append(number.picture[away].std())
    assert np.quantile(inside, 0.05) > 40
    assert np.median(outside) < 8


def test_digits_apart_have_boxes_apart(compose):
    for number in compose(np.random.default_rng(1), count=20, kind="apart"):
        assert (number.boxes[1:, 0] - number.boxes[:-1, 2] >= 1).all()


def test_the_length_can_be_chosen(compose):
    numbers = compose(np.random.default_rng(2), count=30, length=(1, 1))
    assert {len(number.label) for number in numbers} == {1}
    numbers = compose(np.random.default_rng(2), count=3, length=(25, 25))
    assert {len(number.label) for number in numbers} == {25}


def test_a_perfect_cut_shows_the_digit(compose, small_dataset):
    """Most of them are nearest to a digit with the same label."""
    known = as_inputs(small_dataset.training.images)
    numbers = compose(np.random.default_rng(3), count=60)
    digits = as_inputs(np.concatenate([number.digits for number in numbers]))
    labels = [int(digit) for number in numbers for digit in number.label]
    nearest = ((known**2).sum(axis=1) - 2 * digits @ known.T).argmin(axis=1)
    assert (small_dataset.training.labels[nearest] == labels).mean() > 0.7


def test_digits_of_other_countries_are_composed(compose, monkeypatch):
    monkeypatch.setattr(composed, "SHARE_DRAWN", 1)
    own = compose(np.random.default_rng(4), count=3)
    monkeypatch.setattr(composed, "SHARE_DRAWN", 0)
    others = compose(np.random.default_rng(4), count=3)
    for a, b in zip(own, others, strict=True):
        assert a.label == b.label
        assert not np.array_equal(a.digits, b.digits)


def test_the_same_seed_gives_the_same_numbers_in_any_number_of_processes(compose, monkeypatch):
    calls = [compose(np.random.default_rng(5), count=6)]
    monkeypatch.setattr(composed, "BATCH", 3)
    monkeypatch.setattr(composed, "over", lambda function, items, **limits: map(function, items))
    calls.append(compose(np.random.default_rng(5), count=6))
    for a, b in zip(*calls, strict=True):
        assert np.array_equal(a.picture, b.picture)
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.digits, b.digits)
        assert (a.spelled, a.kind) == (b.spelled, b.kind)


def test_a_process_that_crashes_is_an_error(compose, monkeypatch):
    monkeypatch.setattr(composed, "BATCH", 3)
    monkeypatch.setattr(composed, "over", lambda *_, **limits: [ProcessError("SIGKILL")])
    with pytest.raises(DatasetError, match="more memory"):
        compose(np.random.default_rng(6), count=6)
