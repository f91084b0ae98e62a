"""Fields are proposed from printed boxes, combs and tables; text and labels are none."""

import tomllib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from nnpipe import cli
from nnpipe.datasets import drawn
from nnpipe.forms.description import parse_form
from nnpipe.forms.finding import find_fields, page_size
from nnpipe.forms.loading import load_form
from nnpipe.forms.making import propose
from nnpipe.pages import Page
from tests.conftest import SHARED

MM = 300 / 25.4  # pixels per millimetre
SIZE = 210.0, 297.0


class Paper:
    """A page of A4 at 300 dpi to draw a form on; lengths are in millimetres."""

    def __init__(self):
        self.image = Image.new("L", (round(SIZE[0] * MM), round(SIZE[1] * MM)), 255)
        self.pen = ImageDraw.Draw(self.image)

    def line(self, *points, width=0.35):
        self.pen.line([(x * MM, y * MM) for x, y in points], 0, round(width * MM))

    def text(self, x, y, text, high=4.0):
        self.pen.text((x * MM, y * MM), text, 0, font=ImageFont.load_default(high * MM))

    def boxes(self, x, y, count, *, wide=6.0, high=8.0, gap=0.0):
        for left in (x + n * (wide + gap) for n in range(count)):
            right, low = left + wide, y + high
            self.line((left, y), (right, y), (right, low), (left, low), (left, y))

    def comb(self, x, y, count, *, pitch=6.0, high=3.0):
        self.line((x, y), (x + count * pitch, y))
        for n in range(count + 1):
            self.line((x + n * pitch, y - high), (x + n * pitch, y))

    def table(self, x, y, widths, heights):
        ends = x + sum(widths), y + sum(heights)
        for left in np.cumsum([x, *widths]):
            self.line((left, y), (left, ends[1]))
        for top in np.cumsum([y, *heights]):
            self.line((x, top), (ends[0], top))

    def digit(self, x, y, digit, high=6.0):
        ink = drawn.draw(np.array([digit]), np.random.default_rng(digit)).reshape(28, 28)
        side = round(high * MM)
        mask = Image.fromarray(ink).resize((side, side))
        self.image.paste(0, (round(x * MM), round(y * MM)), mask)


def sheet(*, filled=False):
    """A form with a title, boxes, a comb, a single box, check boxes and a table."""
    paper = Paper()
    paper.text(20, 15, "Tally of votes, polling station", 7)
    for row, text in enumerate(("Any mark outside the boxes is ignored.", "Use a black pen.")):
        paper.text(20, 28 + 6 * row, text)
    paper.text(20, 51, "Votes A")
    paper.boxes(60, 50, 3)
    paper.text(20, 66, "Votes B")
    paper.boxes(60, 65, 3, gap=1.0)
    paper.text(110, 51, "Amount")
    paper.boxes(140, 50, 1, wide=40, high=10)
    paper.text(20, 91, "Member")
    paper.comb(60, 97, 7)
    for n in range(3):
        paper.boxes(20 + 30 * n, 110, 1, wide=4, high=4)
        paper.text(26 + 30 * n, 109.5, "yes")
    paper.table(20, 130, [40, 20, 20, 20], [8, 10, 10])
    for column, text in enumerate(("Name", "May", "June", "July")):
        paper.text(22 + [0, 40, 60, 80][column], 132, text, 3)
    for row in range(2):
        paper.text(22, 141 + 10 * row, f"Candidate number {row + 1}", 3)
    if filled:
        for n in range(3):
            paper.digit(60.7 + 6 * n, 51.5, 4 + n, 5)
            paper.digit(61 + 20 * n, 140, n)
            paper.digit(68 + 20 * n, 150, 9 - n)
    return paper.image


# Left, top, width and height in millimetres, and digits.
FIELDS = [
    (60, 50, 18, 8, "3"),
    (140, 50, 40, 10, "any"),
    (60, 65, 20, 8, "3"),
    (60, 89.2, 42, 7.8, "7"),
    *[(60 + 20 * c, 138 + 10 * r, 20, 10, "any") for r in range(2) for c in range(3)],
]
NAMES = ["r1c1", "r1c2", "r2c1", "r3c1", "r4c1", "r4c2", "r4c3", "r5c1", "r5c2", "r5c3"]


def assert_proposed(fields, matrix=None):
    """All fields of the sheet are proposed, in their places, and nothing else is."""
    assert [(one.name, one.digits) for one in fields] == [
        (name, field[4]) for name, field in zip(NAMES, FIELDS, strict=True)
    ]
    for one, (left, top, width, height, _) in zip(fields, FIELDS, strict=True):
        middle = np.array([left + width / 2, top + height / 2, 1])
        if matrix is not None:
            middle[:2] = matrix @ middle
        x, y, w, h = one.box * np.array([*SIZE, *SIZE])
        np.testing.assert_allclose([x + w / 2, y + h / 2], middle[:2], atol=0.8)
        tilt = 0 if matrix is None else abs(matrix[0, 1]) * width
        np.testing.assert_allclose([w, h], [width, height], atol=0.8 + tilt)


