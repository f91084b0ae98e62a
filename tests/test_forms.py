"""A form's description, where a page shows it, and what its fields hold."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import read_forms as composed
from PIL import Image

from nnpipe.classifier import Classifier
from nnpipe.errors import FormError
from nnpipe.forms.alignment import NOT_THIS_FORM
from nnpipe.forms.description import Field, parse_form
from nnpipe.forms.fields import Cut, prepared
from nnpipe.forms.frames import erase, has_walls
from nnpipe.forms.loading import load_form
from nnpipe.forms.reading import read_page
from nnpipe.numbers.constraints import wanted
from nnpipe.numbers.crosses import look
from nnpipe.numbers.ways import prepare
from nnpipe.preprocess.marks import NOTHING

from .conftest import SHARED

FORMS = Path(__file__).parent / "forms"
FIELD = '\n[[fields]]\nname = "a"\nbox = [10, 10, 20, 10]\n'
OTHER = '\n[[fields]]\nname = "b"\nbox = [10, 30, 20, 10]\n'
TOP = 'reference = "page.png"\n'


@pytest.fixture
def write(tmp_path):
    """Write a TOML file beside a page of 100 × 50 mm."""
    Image.new("L", (1000, 500), 255).save(tmp_path / "page.png", dpi=(254, 254))

    def written(text):
        (tmp_path / "form.toml").write_text(text, encoding="utf-8")
        return tmp_path / "form.toml"

    return written


def test_boxes_become_shares_of_the_page(write):
    """In millimetres by the reference's resolution or the page's size, or in per cent."""
    (field,) = parse_form(load_form(write(TOP + FIELD))).fields
    assert field.box == pytest.approx((0.1, 0.2, 0.2, 0.2), abs=1e-3)
    (field,) = parse_form(load_form(write(TOP + "page = [200, 100]\n" + FIELD))).fields
    assert field.box == pytest.approx((0.05, 0.1, 0.1, 0.1))
    (field,) = parse_form(load_form(write(TOP + 'unit = "%"\n' + FIELD))).fields
    assert field.box == pytest.approx((0.1, 0.1, 0.2, 0.1))


def test_a_loaded_form_needs_no_other_file(write, tmp_path):
    (tmp_path / "ids.csv").write_text("17\n23\n")
    content = load_form(write(TOP + FIELD + 'valid = "ids.csv"\n' + OTHER + "digits = 3"))
    for file in tmp_path.iterdir():
        file.unlink()
    first, second = parse_form(content).fields
    assert first.wanted.accepts("17")
    assert not first.wanted.accepts("18")
    assert (second.wanted.fewest, second.wanted.most) == (3, 3)
    assert Image.open(io.BytesIO(parse_form(content).reference)).size == (1000, 500)


def test_a_reference_may_be_a_page_of_a_file(write, tmp_path):
    pages = [Image.new("L", (80, 40 * n), 255) for n in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:], dpi=(50, 50))
    content = load_form(write('reference = "pages.tif#2"\n' + FIELD))
    assert Image.open(io.BytesIO(parse_form(content).reference)).size == (80, 80)


def test_names_in_checks_may_hold_spaces(write):
    text = TOP + FIELD.replace('"a"', '"votes of a"') + OTHER
    form = parse_form(load_form(write(text + '[[checks]]\nequal = ["votes of a", "b"]')))
    assert [(check.text, check.sides) for check in form.checks] == [
        ("votes of a = b", (("votes of a",), ("b",)))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reference = ", "is not TOML"),
        (".".join("a" * 100_000) + " = 1", "a key has more than 100 parts"),
        (TOP + FIELD + '[[checks]]\nequal = ["a", ""]', "names '', but there is no such field"),
        (TOP, "has no fields"),
        (FIELD, "has no reference"),
        ('reference = "none.png"' + FIELD, "'none.png': there is no such file"),
        ('reference = "form.toml"' + FIELD, "'form.toml': "),
        ('reference = "page.png#7"' + FIELD, "there is no page 7"),
        (TOP + 'unit = "inch"' + FIELD, "unit is 'inch'"),
        (TOP + "page = [0, 10]" + FIELD, "page is [0.0, 10.0]"),
        (TOP + "colour = 1" + FIELD, "there is no key 'colour'"),
        (TOP + FIELD + "digit = 3", "field 'a': there is no key 'digit'"),
        (TOP + FIELD + "digits = 99", "field 'a': digits is 99"),
        (TOP + FIELD + "digits = true", "field 'a': digits is True"),
        (TOP + FIELD + 'valid = "none.csv"', "none.csv is no file"),
        (TOP + FIELD + "check = 3", "put them in quotes"),
        (TOP + FIELD + FIELD, "two fields are named 'a'"),
        (TOP + FIELD + FIELD.replace('"a"', '"b"'), "'a' and 'b' overlap"),
        (TOP + FIELD.replace('"a"', '" "'), "field 1 has no name"),
        (TOP + FIELD.replace('name = "a"', ""), "field 1 has no name"),
        (TOP + FIELD.replace('"a"', '"a\\nb"'), "characters that can be printed"),
        (TOP + FIELD.replace('"a"', f'"{"a" * 101}"'), "1 to 100 characters"),
        (TOP + FIELD.replace("20, 10]", "95, 10]"), "lies outside the page"),
        (TOP + FIELD.replace("20, 10]", "-1, 10]"), "must be greater than 0"),
        (TOP + FIELD.replace("20, 10]", "nan, 10]"), "expected 4 numbers"),
        (TOP + FIELD.replace("20, 10]", "1e400, 10]"), "expected 4 numbers"),
        (TOP + FIELD.replace("box", "digits = 1 #"), "has no box"),
        (TOP + FIELD * 1001, "more than 1,000 fields"),
        (TOP + FIELD + '[[checks]]\nequal = ["a", "c"]', "names 'c', but there is no such field"),
        (TOP + FIELD + '[[checks]]\nequal = ["a"]', "a check has no sides"),
        (TOP + "fields = 3", "fields is no list of tables"),
        ("a = " + "[" * 5000, "is not TOML"),
    ],
)
def test_a_wrong_form_is_one_sentence_that_names_the_file(write, text, message):
    path = write(text)
    with pytest.raises(FormError) as error:
        load_form(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_boxes_in_millimetres_need_the_size_of_the_page(write, tmp_path):
    Image.new("L", (100, 50)).save(tmp_path / "page.png")
    with pytest.raises(FormError, match="add page = "):
        load_form(write(TOP + FIELD))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 9999, json.dumps({"reference": "?"}).encode()]
)
def test_a_damaged_kept_form_is_one_sentence(content):
    with pytest.raises(FormError, match="the kept form is damaged"):
        parse_form(content)


def test_lines_are_erased_and_strokes_remain():
    """A line that only one of the two shows is a stroke."""
    form = np.full((60, 120), 230, np.uint8)
    cv2.rectangle(form, (10, 10), (109, 49), 60, 2)
    cv2.line(form, (60, 10), (60, 49), 60, 2)
    page = form.copy()
    cv2.line(page, (30, 12), (30, 46), 20, 3)
    cv2.line(page, (50, 30), (70, 30), 20, 3)
    erased = erase(page, form, margin=10, cells=2)
    assert erased[20:40, 30].max() < 100
    assert erased[30, 52:68].max() < 100
    assert erased[20, 57:64].min() > 200
    assert erased[[10, 49], 20].min() > 200
    assert (erase(page, np.full_like(form, 230), margin=10, cells=2) == page).all()


def test_ticks_of_a_comb_are_erased_and_a_one_beside_them_remains():
    form = np.full((60, 140), 230, np.uint8)
    cv2.line(form, (10, 50), (129, 50), 60, 2)
    for x in (50, 90):
        cv2.line(form, (x, 36), (x, 50), 60, 2)
    page = form.copy()
    cv2.line(page, (70, 14), (70, 44), 20, 3)
    erased = erase(page, form, margin=10, cells=3, ticks=True)
    assert erased[38:48, 48:53].min() > 200
    assert erased[20:40, 70].max() < 100


def test_walls_between_boxes_are_seen_in_the_reference():
    row = np.full((60, 140), 230, np.uint8)
    cv2.rectangle(row, (10, 10), (129, 49), 60, 2)
    assert not has_walls(row, margin=10, cells=3)
    cv2.line(row, (50, 10), (50, 49), 60, 2)
    assert not has_walls(row, margin=10, cells=3)
    cv2.line(row, (90, 36), (90, 49), 60, 2)
    assert has_walls(row, margin=10, cells=3)


SIDE = 40


def row_of_boxes(text, digits):
    """Draw a digit, a cross, a dash, a diagonal or nothing into each box; the walls are erased."""
    rng = np.random.default_rng(7)
    row = np.full((SIDE, SIDE * len(text)), 225, np.uint8)
    ends = {
        "x": [(-9, -11, 9, 10), (10, -9, -9, 11)],
        "-": [(-8, 1, 8, -1)],
        "/": [(15, -18, -15, 18)],
    }
    for n, sign in enumerate(text):
        middle = n * SIDE + SIDE // 2
        for left, top, right, bottom in ends.get(sign, []):
            cv2.line(
                row, (middle + left, 20 + top), (middle + right, 20 + bottom), 40, 2, cv2.LINE_AA
            )
        if sign.isdigit():
            ink = digits.images[rng.choice(np.flatnonzero(digits.labels == int(sign)))]
            row[6:34, middle - 14 : middle + 14] -= (ink * 0.7).astype(np.uint8)
    return np.clip(row + rng.normal(0, 2, row.shape), 0, 255).astype(np.uint8)


def read_row(text, digits, **constraints):
    field = Field("a", (0, 0, 1, 1), wanted("1-3", **constraints))
    looked_for, number = prepared(Cut(row_of_boxes(text, digits), np.eye(3), walls=True), field)
    return Classifier.load().read_numbers([number], looked_for)[0]


@pytest.mark.parametrize("text", ["x92", "-92", "/92", "xx3", "--3", " 92", "x 5", "692"])
def test_leading_boxes_that_are_crossed_out_hold_no_digit(text, digits):
    number = read_row(text, digits)
    assert number.label == text.strip("x-/ ")
    struck = sum(map(text.count, "x-/"))
    assert ("crossed out" in number.reason) == bool(struck)


@pytest.mark.parametrize("text", ["xxx", "---"])
def test_a_field_whose_boxes_are_all_crossed_out_is_rejected(text, digits):
    number = read_row(text, digits)
    assert (number.status, number.label, number.reason) == ("rejected", None, "crossed out")


def test_no_digit_is_taken_for_a_cross(digits):
    for image in digits.images:
        row = np.full((SIDE, SIDE * 2), 225, np.uint8)
        row[6:34, 6:34] -= (image * 0.7).astype(np.uint8)
        assert "crossed out" not in look(row, cells=2).note


@pytest.mark.parametrize(
    "constraint", [{}, {"between": "10-400"}, {"valid": ["17", "23"]}, {"check": "luhn"}]
)
def test_an_empty_field_says_so_under_any_constraint(constraint, digits):
    """Even if there are specks."""
    for speck in (False, True):
        row = row_of_boxes("   ", digits)
        row[18:20, 30:32] -= 120 * speck
        field = Field("a", (0, 0, 1, 1), wanted("1-3", **constraint))
        looked_for, number = prepared(Cut(row, np.eye(3), walls=True), field)
        (read,) = Classifier.load().read_numbers([number], looked_for)
        assert (read.status, read.reason) == ("rejected", NOTHING)


def test_a_row_of_boxes_is_surer_than_the_same_digits_anywhere(digits):
    rows = [row_of_boxes(f"{n:03d}", digits) for n in range(107, 907, 80)]
    numbers = [
        Classifier.load().read_numbers([prepare(row, cells=cells) for row in rows], wanted(3))
        for cells in (0, 3)
    ]
    anywhere, boxed = ([n.confidence for n in some] for some in numbers)
    assert np.mean(boxed) > np.mean(anywhere)


def test_a_page_is_read_field_by_field(digits):
    rng = np.random.default_rng(4)
    sheet = composed.compose(rng, "text")
    page, truth = composed.filled(sheet, digits, rng)
    shown, _ = composed.seen(page, rng, turned=True)
    result = read_page(shown, sheet.form, classifier=Classifier.load())
    right = [n.label == label for n, label in zip(result.numbers, truth, strict=True)]
    assert np.mean(right) >= 0.8
    assert result.alignment > 0.5
    assert len(result.crops) == len(truth)
    assert {crop.dtype for crop in result.crops} == {np.dtype(np.uint8)}
    # The boxes of digits are in pixels of the page.
    number = next(n for n, yes in zip(result.numbers, right, strict=True) if yes)
    corners = result.corners[result.numbers.index(number)]
    middle = corners.mean(axis=0)
    for digit in number.digits:
        place = np.array([digit.left + digit.right, digit.top + digit.bottom]) / 2
        assert np.abs(place - middle).max() < np.ptp(corners, axis=0).max()


def test_fields_of_another_page_are_rejected_and_say_why(digits):
    rng = np.random.default_rng(4)
    form = composed.compose(rng, "text").form
    result = read_page(np.full((1000, 700), 255, np.uint8), form, classifier=Classifier.load())
    assert {(n.status, n.label, n.reason) for n in result.numbers} == {
        ("rejected", None, NOT_THIS_FORM)
    }
    assert (result.alignment, result.crops) == (0.0, [])


def shared(name, page):
    if not (SHARED / "forms-dev").is_dir():
        pytest.skip(f"needs {SHARED}/forms-dev")
    form = parse_form(load_form(FORMS / f"{name}.toml"))
    return read_page(SHARED / "forms-dev" / page, form, classifier=Classifier.load())


def test_a_sheet_that_lies_upside_down_is_read():
    result = shared("gradesheet", "pages-gradesheet/sheet0.jpg")
    truth = [
        "10",
        "03",
        "04",
        "10",
        "02",
        "03",
        "06",
        "07",
        "08",
        "09",
        "06",
        "05",
        "?",
        "09",
        "07",
    ]
    assert sum(n.label == t for n, t in zip(result.numbers, truth, strict=True)) >= 11


def test_a_photo_of_a_sheet_that_hangs_is_aligned():
    assert shared("election", "pages-election/form2.jpg").alignment > 0.5
    assert shared("election", "pages-election/form5.jpg").alignment == 0


def test_dashes_and_crosses_on_tally_sheets_are_no_digits():
    party = shared("election_party", "pages-election/form4.jpg").numbers
    assert [n.label for n in party] == ["12", "5", "8", "16", *[None] * 7, "41"]
    president = shared("election_president", "pages-election/form5.jpg").numbers
    assert [n.label for n in president][:5] == ["102", "102", "5", "204", "209"]


def test_pencil_on_a_card_is_read():
    result = shared("scorecard", "pages-scorecard/scorecard.jpg")
    truth = [
        "6",
        "5",
        "5",
        "4",
        "7",
        "6",
        "6",
        "5",
        "6",
        "7",
        "5",
        "6",
        "5",
        "9",
        "7",
        "4",
        "6",
        "7",
        "8",
        "4",
        "6",
        "4",
        "8",
        "8",
        "5",
        "5",
        "7",
        "6",
        "8",
        "5",
        "4",
        "10",
        "4",
        "3",
        "6",
        "6",
    ]
    assert sum(n.label == t for n, t in zip(result.numbers, truth, strict=True)) >= 27


def test_a_fax_is_read_whose_pixels_are_higher_than_wide(digits):
    """Places are in its own pixels."""
    rng = np.random.default_rng(3)
    sheet = composed.compose(rng, "text")
    page, truth = composed.filled(sheet, digits, rng)
    height, width = page.shape
    fax = Image.fromarray(page).resize((width, height // 2), Image.Resampling.BOX)
    stream = io.BytesIO()
    fax.save(stream, "PNG", dpi=(150, 75))
    result = read_page(stream.getvalue(), sheet.form, classifier=Classifier.load())
    assert sum(n.label == t for n, t in zip(result.numbers, truth, strict=True)) >= 15
    top_left = np.array(sheet.boxes)[:, :2] / [1, 2]
    np.testing.assert_allclose(result.corners[:, 0], top_left, atol=2)
