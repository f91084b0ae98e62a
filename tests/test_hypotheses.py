"""The ways to understand a picture, and the choice among them."""

import sys

import numpy as np
import pytest
import ways
from PIL import Image, ImageDraw

from nnpipe import preprocess
from nnpipe.classifier import REFUSED, choose
from nnpipe.errors import PictureError
from nnpipe.preprocess import Candidate, lines

from .make_samples import SAMPLES, coverage, encoded, picture
from .seen import prepare
from .test_preprocess import difference

SIZE = WIDTH, HEIGHT = 120, 140


def boxed(label=None, frame=ways.box, *, around=6, tilt=0.0, width=2):
    """A digit, or nothing, within lines."""
    ink = np.zeros((HEIGHT, WIDTH))
    if label is not None:
        ink = np.asarray(coverage(label, SIZE, 70, (0.5, 0.5), 7), float) / 255
    drawn = ways.lines(ink.shape, frame(around, around, WIDTH - around, HEIGHT - around), width)
    return ways.dark(ways.turned(ink, tilt), ways.turned(drawn, tilt))


def upright(x, top, bottom, width=5, *others):
    """An upright line, and other layers."""
    return ways.dark(ways.lines((HEIGHT, WIDTH), [(x, top, x, bottom)], width), *others)


FRAMES = {
    "complete": {},
    "tilted": {"tilt": 2.5, "around": 12},
    "tilted back": {"tilt": -2.5, "around": 12},
    "dashed": {"frame": ways.dashed(8, 6)},
    "thick": {"width": 6},
    "thin": {"width": 1},
    "at the border": {"around": 1},
    "open above": {"frame": ways.sides(0, 1, 2)},
    "open to the left": {"frame": ways.sides(1, 2, 3)},
    "a corner below": {"frame": ways.sides(0, 1)},
    "a corner above": {"frame": ways.sides(2, 3)},
    "its left line": {"frame": ways.sides(0)},
    "its left line at the border": {"frame": ways.sides(0), "around": 2},
    "its bottom line": {"frame": ways.sides(1)},
    "a comb": {"frame": ways.comb},
    "a cell of a table": {"frame": ways.grid, "around": 12},
}


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_box_is_blank(name):
    assert prepare(boxed(**FRAMES[name])).refusal.startswith("blank")


@pytest.mark.parametrize("name", FRAMES)
def test_a_digit_in_a_box_is_shown_as_without_it(name):
    tilt = FRAMES[name].get("tilt", 0)
    for label in range(10):
        found = prepare(boxed(label, **FRAMES[name]))
        plain = prepare(boxed(label, lambda *corners: [], tilt=tilt))
        assert found.refusal == ""
        assert difference(plain, found) < 0.1


@pytest.mark.parametrize("width", [2, 4, 7])
@pytest.mark.parametrize(("top", "bottom"), [(30, 110), (8, 132)])
def test_a_lone_upright_line_in_the_middle_is_a_1(top, bottom, width):
    for x in (45, 60, 75):
        found = prepare(upright(x, top, bottom, width))
        assert found.refusal == ""
        assert np.ptp(np.flatnonzero(found.pixels.any(0))) < 7
        assert np.ptp(np.flatnonzero(found.pixels.any(1))) > 17


@pytest.mark.parametrize(("top", "bottom", "width"), [(35, 105, 5), (25, 115, 5), (35, 105, 3)])
def test_an_upright_line_inside_a_frame_may_be_a_1(top, bottom, width):
    frame = ways.lines((HEIGHT, WIDTH), ways.box(6, 6, WIDTH - 6, HEIGHT - 6), 2)
    alone = prepare(upright(60, top, bottom, width))
    found = prepare(upright(60, top, bottom, width, frame))
    assert found.refusal == ""
    assert difference(alone, found) < 0.1


@pytest.mark.parametrize("margin", [0, 1, 3])
def test_a_digit_cut_to_its_ink_is_shown_as_the_whole_picture(margin):
    for label in range(10):
        whole = picture(label).convert("L")
        left, top, right, bottom = whole.point(lambda level: 255 * (level < 128)).getbbox()
        found = prepare(whole.crop((left - margin, top - margin, right + margin, bottom + margin)))
        assert found.refusal == ""
        assert difference(prepare(whole), found) < 0.3