@pytest.mark.parametrize("filled", [False, True])
def test_boxes_combs_and_cells_are_fields_and_labels_are_not(filled):
    assert_proposed(find_fields(np.asarray(sheet(filled=filled)), size=SIZE))


def test_a_page_without_a_resolution_is_taken_for_a4():
    assert_proposed(find_fields(np.asarray(sheet().reduce(2))))


@pytest.mark.parametrize("degrees", [-2, 1, 3])
def test_a_scan_may_be_tilted_noisy_and_dark(degrees):
    page = sheet(filled=True)
    about = cv2.getRotationMatrix2D((SIZE[0] / 2, SIZE[1] / 2), degrees, 1)
    pixels = about.copy()
    pixels[:, 2] *= MM
    levels = cv2.warpAffine(np.asarray(page), pixels, page.size, borderValue=255)
    rng = np.random.default_rng(0)
    shade = np.linspace(0.7, 0.95, page.width)
    noisy = cv2.GaussianBlur(levels, (0, 0), 1.5) * shade + rng.normal(0, 4, levels.shape)
    assert_proposed(find_fields(noisy.clip(0, 255).astype(np.uint8), size=SIZE), about)


ROWS = [
    *[(60, 50 + 16 * n, 42, 8, "7") for n in range(6)],
    (60, 150, 7 * 6 + 6 * 3, 8, "7"),
    (60, 166, 2 * 6, 8, "2"),
    (75, 166, 2 * 6, 8, "2"),
    (90, 166, 4 * 6, 8, "4"),
]


def rows(*, level=0):
    """Seven digits as a comb that is open, has no line, has high ends, is low or is in a frame, as
    boxes that touch and as boxes with gaps of 3 mm; and a date."""
    paper = Paper()
    for n, (high, ends) in enumerate([(8, 8), (8, 8), (3, 8), (3, 3), (3, 8)]):
        left, top, foot = 60, 50 + 16 * n, 58 + 16 * n
        if n != 1:
            paper.line((left, foot), (left + 42, foot))
        if n == 4:
            paper.line((left, top), (left + 42, top))
        for post in range(8):
            x = left + 6 * post
            paper.line((x, foot - (high if 0 < post < 7 else ends)), (x, foot))
    paper.boxes(60, 130, 7)
    paper.boxes(60, 150, 7, gap=3)
    for left, digits in ((60, 2), (75, 2), (90, 4)):
        paper.boxes(left, 166, digits)
    paper.image = paper.image.point(lambda value: level + value * (255 - level) // 255)
    paper.pen = ImageDraw.Draw(paper.image)
    for n in range(8):
        paper.text(20, 51 + 16 * n, f"Number {n}")
    return paper


def assert_rows(fields, *, tilt=0.0):
    """All rows of digits are proposed, with as many digits, and nothing else is."""
    assert [one.digits for one in fields] == [row[4] for row in ROWS]
    for one, (left, top, width, height, _) in zip(fields, ROWS, strict=True):
        box = one.box * np.array([*SIZE, *SIZE])
        if not tilt:
            np.testing.assert_allclose(box, [left, top, width, height], atol=0.8)
        np.testing.assert_allclose(box[2:], [width, height], atol=0.8 + tilt * width)


@pytest.mark.parametrize("level", [0, 180, 220])
def test_combs_of_all_kinds_and_spaced_boxes_are_one_field_each(level):
    assert_rows(find_fields(np.asarray(rows(level=level).image), size=SIZE))


@pytest.mark.parametrize("degrees", [-3, 2])
def test_a_tilted_comb_keeps_its_ends(degrees):
    page = rows().image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=255)
    fields = find_fields(np.asarray(page.reduce(2)), size=SIZE)
    assert_rows(fields, tilt=np.sin(np.radians(abs(degrees))))


def test_a_stroke_across_a_post_does_not_cut_a_comb():
    paper = rows()
    paper.line((76, 52), (80, 57.5), width=0.8)
    paper.line((77, 56.5), (79.5, 54), width=0.8)
    assert_rows(find_fields(np.asarray(paper.image), size=SIZE))


def test_the_faint_cells_of_a_scanned_table_are_proposed():
    """Sheets with thick frames and dotted lines that are 10 levels darker than paper."""
    path = SHARED / "forms-dev" / "pages-gradesheet" / "sheets_upright.tif"
    if not path.exists():
        pytest.skip("needs ../shared")
    assert len(propose(Page(path.read_bytes(), 4)).fields) >= 36


