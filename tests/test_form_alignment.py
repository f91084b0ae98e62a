"""Where a page shows a form, whether it does, and which of its fields are in place."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import read_forms as composed

from nnpipe.forms.alignment import AMBIGUOUS, IN_PLACE, NOT_THIS_FORM, Aligner, Alignment
from nnpipe.forms.geometry import corners, is_sane, mapped


@pytest.fixture(scope="module")
def forms():
    """Return for each kind a form and its aligner."""
    sheets = {kind: composed.compose(np.random.default_rng(1), kind) for kind in composed.KINDS}
    return {kind: (sheet, Aligner(sheet.picture)) for kind, sheet in sheets.items()}


def boxes_of(sheet):
    """Return left, top, right and bottom of each field."""
    boxes = np.array(sheet.boxes)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def distances(boxes, place, truth):
    """Return for each field how far its corners are from the truth, in millimetres."""
    pairs = zip(boxes, place.fields, strict=True)
    apart = [mapped(corners(box), one) - mapped(corners(box), truth) for box, one in pairs]
    return np.abs(apart).max(axis=(1, 2)) / composed.MM


@pytest.mark.parametrize("kind", composed.KINDS)
@pytest.mark.parametrize("turned", [False, True])
def test_fields_are_found_within_half_a_millimetre(kind, turned, digits, forms):
    """On a page that is turned, scaled, and seen in perspective."""
    rng = np.random.default_rng(1)
    sheet, aligner = forms[kind]
    page, _ = composed.filled(sheet, digits, rng)
    shown, truth = composed.seen(page, rng, turned=turned)
    place = aligner.find(shown, boxes_of(sheet))
    assert isinstance(place, Alignment)
    assert distances(boxes_of(sheet), place, truth).max() < 0.5
    assert place.qualities.min() >= IN_PLACE


@pytest.mark.parametrize("turns", [1, 3])
def test_a_page_may_lie_on_its_side(turns, digits, forms):
    sheet, aligner = forms["bare"]
    page, _ = composed.filled(sheet, digits, np.random.default_rng(2))
    height, width = page.shape
    truth = np.array([[0, 1, 0], [-1, 0, width - 1], [0, 0, 1]])
    if turns == 3:
        truth = np.array([[0, -1, height - 1], [1, 0, 0], [0, 0, 1]])
    place = aligner.find(np.rot90(page, turns).copy(), boxes_of(sheet))
    assert distances(boxes_of(sheet), place, truth.astype(float)).max() < 0.2


def test_a_page_on_a_dark_rough_desk_is_found(digits, forms):
    """What lies around the paper is no print."""
    rng = np.random.default_rng(3)
    sheet, aligner = forms["bare"]
    page, _ = composed.filled(sheet, digits, rng)
    desk = rng.normal(60, 12, np.array(page.shape) + 200).clip(0, 255).astype(np.uint8)
    desk[100:-100, 100:-100] = page
    place = aligner.find(desk, boxes_of(sheet))
    truth = np.array([[1, 0, 100], [0, 1, 100], [0, 0, 1.0]])
    assert distances(boxes_of(sheet), place, truth).max() < 0.5


@pytest.mark.parametrize("kind", composed.FOREIGN)
def test_another_page_is_not_taken_for_the_form(kind, forms):
    rng = np.random.default_rng(2)
    sheet, aligner = forms["text"]
    page, _ = composed.seen(composed.foreign(kind, rng), rng, turned=False)
    assert aligner.find(page, boxes_of(sheet)) == NOT_THIS_FORM


def test_a_page_without_features_is_not_taken_for_the_form(forms):
    sheet, aligner = forms["text"]
    blank = np.full((300, 200), 255, np.uint8)
    empty = Aligner(blank)
    for one, shown in ((empty, sheet.picture), (empty, blank), (aligner, blank[:1, :1])):
        assert one.find(shown, np.zeros((1, 4))) == NOT_THIS_FORM


@pytest.mark.parametrize("kind", composed.KINDS)
def test_a_mirrored_page_is_not_taken_for_the_form(kind, forms):
    sheet, aligner = forms[kind]
    mirrored = np.ascontiguousarray(sheet.picture[:, ::-1])
    assert aligner.find(mirrored, boxes_of(sheet)) == NOT_THIS_FORM


def test_the_same_boxes_and_title_with_other_words_are_another_form(monkeypatch, forms):
    sheet, aligner = forms["text"]
    others, words = np.random.default_rng(6), composed.words

    def changed(rng, count):
        own = words(rng, count)
        return own if count == 4 else words(others, count)

    monkeypatch.setattr(composed, "words", changed)
    other = composed.compose(np.random.default_rng(1), "text")
    assert other.boxes == sheet.boxes
    assert aligner.find(other.picture, boxes_of(sheet)) == NOT_THIS_FORM


def test_no_field_is_in_place_where_another_edition_has_an_additional_row(digits, forms):
    """The title agrees, and so do the rows above."""
    rng = np.random.default_rng(7)
    sheet, aligner = forms["text"]
    page, _ = composed.filled(sheet, digits, rng)
    donor, _ = composed.filled(composed.compose(rng, "text"), digits, rng)
    boxes, pitch, first = boxes_of(sheet), round(24 * composed.MM), 16
    top = round(boxes[first, 1] - 6 * composed.MM)
    page = np.vstack([page[:top], donor[top : top + pitch], page[top:-pitch]])
    place = aligner.find(page, boxes)
    assert (place.qualities[:first] >= IN_PLACE).all()
    assert (place.qualities[first:] < IN_PLACE).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_field_that_is_covered_is_not_in_place_and_the_others_are(level, digits, forms):
    sheet, aligner = forms["text"]
    page, _ = composed.filled(sheet, digits, np.random.default_rng(8))
    left, top, right, bottom = boxes_of(sheet)[5].round().astype(int)
    page[top - 12 : bottom + 12, left - 12 : right + 12] = level
    place = aligner.find(page, boxes_of(sheet))
    assert np.flatnonzero(place.qualities < IN_PLACE).tolist() == [5]


def test_fields_that_are_cut_off_are_not_in_place_and_the_others_are(digits, forms):
    sheet, aligner = forms["text"]
    page, _ = composed.filled(sheet, digits, np.random.default_rng(9))
    boxes = boxes_of(sheet)
    place = aligner.find(page[: round(boxes[10, 1])], boxes)
    assert (place.qualities >= IN_PLACE).tolist() == [True] * 10 + [False] * 10


def test_handwriting_beside_the_fields_of_the_reference_is_not_expected_elsewhere(digits, forms):
    """The reference may be a filled page: nobody else writes the same."""
    rng = np.random.default_rng(10)
    sheet, _ = forms["text"]
    reference, page = (composed.filled(sheet, digits, rng)[0] for _ in range(2))
    for picture in (reference, page):
        for _, top, right, bottom in boxes_of(sheet).round().astype(int):
            place = int(right) + 12, int(top + bottom) // 2 + 12
            cv2.putText(picture, str(rng.integers(1000, 9999)), place, 0, 0.8, 60, 2)
    place = Aligner(reference).find(page, boxes_of(sheet))
    assert (place.qualities >= IN_PLACE).all()


def test_a_homography_is_sane_if_paper_can_be_seen_so():
    turned = np.array([[0, -1, 90], [1, 0, 0], [0, 0, 1.0]])
    assert is_sane(turned, (90, 60))
    assert not is_sane(np.diag([-1, 1, 1.0]), (90, 60))  # mirrored
    assert not is_sane(np.diag([1, 0.01, 1]), (90, 60))  # a sliver
    assert not is_sane(np.array([[1, 0, 0], [0, 1, 0], [-0.1, 0, 1]]), (90, 60))  # behind the eye
    assert not is_sane(np.full((3, 3), np.nan), (90, 60))


def test_corners_go_clockwise_from_the_upper_left():
    there = mapped(corners((1, 2, 3, 4)), np.array([[2, 0, 10], [0, 2, 20], [0, 0, 1.0]]))
    assert there.tolist() == [[12, 24], [16, 24], [16, 28], [12, 28]]


def grid(rows, columns=5):
    """Return a page with a table without words, and the boxes of its middle column."""
    page = np.full((1100, 850), 255, np.uint8)
    xs, ys = np.arange(columns + 1) * 120 + 120, np.arange(rows + 1) * 70 + 150
    for y in ys:
        cv2.line(page, (int(xs[0]), int(y)), (int(xs[-1]), int(y)), 0, 3)
    for x in xs:
        cv2.line(page, (int(x), int(ys[0])), (int(x), int(ys[-1])), 0, 3)
    middle = columns // 2
    boxes = [(xs[middle], top, xs[middle + 1], bottom) for top, bottom in pairwise(ys)]
    return page, np.array(boxes, float)


def test_a_form_that_looks_the_same_upside_down_is_never_guessed():
    page, boxes = grid(rows=10)
    written = page.copy()
    cv2.putText(written, "111", (390, 205), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 0, 3)
    for shown in (written, written[170:].copy(), np.rot90(written, 2).copy()):
        assert Aligner(page).find(shown, boxes) == AMBIGUOUS


def test_a_table_with_a_row_more_is_never_guessed():
    page, boxes = grid(rows=8)
    assert isinstance(Aligner(page).find(grid(rows=9)[0], boxes), str)


def test_one_mark_tells_top_from_bottom():
    page, boxes = grid(rows=10)
    cv2.putText(page, "Table of votes", (120, 120), cv2.FONT_HERSHEY_SIMPLEX, 1.5, 0, 4)
    place = Aligner(page).find(np.rot90(page, 2).copy(), boxes)
    assert isinstance(place, Alignment)
    assert mapped(corners(boxes[0]), place.fields[0])[0, 1] > 800