def test_each_picture_has_candidates_and_the_simplest_is_first():
    """Odds count from 1, and what shows no ink is refused."""
    images = [path for path in sorted(SAMPLES.iterdir()) if not path.name.startswith("broken")]
    images += [boxed(4, **frame) for frame in FRAMES.values()]
    images += [make(np.random.default_rng(0)) for make in ways.EMPTY.values()]
    several = 0
    for image in images:
        candidates = preprocess.prepare(image).candidates
        assert candidates[0].odds == 1
        several += len(candidates) > 1
        for candidate in candidates:
            assert candidate.name
            assert candidate.odds >= 1
            assert candidate.pixels.shape == (28, 28)
            assert candidate.pixels.dtype == np.uint8
            assert candidate.pixels.any() or candidate.refusal
    assert several > 5


# --- two digits, or one in two strokes --------------------------------------------------------


def side_by_side(left, right, gap):
    """Two digits 90 pixels high, and the gap between them in columns."""
    images = [picture(label).convert("L") for label in (left, right)]
    left, right = (i.crop(i.point(lambda level: 255 * (level < 250)).getbbox()) for i in images)
    sheet = Image.new("L", (left.width + gap + right.width + 40, 140), 255)
    sheet.paste(left, (20, 20))
    sheet.paste(right, (20 + left.width + gap, 20))
    return sheet


@pytest.mark.parametrize("gap", range(1, 7))
def test_two_digits_with_paper_between_them_are_refused(gap):
    """At least 17 of 20 pairs."""
    pairs = [(label, (label + step) % 10) for label in range(10) for step in (3, 7)]
    refused = [bool(prepare(side_by_side(*pair, gap)).refusal) for pair in pairs]
    assert sum(refused) >= 17, [pair for pair, no in zip(pairs, refused, strict=True) if not no]


STROKES = {
    4: [[(45, 25), (35, 80), (82, 80)], [(75, 30), (75, 115)]],
    5: [[(45, 40), (42, 70), (65, 65), (78, 85), (65, 110), (38, 108)], [(52, 30), (85, 30)]],
    7: [[(35, 30), (85, 30), (55, 115)], [(40, 75), (52, 75)]],
}


@pytest.mark.parametrize("label", STROKES)
@pytest.mark.parametrize("apart", [0, 4])
def test_a_digit_of_two_strokes_is_one(label, apart):
    """They may be a little apart."""
    sheet = Image.new("L", SIZE, 255)
    first, second = STROKES[label]
    if apart:
        second = [(x + (apart if label == 4 else 0), y - apart) for x, y in second]
    for stroke in (first, second):
        ImageDraw.Draw(sheet).line(stroke, 0, 8, joint="curve")
    assert prepare(sheet).refusal == ""


# --- large pages ------------------------------------------------------------------------------

PAGE = 3000, 2000


def page(label):
    """A large page with a digit of 20 pixels."""
    sheet = Image.new("L", PAGE, 255)
    sheet.paste(picture(label, (40, 40), 20, pen=2.5).convert("L"), (2100, 600))
    return sheet


