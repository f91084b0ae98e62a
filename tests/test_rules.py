"""Printed lines around numbers are told from strokes; an empty form is no number."""

import cv2
import numpy as np
import pytest
import ways as presented

from nnpipe.datasets import composed
from nnpipe.numbers import rules

from .seen import champion

HIGH, PITCH, PEN = 40, 48, 3  # pixels: the height of digits, the width of a box, and the strokes


def boxes(count, *, gap=0, top=20, bottom=80):
    """The corners of boxes in a row, (left, top), (right, bottom)."""
    lefts = [10 + number * (PITCH + gap) for number in range(count)]
    return [((left, top), (left + PITCH, bottom)) for left in lefts]


def blank(width=420, height=100):
    return np.zeros((height, width), np.uint8)


def zeros(ink, count, *, gap=0):
    """Write a 0 into each box."""
    for (left, top), (right, bottom) in boxes(count, gap=gap):
        middle = (left + right) // 2, (top + bottom) // 2
        cv2.ellipse(ink, middle, (12, HIGH // 2), 0, 0, 360, 1, PEN)
    return ink


def tilted(ink, degrees):
    matrix = cv2.getRotationMatrix2D((ink.shape[1] / 2, ink.shape[0] / 2), degrees, 1)
    return (cv2.warpAffine(ink * 255, matrix, ink.shape[::-1]) > 127).view(np.uint8)


def without_rules(ink):
    found = rules.find(rules.straight(ink, high=HIGH))
    return rules.erase(ink * 255, found) > 0


def frames(kind):
    """Printed lines for six digits."""
    ink = blank()
    gap = 6 if kind == "boxes apart" else 3 if kind == "double lines" else 0
    for number, (upper, lower) in enumerate(boxes(6, gap=gap)):
        if kind in ("boxes", "boxes apart", "double lines"):
            cv2.rectangle(ink, upper, lower, 1, 1)
        elif kind == "comb":
            left, low = upper[0], lower[1]
            cv2.line(ink, (left, low), (left + PITCH, low), 1, 1)
            cv2.line(ink, (left, low - 22), (left, low), 1, 1)
        elif kind == "underlines":
            cv2.line(ink, (upper[0] + 4, lower[1]), (lower[0] - 4, lower[1]), 1, 2)
        elif kind == "one long box" and not number:
            cv2.rectangle(ink, upper, (10 + 6 * PITCH, lower[1]), 1, 2)
    return ink, gap


@pytest.mark.parametrize("degrees", [0, 1.5, -3])
@pytest.mark.parametrize(
    "kind", ["boxes", "boxes apart", "double lines", "comb", "underlines", "one long box"]
)
def test_printed_lines_go_and_the_digits_stay(kind, degrees):
    """Nine tenths of both: where a line meets a stroke, pixels belong to either."""
    ink, gap = frames(kind)
    lines, digits = tilted(ink, degrees), tilted(zeros(blank(), 6, gap=gap), degrees)
    left = without_rules(lines | digits)
    assert left[digits > 0].mean() > 0.9
    assert left[(lines > 0) & (digits == 0)].mean() < 0.1


def test_numbers_on_plain_paper_hold_no_printed_lines(small_dataset):
    rng = np.random.default_rng(0)
    numbers = composed.compose(small_dataset.training, rng, count=100, kind="apart")
    found = []
    for number in numbers:
        picture = number.picture
        paper = np.median(picture)
        ink = np.abs(picture.astype(float) - paper) > 0.5 * np.abs(picture - paper).max()
        high = float(np.median(number.boxes[:, 3] - number.boxes[:, 1]))
        found.append(bool(rules.find(rules.straight(ink.view(np.uint8), high=high))))
    assert np.mean(found) < 0.1


def test_a_pattern_holds_no_printed_lines():
    squares = np.kron(np.indices((60, 60)).sum(axis=0) % 2, np.ones((8, 8))).astype(np.uint8)
    assert len(rules.straight(squares, high=10).level) < 2 * rules.MANY


def test_an_empty_form_is_no_number():
    """Not even with a list of numbers, or a length."""
    reader, read = champion(), []
    for make in presented.EMPTY.values():
        rng = np.random.default_rng(0)
        read += [reader.read(make(rng), digits="any") for _ in range(4)]
    sure = [number for number in read if number.status == "ok" and number.confidence > 0.5]
    assert len(sure) < 0.04 * len(read)
    assert np.mean([number.status == "ok" for number in read]) < 0.15


@pytest.mark.parametrize("digits", ["any", 1])
def test_a_number_of_one_digit_is_read_as_a_digit_alone_is(digits, scribbles):
    reader = champion()
    for picture in scribbles:
        number, alone = reader.read(picture, digits=digits), reader.read(picture)
        if number.status == "ok" and len(number.label) == 1:
            wide = np.ptp(np.nonzero(picture < 128)[1]) > 1.5 * np.ptp(np.nonzero(picture < 128)[0])
            assert number.label == str(alone.label) or wide


@pytest.fixture(scope="module")
def scribbles():
    rng = np.random.default_rng(1)
    pictures = []
    for _ in range(40):
        ink = np.full((60, 60), 255, np.uint8)
        points = rng.integers(8, 52, (rng.integers(2, 6), 2)).astype(np.int32)
        cv2.polylines(ink, [points], bool(rng.integers(2)), 0, 3)
        pictures.append(ink)
    return pictures


@pytest.mark.parametrize("count", [2, 3])
def test_upright_strokes_are_ones(count):
    picture = np.full((120, 200), 255, np.uint8)
    for left in range(50, 50 + 40 * count, 40):
        cv2.line(picture, (left, 30), (left, 95), 0, 5, cv2.LINE_AA)
    assert champion().read(picture, digits="any").label == count * "1"


@pytest.mark.parametrize("kind", ["boxes", "boxes apart", "comb", "one long box"])
@pytest.mark.parametrize("degrees", [0.5, 1, 2, 4])
def test_an_empty_form_is_no_number_if_it_is_tilted(kind, degrees):
    form = 255 - 200 * tilted(frames(kind)[0], degrees)
    for digits in ("any", 6):
        number = champion().read(form, digits=digits)
        assert number.status == "rejected" or number.confidence < 0.5


def test_a_page_of_dots_takes_little_memory_and_no_number():
    page = np.full((1000, 1000), 255, np.uint8)
    page[::8, ::8] = page[1::8, ::8] = page[::8, 1::8] = 0
    assert champion().read(page, digits="any").status == "rejected"


def test_a_strip_of_few_rows_is_rejected():
    for shape in ((2, 500), (1, 300), (500, 2)):
        strip = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        assert champion().read(strip, digits="any").status == "rejected"


@pytest.mark.parametrize("slope", [0, 0.05])
def test_a_number_crossed_out_is_no_number(small_dataset, slope):
    """Few of them are read all the same, and hardly any surely."""
    rng = np.random.default_rng(0)
    numbers = composed.compose(small_dataset.training, rng, count=100, length=(3, 7), kind="apart")
    read = []
    for number in numbers:
        picture, boxes = number.picture.copy(), number.boxes
        if np.median(boxes[:, 3] - boxes[:, 1]) < 25:
            continue
        middle, left, right = boxes[:, 1::2].mean(), boxes[0, 0] - 4, boxes[-1, 2] + 4
        ink = int(picture.min() if np.median(picture) > 127 else picture.max())
        up = slope * (right - left) / 2
        ends = [(round(x), round(y)) for x, y in ((left, middle + up), (right, middle - up))]
        cv2.line(picture, *np.array(ends, int).tolist(), ink, 3, cv2.LINE_AA)
        read.append(champion().read(picture, digits="any"))
    assert np.mean([one.status == "ok" for one in read]) < 0.3
    assert np.mean([one.status == "ok" and one.confidence > 0.5 for one in read]) < 0.1