@pytest.mark.parametrize("kind", ["white", "text", "noise", "photo", "line"])
def test_a_page_without_boxes_has_no_fields(kind):
    paper = Paper()
    levels = np.asarray(paper.image)
    if kind == "text":
        for row in range(40):
            paper.text(20, 20 + 6 * row, "the quick brown fox jumps over 12 lazy dogs, H E L", 3.5)
        levels = np.asarray(paper.image)
    elif kind == "noise":
        levels = np.random.default_rng(0).integers(0, 256, (1200, 900)).astype(np.uint8)
    elif kind == "photo":
        small = np.random.default_rng(0).integers(0, 256, (30, 20)).astype(np.uint8)
        levels = cv2.resize(small, (1600, 2400), interpolation=cv2.INTER_CUBIC)
    elif kind == "line":
        levels = np.full((1, 3000), 255, np.uint8)
    assert find_fields(levels) == []


def test_a_page_of_nothing_but_boxes_takes_little_time_and_memory():
    paper = Paper()
    paper.table(0, 0, [3.0] * 70, [3.0] * 99)
    fields = find_fields(np.asarray(paper.image), size=SIZE)
    assert len(fields) <= 1000


def test_a_resolution_is_believed_if_it_makes_a_page():
    assert page_size(2480, 3508, dpi=(300, 300)) == pytest.approx((210, 297), abs=0.1)
    for dpi in (None, (0, 0), (1, 1), (9600, 9600), (float("nan"), 300), 300):
        assert page_size(2480, 3508, dpi=dpi) is None


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.png"
    sheet().save(path, dpi=(300, 300))
    return path


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["nnpipe", *map(str, words)])
        return CliRunner().invoke(cli.app, list(map(str, words)))

    return run


def test_find_writes_a_form_that_can_be_loaded_and_a_drawing(page, run):
    done = run("form", "find", "page.png")
    assert done.exit_code == 0
    assert "form.toml: 10 fields, drawn in form.fields.png" in done.stderr
    assert "next: nnpipe form check form.toml FILLED_PAGE" in done.stderr
    text = page.with_name("form.toml").read_text()
    assert tomllib.loads(text)["unit"] == "mm"
    form = parse_form(load_form(page.with_name("form.toml")))
    for one, field in zip(form.fields, propose(page).fields, strict=True):
        np.testing.assert_allclose(one.box, field.box, atol=1e-3)
    drawing = np.asarray(Image.open(page.with_name("form.fields.png")), np.int64)
    assert (drawing[..., 2] - drawing[..., 0] > 100).sum() > 1000  # blue frames


def test_a_page_without_a_resolution_gives_shares(page, run):
    sheet().reduce(2).save(page)
    assert run("form", "find", "page.png").exit_code == 0
    assert tomllib.loads(page.with_name("form.toml").read_text())["unit"] == "%"
    load_form(page.with_name("form.toml"))


@pytest.mark.parametrize("there", ["form.toml", "form.fields.png"])
def test_find_overwrites_nothing(page, run, there):
    page.with_name(there).write_text("mine")
    done = run("form", "find", "page.png")
    assert str(done.exception) == f"{there}: exists, and nnpipe does not overwrite it"
    assert page.with_name(there).read_text() == "mine"
    assert len(list(page.parent.iterdir())) == 2


def test_an_empty_page_gives_one_sentence(page, run):
    Paper().image.save(page)
    done = run("form", "find", "page.png")
    assert str(done.exception).startswith("page.png: found no boxes, combs or ruled cells")
    assert not page.with_name("form.toml").exists()


def test_check_shows_what_is_read_in_each_field(page, run, tmp_path):
    run("form", "find", "page.png")
    sheet(filled=True).save(tmp_path / "filled.png")
    done = run("form", "check", "form.toml", "filled.png")
    assert done.exit_code == cli.INCOMPLETE  # the empty fields are rejected
    head, first, *rest = done.stdout.splitlines()
    assert head.split() == ["field", "status", "label", "confidence", "reason"]
    assert first.split()[0] == "r1c1"
    assert len(rest) == 9
    assert "filled.check.png: shows the fields on the page, which matches the form:" in done.stderr
    drawing = np.asarray(Image.open(tmp_path / "filled.check.png"), np.int64)
    assert (drawing[..., 0] - drawing[..., 2] > 100).sum() > 1000  # red and amber frames


def test_check_refuses_a_page_of_another_form(page, run, tmp_path):
    run("form", "find", "page.png")
    other = Paper()
    for row in range(30):
        other.text(20, 20 + 8 * row, f"{row} is another page, with other words {row * row}", 4)
    other.image.save(tmp_path / "other.png")
    done = run("form", "check", "form.toml", "other.png")
    assert str(done.exception) == "other.png: this page does not look like the form"
    assert not (tmp_path / "other.check.png").exists()


def test_check_does_not_draw_over_the_page(page, run):
    run("form", "find", "page.png")
    before = page.read_bytes()
    done = run("form", "check", "form.toml", "page.png", "--out", "page.png")
    assert done.exit_code == 2
    assert page.read_bytes() == before