def turned_by_exif(sheet):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(sheet.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


FILES = {
    "PNG": lambda sheet: encoded(sheet, "PNG", compress_level=1),
    "JPEG": lambda sheet: encoded(sheet, "JPEG", quality=90),
    "JPEG turned by EXIF": turned_by_exif,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_digit_of_20_pixels_is_found_on_a_large_page(kind):
    plain = [prepare(picture(label, (40, 40), 20, pen=2.5)) for label in range(10)]
    for label in range(10):
        found = prepare(FILES[kind](page(label)))
        assert found.refusal == ""
        assert (found.width, found.height) == PAGE
        assert int(np.argmin([difference(found, digit) for digit in plain])) == label


@pytest.mark.parametrize("count", [1, 3, 10, 60])
def test_a_large_page_with_nothing_but_specks_is_blank(count):
    specks = ways.specks(PAGE[::-1], np.random.default_rng(count), count, 2)
    assert prepare(ways.dark(specks)).refusal.startswith(("blank", "like a text"))


@pytest.mark.parametrize("seed", range(5))
def test_a_sheet_half_in_shadow_is_no_digit(seed):
    assert prepare(ways.EMPTY["nothing with half in shadow"](np.random.default_rng(seed))).refusal


# --- the choice -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "chosen"),
    [
        # For each candidate: its odds, its confidence, and whether it is refused.
        ([(1, 0.2)], 0),
        ([(1, 0.2, True)], 0),
        ([(1, 0.9), (1, 0.95)], 1),  # the more confident one
        ([(1, 0.9), (2, 0.9)], 0),  # the likelier one
        ([(1, 0.9), (2, 0.96)], 1),  # half of the doubt outweighs the odds
        ([(1, 0.9), (4, 0.96)], 0),
        ([(1, 1), (2, 1)], 0),  # both sure: the likelier one
        ([(1, 0.9999), (2, 1)], 0),  # nearly as sure
        ([(1, 0.9), (1, 0.9)], 0),
        ([(1, 1, True), (1, 0.3)], 0),  # a refusal, unless another one is sure enough
        ([(1, 1, True), (1, 0.7)], 1),
        ([(1, 1, True), (40, 0.98)], 0),
        ([(1, 1, True), (40, 0.999)], 1),
        ([(1, 1, True), (3, 0.7), (2, 0.95)], 2),
        ([(1, 0.1), (2, 1, True)], 0),  # a refusal is no alternative
    ],
)
def test_the_candidate_that_leaves_the_least_doubt_is_chosen(candidates, chosen):
    pixels = np.zeros((28, 28), np.uint8)
    confidences = [confidence for _, confidence, *_ in candidates]
    seen = [
        Candidate("", pixels, "several marks" if refused else "", odds)
        for odds, _, *refused in candidates
    ]
    assert choose(seen, confidences) == chosen


def test_a_refusal_weighs_as_much_as_half_a_doubt():
    pixels = np.zeros((28, 28), np.uint8)
    refusal, other = Candidate("", pixels, "blank"), Candidate("", pixels)
    assert choose([refusal, other], [0.1, 1 - REFUSED - 0.01]) == 0
    assert choose([refusal, other], [0.1, 1 - REFUSED + 0.01]) == 1


# --- lines ------------------------------------------------------------------------------------


def ruled(y, slope=0.0, width=2, shape=(HEIGHT, WIDTH), vertical=False):
    """A mask of one line from border to border; ``y`` is its upper edge in the first column."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    away = rows - np.round(y + slope * columns)
    mask = ((away >= 0) & (away < width)).astype(np.uint8)
    return np.ascontiguousarray(mask.T) if vertical else mask


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("slope", [-0.08, -0.03, 0.0, 0.05])
@pytest.mark.parametrize(("y", "width"), [(12, 1), (20, 3), (112, 2), (118, 5)])
def test_a_line_is_found_where_it_was_drawn(y, width, slope, vertical):
    (line,) = lines.find(ruled(y, slope, width, vertical=vertical))
    columns = np.arange(WIDTH)
    assert line.vertical == vertical
    assert line.side == (-1 if y < 70 else 1)
    assert line.width == pytest.approx(width, abs=1)
    np.testing.assert_allclose(line.rows(columns), y + slope * columns, atol=1)
    assert (line.first, line.last) == (pytest.approx(0, abs=2), pytest.approx(WIDTH, abs=2))
    assert line.through
    assert line.long


def test_a_digit_has_no_lines_and_a_box_has_four():
    def found(image):
        return lines.find((np.asarray(image.convert("L")) < 128).astype(np.uint8))

    assert [found(boxed(label, lambda *corners: [])) for label in (0, 2, 3, 6, 8)] == [[]] * 5
    four = found(boxed())
    assert {(line.vertical, line.side) for line in four} == {
        (vertical, side) for vertical in (False, True) for side in (-1, 1)
    }
    assert lines.make_a_frame(four)
    assert not lines.make_a_frame(four[:2])


def test_a_stroke_that_crosses_a_rule_stays_whole_and_the_rule_goes():
    rule = ruled(70, 0.02, 2)
    stroke = np.zeros_like(rule)
    stroke[20:120, 57:63] = 1
    found = lines.find(rule | stroke)
    rest = lines.remove(np.uint8(255) * (rule | stroke), found) > 0
    assert [(line.vertical, line.side) for line in found] == [(False, 0)]
    assert rest[stroke > 0].all()
    assert not rest[:, :50].any()
    assert not rest[:, 70:].any()


def test_what_lies_beyond_the_line_of_a_frame_goes_with_it():
    mask = ruled(20, 0.0, 2)
    mask[5:15, 30:60] = mask[60:90, 40:70] = 1
    rest = lines.remove(np.uint8(255) * mask, lines.find(mask))
    assert not rest[:25].any()
    assert (rest[60:90, 40:70] == 255).all()


@pytest.mark.parametrize("frame", ["tilted by 8°", "tilted by 12°", "round"])
def test_a_digit_in_a_frame_of_any_shape_is_read_without_it(frame):
    for label in range(10):
        sheet = Image.new("L", (180, 200), 250)
        if frame == "round":
            ImageDraw.Draw(sheet).ellipse((25, 35, 155, 165), outline=30, width=3)
        else:
            ImageDraw.Draw(sheet).rectangle((40, 40, 140, 160), outline=30, width=3)
            sheet = sheet.rotate(
                int(frame.split()[-1][:-1]), Image.Resampling.BICUBIC, fillcolor=250
            )
        ink = coverage(label, sheet.size, 60, (0.5, 0.5), 7)
        sheet.paste(30, (0, 0), ink)
        plain = Image.new("L", sheet.size, 250)
        plain.paste(30, (0, 0), ink)
        found = prepare(sheet)
        assert found.refusal == ""
        assert difference(prepare(plain), found) < 0.35


def cells(*labels):
    """Cells side by side, each with a digit or without."""
    sheet = Image.new("L", (WIDTH * len(labels) + 20, HEIGHT + 20), 250)
    for place, label in enumerate(labels):
        if label is not None:
            ink = coverage(label, SIZE, 70, (0.5, 0.5), 7)
            sheet.paste(30, (10 + place * WIDTH, 10), ink)
        left = 10 + place * WIDTH
        ImageDraw.Draw(sheet).rectangle((left, 10, left + WIDTH, 10 + HEIGHT), outline=30, width=3)
    return sheet


def test_the_line_between_two_cells_is_no_1():
    assert prepare(cells(None, None)).refusal.startswith("blank")
    assert prepare(cells(None, None, None)).refusal.startswith("blank")
    for label in (0, 3, 4, 7):
        for row in ((label, None), (None, label), (None, label, None)):
            assert (
                difference(prepare(boxed(label, lambda *corners: [])), prepare(cells(*row))) < 0.4
            )
    assert prepare(cells(4, 7)).refusal == "several marks; expected one digit"


@pytest.mark.parametrize("grain", [0, 2])
def test_a_faint_small_digit_on_a_large_page_is_no_blank(grain):
    page = np.full((2000, 3000), 250.0)
    ink = np.asarray(coverage(3, (30, 30), 24, (0.5, 0.5), 3), float) / 255
    page[900:930, 2100:2130] -= 160 * ink
    page += np.random.default_rng(0).normal(0, grain, page.shape)
    assert prepare(page.clip(0, 255).astype(np.uint8)).refusal == ""


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_a_dark_edge_is_no_1(share):
    for side in (np.s_[:, : int(200 * share)], np.s_[:, -int(200 * share) :]):
        scan = np.full((200, 200), 250, np.uint8)
        scan[side] = 30
        assert prepare(scan).refusal


def test_without_opencv_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nnpipe.preprocess.hypotheses", None)
    monkeypatch.delattr(preprocess, "hypotheses", raising=False)
    with pytest.raises(
        PictureError, match=r"needs OpenCV, which .*; pip install opencv-python-hea"
    ):
        prepare(SAMPLES / "3-dark-on-light.png")
    assert not prepare(SAMPLES / "3-mnist-like.png").refusal
