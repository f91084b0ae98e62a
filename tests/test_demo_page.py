"""The drawing page in a real browser: Debian's Chromium, through Playwright.

Digits are drawn by the events that a mouse, a finger or a pen gives, and the page asks the real
server.
"""

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw

from nnpipe import ground_truth
from nnpipe.classifier import Classifier
from nnpipe.datasets import drawn

from .conftest import ROOT
from .seen import champion

pytestmark = pytest.mark.slow  # a page in Chromium takes a second

CHROMIUM = shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("the page is tested in Chromium, which is not installed", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
pytest.importorskip("uvicorn", reason="the page needs the server, of the extra nnpipe[demo]")

APP = "nnpipe.demo.app:app"
STATIC = ROOT / "nnpipe" / "demo" / "static"
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
PATIENCE = 15_000  # milliseconds for whatever should take a fraction of a second

GRID = 1024
FORMS = drawn.FORMS["american"]


# ------------------------------------------------------------------------------ server and browser


@contextmanager
def serving(port=0, **environment):
    """The server in a process of its own, and its address."""
    command = [sys.executable, "-m", "uvicorn", APP, "--no-access-log", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    )
    lines = []
    running = threading.Event()

    def read():  # to its end, so that the server never waits for a reader
        for line in process.stderr:
            lines.append(line)
            if "running on" in line:
                running.set()
        running.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert running.wait(60), lines
        address = re.search(r"running on (http://127\.0\.0\.1:\d+)", "".join(lines))
        assert address, lines
        yield address[1] + "/"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        reader.join(10)
        process.stderr.close()


@pytest.fixture(scope="module")
def address():
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Visit:
    """Somebody with the page open."""

    def __init__(self, context, address):
        self.context = context
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.asked = []  # the addresses of all requests
        self.complaints = []  # what the browser's console says in red
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.go(address)

    def _listen(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def go(self, address):
        self.page.goto(address)
        self.page.wait_for_selector("#bars button", state="attached")
        self.page.wait_for_selector("#answer[data-kind]")

    def __getitem__(self, selector):
        return self.page.locator(selector)

    def text(self, selector):
        return self[selector].text_content()

    def settled(self):
        """Wait until the last stroke is answered."""
        self.page.wait_for_selector("#answer:not([aria-busy=true])")
        return self

    def expect(self, selector, text):
        sync_api.expect(self[selector]).to_have_text(text, timeout=PATIENCE)

    def draw(self, *strokes):
        """Draw strokes of (x, y) in shares of the paper, with the mouse."""
        self["#canvas"].scroll_into_view_if_needed()
        box = self["#canvas"].bounding_box()
        mouse = self.page.mouse
        for stroke in strokes:
            places = [
                (float(box["x"] + x * box["width"]), float(box["y"] + y * box["height"]))
                for x, y in stroke
            ]
            mouse.move(*places[0])
            mouse.down()
            for place in places[1:]:
                mouse.move(*place)
            mouse.up()
        return self.settled()

    @property
    def answer(self):
        """What the page says it reads: a digit, "?" or nothing."""
        return self.text("#mark")

    @property
    def shares(self):
        return self["#bars .share"].all_text_contents()

    def pixels(self, canvas):
        """What a canvas shows: its red, green, blue and opacity."""
        # Painting waits for the next frame.
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        address = self[canvas].evaluate("canvas => canvas.toDataURL()")
        png = base64.b64decode(address.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))

    @property
    def ink(self):
        """How many pixels of the paper have ink."""
        return int((self.pixels("#canvas")[..., 3] > 127).sum())


@pytest.fixture
def visit(browser, address):
    """Open the page; in the end nothing may have been asked of others, and nothing gone wrong."""
    visits = []

    def open_page(at=None, accepted=None, before=None, **options):
        context = browser.new_context(**({"viewport": {"width": 480, "height": 800}} | options))
        if before:
            context.add_init_script(before)
        new = Visit(context, at or address)
        visits.append((new, accepted, urlsplit(at or address).netloc))
        return new

    yield open_page
    for done, accepted, host in visits:
        done.context.close()
        hosts = {
            urlsplit(url).netloc for url in done.asked if not url.startswith(("blob:", "data:"))
        }
        assert hosts <= {host} | ({urlsplit(accepted).netloc} if accepted else set())
        complaints = [c for c in done.complaints if not (accepted and re.search(accepted, c))]
        assert complaints == []


# ------------------------------------------------------------------------------------ handwriting


def curve(text):
    """The strokes of a form, in units of its height, as smooth lines of many points."""
    hand = drawn.compile_forms([[(1.0, text)]])
    path = hand.spline[0] @ hand.controls[0]
    return np.split(path, np.flatnonzero(hand.lifted[0]))


def written(digit, form=0, size=0.6, at=(0.5, 0.5), slant=0.0, stretch=1.0):
    """A digit's strokes on the paper: its height and the middle of its box in shares of that."""
    strokes = [
        s * [stretch, 1] - [[slant, 0]] * s[:, 1:] for s in curve(FORMS[str(digit)][form][1])
    ]
    every = np.concatenate(strokes)
    middle = (every.min(0) + every.max(0)) / 2
    return [((s - middle) * size + at)[::5] for s in strokes]


HANDS = {
    "usual": {},
    "small": {"size": 0.22, "width": 24},
    "large": {"size": 0.86},
    "upper left": {"size": 0.34, "at": (0.22, 0.22), "width": 32},
    "lower right": {"size": 0.34, "at": (0.78, 0.78), "width": 32},
    "thin": {"width": 16},
    "thick": {"size": 0.75, "width": 96},
    "slanted": {"slant": 0.3, "form": 1},
    "wide": {"stretch": 1.25, "form": 2},
    "narrow": {"stretch": 0.75, "form": 3},
}


def misread(page, drawings):
    """Draw every (digit, hand); return those that the page takes for something else."""
    wrong = []
    for digit, hand in drawings:
        shape = {"width": 48, **HANDS[hand]}
        page["#width"].fill(str(shape.pop("width")))
        page.draw(*written(digit, **shape))
        if page.answer != str(digit):
            wrong.append(f"{digit} {hand}: {page.text('#head')}")
        page.page.keyboard.press("c")
    return wrong


def test_every_digit_and_every_hand_is_read(visit):
    """Ten drawings; all 100 pairs were read when this was written."""
    wrong = misread(visit(), enumerate(HANDS))
    assert len(wrong) <= 1, wrong


def test_ninety_five_of_a_hundred_drawings_are_read(visit):
    """Ten digits in ten hands. All 100 were read when this was written."""
    wrong = misread(visit(), [(digit, hand) for hand in HANDS for digit in range(10)])
    assert len(wrong) <= 5, wrong


def test_ninety_five_of_a_hundred_hands_are_read(visit):
    """As many writers, who bend and slant their digits as those of the drawn data set do.

    Of the seeds 8 to 11, 98, 95, 98 and 95 were read when this was written; many of the others are
    hard for people, too.
    """
    page, rng = visit(), np.random.default_rng(8)
    wrong = []
    for digit in list(range(10)) * 10:
        size, at = rng.uniform(0.25, 0.8), rng.uniform(0.4, 0.6, 2)
        page["#width"].fill(str(8 * round(size * rng.uniform(6, 14))))
        strokes = drawn.strokes(digit, rng)
        middle = np.concatenate(strokes).max(0) / 2
        page.draw(*[((s - middle) * size + at)[::5] for s in strokes])
        if page.answer != str(digit):
            wrong.append(f"{digit}: {page.text('#head')}")
        page.page.keyboard.press("c")
    assert len(wrong) <= 5, wrong


# ----------------------------------------------------------------------------------- what is shown


def test_all_is_shown_of_a_digit(visit):
    page = visit().draw(*written(4))
    assert page.text("#head") == "This is a 4"
    assert "% sure" in page.text("#detail")
    assert page["#bars .digit"].all_text_contents() == list("0123456789")
    assert page["#bars .winner"].all_text_contents()[0].startswith("4")
    assert abs(sum(map(float, page.shares)) - 100) < 0.5
    assert page.pixels("#seen")[..., 0].shape == (28, 28)
    assert page.pixels("#seen")[..., 0].max() == 255
    for layer, size in (("first", 128), ("second", 64)):
        firing = re.search(r"(\d+) fire", page.text(f"#{layer}-count"))
        assert 0 < int(firing[1]) < size
        assert len(np.unique(page.pixels(f"#{layer}")[..., 0])) > 5
    page["#seen"].scroll_into_view_if_needed()
    assert page["#seen"].is_visible()


def test_it_is_read_while_it_is_drawn(visit):
    """The answer changes before the pen is lifted."""
    page = visit()
    box = page["#canvas"].bounding_box()
    side = box["width"]
    page.page.mouse.move(box["x"] + side / 2, box["y"] + 0.2 * side)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + side / 2, box["y"] + 0.8 * side, steps=10)
    page.expect("#mark", "1")
    page.page.mouse.up()


def test_the_evidence_names_winner_and_rival_and_sums_up(visit):
    page = visit().draw(*written(4))
    assert page.text("#why-title") == "Why 4?"
    page["#bars button"].nth(9).click()
    page.expect("#why-title", "Why 4 and not 9?")
    page.expect("#sum-name", "Ahead of 9 by")
    assert page["#bars button"].nth(9).get_attribute("aria-pressed") == "true"
    assert (page.text("#against"), page.text("#for")) == ("for 9", "for 4")
    *parts, total = (
        float(page.text(f"#sum-{part}").replace("−", "-"))
        for part in ("for", "against", "bias", "all")
    )
    assert parts[0] > 0 > parts[1]
    assert sum(parts) == pytest.approx(total, abs=0.21)  # each is rounded to one digit
    shown = page.pixels("#evidence")[..., :3].astype(int)
    bluer = shown[..., 2] - shown[..., 0]
    assert bluer.max() > 60  # for
    assert bluer.min() < -60  # against
    page["#bars button"].nth(9).click()
    page.expect("#why-title", "Why 4?")


def test_a_rival_that_wins_is_no_rival(visit):
    """It stays chosen, and is the rival again when another digit wins."""
    page = visit().draw(*written(4))
    page["#bars button"].nth(7).click()
    page["#clear"].click()
    page.draw(*written(7))
    page.expect("#why-title", "Why 7?")
    page["#clear"].click()
    page.draw(*written(4))
    page.expect("#why-title", "Why 4 and not 7?")


def test_a_blank_says_nothing_is_drawn(visit):
    page = visit()
    assert page.text("#head") == "Nothing drawn yet"
    assert set(page.shares) == {""}
    page.draw(*written(3))
    page["#clear"].click()
    page.expect("#head", "Nothing drawn yet")
    assert set(page.shares) == {""}
    assert page.pixels("#seen")[..., :3].max() == 0
    page.draw(*written(1))
    page["#eraser"].click()
    page["#width"].fill("112")
    page.draw(*written(1))
    assert page.text("#head") == "Nothing drawn"
    assert set(page.shares) == {""}


def test_a_dot_is_ink(visit):
    page = visit().draw([(0.5, 0.5)])
    width = page["#canvas"].evaluate("c => c.width")
    assert page.ink == pytest.approx(np.pi / 4 * (48 / GRID * width) ** 2, rel=0.1)
    assert page["#hint"].is_hidden()


def test_a_scribble_is_said_not_to_be_a_digit(visit):
    page, rng = visit(), np.random.default_rng(0)
    page.draw(rng.uniform(0.15, 0.85, (70, 2)))
    assert (page.text("#head"), page.answer) == ("Not a digit", "?")
    assert len(page.text("#detail")) > 20  # a reason


# ---------------------------------------------------------------------------------------- numbers

NUMBER = "602"
PLACES = [0.2, 0.5, 0.8]  # of the middles of its digits, in shares of the paper


def drawn_number():
    return [
        stroke
        for digit, x in zip(NUMBER, PLACES, strict=True)
        for stroke in written(int(digit), size=0.32, at=(x, 0.5))
    ]


def test_a_number_is_read_and_each_digit_has_a_box(visit):
    page = visit().draw(*drawn_number())
    assert page.answer == NUMBER
    assert page.text("#head").endswith(f" {NUMBER}")
    assert "% sure" in page.text("#detail")
    assert page["#boxes .digit"].all_text_contents() == list(NUMBER)
    assert all(share.endswith(" %") for share in page["#boxes .share"].all_text_contents())
    paper = page["#canvas"].bounding_box()
    for x, item in zip(PLACES, page["#boxes li"].all(), strict=True):
        box = item.bounding_box()
        middle = (box["x"] + box["width"] / 2 - paper["x"]) / paper["width"]
        assert middle == pytest.approx(x, abs=0.05)
        assert 0.1 < box["width"] / paper["width"] < 0.4
        assert 0.3 < box["height"] / paper["height"] < 0.5
    page.expect("#said", re.compile(f"{NUMBER}\\. .* sure"))


def test_what_is_shown_of_one_digit_is_not_shown_of_a_number(visit):
    """And it is there again for the next digit."""
    page = visit().draw(*drawn_number())
    assert set(page.shares) == {""}
    assert page["#seen"].is_hidden()
    assert page.text("#why-title") == "Why?"
    assert page["#digits button:not([aria-disabled='true'])"].count() == 0
    page["#bars button"].nth(9).click(force=True)
    page["#clear"].click()
    page.expect("#head", "Nothing drawn yet")
    assert page["#boxes li"].count() == 0
    page.draw(*written(4))
    assert page.text("#why-title") == "Why 4?"
    assert page["#seen"].is_visible()
    assert page["#boxes li"].count() == 0


def test_one_digit_is_asked_for_once(visit):
    page = visit().draw(*written(4))
    assert not any("digits=" in url for url in page.asked)


def test_boxes_lie_on_the_digits_of_a_picture(visit, tmp_path):
    """The picture is wide, and a camera held upright took it: it is turned to be shown."""
    paper = Image.new("L", (900, 300), "white")
    pen = ImageDraw.Draw(paper)
    for x, digit in enumerate(NUMBER):
        for stroke in written(int(digit), size=200, at=(150 + 300 * x, 150)):
            pen.line([tuple(place) for place in stroke], fill="black", width=14, joint="curve")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    paper.rotate(90, expand=True).save(tmp_path / "number.jpg", exif=exif)
    page = visit()
    give(page, "drop", tmp_path / "number.jpg")
    page.expect("#mark", NUMBER)
    paper = page["#canvas"].bounding_box()
    for place, item in enumerate(page["#boxes li"].all()):
        box = item.bounding_box()
        across = (box["x"] + box["width"] / 2 - paper["x"]) / paper["width"]
        down = (box["y"] + box["height"] / 2 - paper["y"]) / paper["height"]
        assert across == pytest.approx(0.04 + 0.92 * (place + 0.5) / 3, abs=0.03)
        assert down == pytest.approx(0.5, abs=0.03)


def test_a_page_of_text_is_no_number(visit):
    page = visit()
    give(page, "drop", ROOT / "samples" / "no-digit-page.png", "image/png")
    page.expect("#head", "Not a number")
    assert len(page.text("#detail")) > 20  # a reason
    assert page["#boxes li"].count() == 0


@pytest.mark.parametrize("width", [360, 390, 899, 900, 1280, 1920])
def test_a_number_moves_nothing_and_runs_over_no_edge(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    before = page["#canvas"].bounding_box()
    page.draw(*drawn_number())
    assert page.answer == NUMBER
    page.page.evaluate("scrollTo(0, 0)")
    assert page["#canvas"].bounding_box() == before
    assert page.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


# ---------------------------------------------------------------------------------------- the pen


def test_undo_and_redo_go_back_and_forth(visit):
    page = visit()
    page.draw(*written(1))
    one = page.pixels("#canvas")
    page.draw([(0.2, 0.2), (0.8, 0.2)])
    assert page["#redo"].is_disabled()
    page["#undo"].click()
    assert page.settled().answer == "1"
    assert (page.pixels("#canvas") == one).all()
    page["#undo"].click()
    page.expect("#head", "Nothing drawn yet")
    assert page["#undo"].is_disabled()
    page["#redo"].click()
    page.expect("#mark", "1")
    page["#clear"].click()
    page.page.keyboard.press("Control+z")
    page.expect("#mark", "1")
    assert (page.pixels("#canvas") == one).all()


def test_the_eraser_takes_ink_away(visit):
    """A 7 whose hat is erased is a 1; the eraser's strokes are undone like others."""
    page = visit().draw([(0.3, 0.2), (0.62, 0.2)], [(0.62, 0.2), (0.5, 0.85)])
    assert page.answer == "7"
    before = page.ink
    page["#eraser"].click()
    page.draw([(0.25, 0.2), (0.54, 0.2)])
    assert page.answer == "1"
    assert page.ink < 0.9 * before
    page["#undo"].click()
    page.expect("#mark", "7")
    assert page.ink == before


def test_a_wider_pen_leaves_more_ink(visit):
    page = visit()
    inks = []
    for width in (16, 48, 112):
        page["#width"].fill(str(width))
        inks.append(page.draw(*written(1)).ink)
        page["#clear"].click()
    assert inks[0] < inks[1] / 2 < inks[2] / 4


@pytest.mark.parametrize("kind", ["finger", "pen"])
def test_fingers_and_pens_draw_and_do_not_scroll(visit, kind):
    """Nor does a second finger, or the palm, draw along."""
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    box = page["#canvas"].bounding_box()
    browser = page.context.new_cdp_session(page.page)

    def touch(what, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        browser.send("Input.dispatchTouchEvent", {"type": what, "touchPoints": points})

    def point(what, place):
        about = {
            "button": "left",
            "buttons": 1,
            "clickCount": 1,
            "pointerType": "pen",
            "force": 0.5,
        }
        where = {"x": place[0], "y": place[1]}
        browser.send("Input.dispatchMouseEvent", {"type": what} | about | where)

    palm = (box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"])
    for stroke in written(4):
        places = [
            (float(box["x"] + x * box["width"]), float(box["y"] + y * box["height"]))
            for x, y in stroke
        ]
        if kind == "pen":
            point("mousePressed", places[0])
            for place in places[1:]:
                point("mouseMoved", place)
            point("mouseReleased", places[-1])
        else:
            touch("touchStart", places[0])
            touch("touchStart", places[0], palm)
            for place in places[1:]:
                touch("touchMove", place, palm)
            touch("touchEnd")
    page.settled()
    assert page.answer == "4"
    assert page.page.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]
    assert (page.pixels("#canvas")[-60:, -60:, 3] == 0).all()


def test_no_place_that_a_fast_pen_was_at_is_lost(visit):
    """A pen reports more places than there are frames: getCoalescedEvents."""
    page = visit()
    box = page["#canvas"].bounding_box()
    x, y, side = box["x"], box["y"], box["width"]
    page["#canvas"].evaluate(
        'c => { c.addEventListener("pointerdown", e => { window.pen = e.pointerId }) }'
    )
    page.page.mouse.move(x + side / 4, y + side / 4)
    page.page.mouse.down()
    page["#canvas"].evaluate(
        """(canvas, [x, y, side]) => {
          const at = (u, v) => new PointerEvent("pointermove", {
            pointerId: window.pen, clientX: x + u * side, clientY: y + v * side });
          canvas.dispatchEvent(new PointerEvent("pointermove", {
            pointerId: window.pen, clientX: x + side / 4, clientY: y + 3 * side / 4,
            coalescedEvents: [at(0.75, 0.25), at(0.75, 0.75), at(0.25, 0.75)] }));
        }""",
        [x, y, side],
    )
    page.page.mouse.up()
    shown = page.settled().pixels("#canvas")[..., 3]
    edge = len(shown) * 3 // 4
    assert shown[len(shown) // 2, edge]


@pytest.mark.parametrize("density", [1, 2.5])
def test_the_paper_is_as_sharp_as_the_screen(visit, density):
    page = visit(device_scale_factor=density).draw(*written(8))
    width = page["#canvas"].evaluate("c => c.clientWidth")
    assert page.pixels("#canvas").shape[0] == pytest.approx(width * density, abs=1)
    assert page.answer == "8"


def test_dark_and_light_send_the_same_picture(visit):
    answers = []
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme).draw(*written(5))
        answers.append((page.pixels("#seen").tolist(), page.shares))
        brightness = page.pixels("#canvas")[..., :3].max()
        assert brightness > 200 if scheme == "dark" else brightness < 80
    assert answers[0] == answers[1]


# --------------------------------------------------------------------------------------- pictures

GIVE = """([how, name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, {type}));
  const target = document.querySelector("#canvas");
  const event = how === "paste"
    ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
    : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
  target.dispatchEvent(event);
  return event.defaultPrevented;
}"""


def give(page, how, path, kind="image/jpeg"):
    """Paste, drop or choose a file."""
    if how == "choose":
        with page.page.expect_file_chooser() as chooser:
            page["#open"].click()
        chooser.value.set_files(path)
    else:
        content = base64.b64encode(path.read_bytes()).decode()
        assert page.page.evaluate(GIVE, [how, path.name, kind, content])


@pytest.mark.parametrize("how", ["paste", "drop", "choose"])
def test_a_picture_is_read_as_the_command_reads_it(visit, how):
    page = visit().draw(*written(1))
    path = ROOT / "samples" / "6-photo.jpg"
    give(page, how, path)
    page.expect("#mark", "6")
    reading = Classifier.load().read(path)
    assert (page.settled().pixels("#seen")[..., 0] == reading.pixels).all()
    assert page.shares == [f"{100 * share:.1f}" for share in reading.probabilities]
    assert page.ink > 10_000  # it lies on the paper
    page["#undo"].click()
    page.expect("#mark", "1")
    page["#redo"].click()
    page.expect("#mark", "6")
    page.draw(*written(7))  # takes a new sheet
    assert page.answer == "7"


def test_a_picture_in_a_form_that_the_browser_does_not_know_is_read(visit):
    tiff = io.BytesIO()
    Image.open(ROOT / "samples" / "3-dark-on-light.png").convert("L").save(tiff, "TIFF")
    page = visit()
    content = base64.b64encode(tiff.getvalue()).decode()
    page.page.evaluate(GIVE, ["drop", "three.tif", "image/tiff", content])
    page.expect("#mark", "3")


def test_what_is_no_picture_is_said_to_be_none(visit, tmp_path):
    """The browser's console names the status, too; the page goes on."""
    page = visit(accepted="status of 4")
    (tmp_path / "letter.png").write_text("Dear reader")
    give(page, "drop", tmp_path / "letter.png", "image/png")
    page.expect("#head", "That cannot be read")
    assert "not a picture" in page.text("#detail")
    assert page.settled()["#trouble"].is_hidden()
    page.draw(*written(2))
    assert page.answer == "2"


# ------------------------------------------------------------------------------------------- links


def test_a_link_reopens_the_drawing(visit):
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.draw(*written(9), [(0.1, 0.9), (0.2, 0.95)])
    page["#eraser"].click()
    page.draw([(0.1, 0.88), (0.22, 0.96)])
    page["#share"].click()
    page.expect("#shared", "The link is copied.")
    link = page.page.evaluate("navigator.clipboard.readText()")
    assert link == page.page.url
    assert len(link) < 1000
    again = visit(link).settled()
    again.expect("#mark", page.answer)
    assert again.shares == page.shares
    assert (again.pixels("#canvas") == page.pixels("#canvas")).all()
    assert (again.pixels("#seen") == page.pixels("#seen")).all()
    again["#clear"].click()
    assert "#" not in again.page.url
    again.page.evaluate("hash => { location.hash = hash }", link.partition("#")[2])
    again.expect("#mark", page.answer)


def test_a_picture_is_refused_from_a_link_in_words(visit):
    page = visit().draw(*written(2))
    give(page, "drop", ROOT / "samples" / "6-photo.jpg")
    page.expect("#mark", "6")
    page["#share"].click()
    assert "too large for a link" in page.text("#shared")
    assert "#" not in page.page.url


@pytest.mark.parametrize("link", ["AQ", "nonsense!", "AT8BAAAA____", "%00", "A" * 300_000])
def test_a_link_that_carries_nothing_is_said_to(visit, address, link):
    page = visit(f"{address}#{link}")
    assert page.text("#head") == "Nothing drawn yet"
    assert page.draw(*written(1)).answer == "1"


def test_links_are_exact_and_never_crash(visit):
    """Any strokes come back as they were; any bytes are a drawing within the paper, or null."""
    page = visit()
    failures = page.page.evaluate(
        """async () => {
          const { encode, decode } = await import(new URL("link.js", location).href);
          let seed = 1;
          const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
          const failures = [];
          for (let round = 0; round < 300; round++) {
            const strokes = Array.from({length: 1 + random(4)}, () => ({
              erase: random(2) === 1, width: 2 + 2 * random(120),
              points: Array.from({length: 2 * (1 + random(300))}, () => random(1024)) }));
            const text = encode(strokes);
            if (JSON.stringify(decode(text)) !== JSON.stringify(strokes)) failures.push(text);
            const at = random(text.length);
            for (const bad of [text.slice(0, at), text.slice(0, at) + "x" + text.slice(at + 1)]) {
              const points = decode(bad)?.flatMap((stroke) => stroke.points) ?? [];
              if (points.some((value) => !(value >= 0 && value < 1024))) failures.push(bad);
            }
          }
          return failures;
        }"""
    )
    assert failures == []


# ---------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_downloaded_in_the_folders_that_evaluate_reads(visit, tmp_path):
    page = visit().draw(*written(1))
    seen = [page.pixels("#seen")[..., 0]]
    page["#digits button"].nth(4).click()
    page["#digits button"].nth(7).click()  # on second thoughts
    page["#clear"].click()
    page.draw(*written(3))
    seen.append(page.pixels("#seen")[..., 0])
    page["#digits button"].nth(8).click()
    give(page, "drop", ROOT / "samples" / "6-photo.jpg")
    page.expect("#mark", "6")
    seen.append(page.settled().pixels("#seen")[..., 0])
    page["#digits button"].nth(0).click()
    page["#digits button"].nth(5).click()
    page["#clear"].click()
    page.draw(*written(2))
    page["#digits button"].nth(2).click()
    page["#mistakes li:last-child button"].click()  # that was none
    assert page["#mistakes span"].all_text_contents() == [
        "7, read as 1",
        "8, read as 3",
        "5, read as 6",
    ]
    with page.page.expect_download() as download:
        page["#download"].click()
    assert download.value.suggested_filename == "mistakes.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    read = ground_truth.from_folder(tmp_path / "mistakes", champion())
    assert read.digits.labels.tolist() == [5, 7, 8]
    assert read.names[0].startswith("5/")
    assert read.names[0].endswith("-read-as-6.jpg")
    assert (read.digits.images == np.stack([seen[2], seen[0], seen[1]])).all()
    assert read.unreadable == read.unlabelled == ()


def test_there_is_no_mistake_to_save_where_nothing_is_read(visit):
    page = visit()
    assert page["#digits button:not([aria-disabled='true'])"].count() == 0
    page.draw(*written(6))
    assert page["#digits button:not([aria-disabled='true'])"].count() == 10
    page["#clear"].click()
    assert page["#digits button:not([aria-disabled='true'])"].count() == 0


# ----------------------------------------------------------------------------------------- asking


def test_one_request_at_a_time_and_the_last_stroke_is_answered(visit):
    """While an answer is held back, many strokes are drawn; then they are asked for at once."""
    page = visit()
    held = []
    page.page.route("**/api/predict*", lambda route: held.append(route))

    def wait_for(count):
        for _ in range(100):
            if len(held) >= count:
                break
            page.page.wait_for_timeout(50)
        page.page.wait_for_timeout(300)  # in which there might be one too many
        assert len(held) == count

    draw_without_waiting(page, *written(1))
    wait_for(1)
    page["#clear"].click()
    draw_without_waiting(page, *written(4))
    wait_for(1)
    held[0].continue_()
    wait_for(2)
    held[1].continue_()
    page.settled()
    page.expect("#mark", "4")
    wait_for(2)


def draw_without_waiting(page, *strokes):
    settled, page.settled = page.settled, lambda: page
    try:
        return Visit.draw(page, *strokes)
    finally:
        page.settled = settled


def test_an_answer_to_what_is_gone_is_not_shown(visit):
    page = visit()
    held = []
    page.page.route("**/api/predict*", lambda route: held.append(route))
    draw_without_waiting(page, *written(1))
    page.page.wait_for_timeout(200)
    page["#clear"].click()
    held[0].continue_()
    page.settled()
    assert (page.text("#head"), page.answer) == ("Nothing drawn yet", "")


def test_a_server_that_goes_away_is_said_and_asked_again(visit):
    """It says so calmly, keeps the drawing, and answers by itself when the server is back."""
    with serving() as address:
        page = visit(address, accepted="ERR_CONNECTION|ERR_EMPTY|ERR_SOCKET")
        page.draw(*written(2))
        port = urlsplit(address).port
    draw_without_waiting(page, *written(2))
    page.expect("#trouble", "The network cannot be reached. Trying again …")
    page["#clear"].click()
    draw_without_waiting(page, *written(3))
    assert page["#trouble"].is_visible()
    with serving(port):
        page.expect("#mark", "3")
        page.settled()
        assert page["#trouble"].is_hidden()
        page["#clear"].click()
        assert page.draw(*written(6)).answer == "6"


def test_a_busy_server_is_asked_again(visit):
    page = visit(accepted="status of 503")
    answers = iter([503, 503])

    def busy(route):
        status = next(answers, None)
        route.fulfill(status=status) if status else route.continue_()

    page.page.route("**/api/predict*", busy)
    draw_without_waiting(page, [(0.5, 0.2), (0.5, 0.8)])
    page.expect("#trouble", "The network is busy. Trying again …")
    page.expect("#mark", "1")
    assert page.settled()["#trouble"].is_hidden()


def test_the_page_may_lie_elsewhere_and_ask_an_api_by_its_address(visit, tmp_path):
    """The folder as it is, on another host: ?api= names the server, which allows it."""
    (tmp_path / "page").symlink_to(STATIC)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    files = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=files.serve_forever)
    thread.start()
    elsewhere = f"http://127.0.0.1:{files.server_port}"
    try:
        with serving(NNPIPE_DEMO_ORIGINS=elsewhere) as api:
            page = visit(f"{elsewhere}/page/?api={api}", accepted=api)
            assert page.draw(*written(4)).answer == "4"
            assert urlsplit(api).netloc in page.text("#about")
            assert "?api=" in page.page.url
            page.context.close()
    finally:
        files.shutdown()
        thread.join()
        files.server_close()


# ------------------------------------------------------------------------------------- for everyone


def test_the_keyboard_is_enough(visit):
    """Draw with the arrow keys, choose a rival, undo, save a mistake, by keys alone."""
    page = visit()
    press = page.page.keyboard.press

    def tab_to(selector):
        for _ in range(60):
            press("Tab")
            if page.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not reach {selector}")

    tab_to("#canvas")
    press("Space")
    for _ in range(16):
        press("ArrowDown")
    press("Space")
    page.settled()
    assert page.answer == "1"
    assert page["#canvas"].evaluate("c => getComputedStyle(c).outlineStyle") == "solid"
    tab_to("#bars li:nth-child(8) button")
    press("Enter")
    page.expect("#why-title", "Why 1 and not 7?")
    tab_to("#digits button:nth-child(7)")
    press("Space")
    assert page["#mistakes li"].count() == 1
    press("z")
    page.expect("#head", "Nothing drawn yet")
    press("y")
    page.expect("#mark", "1")
    press("c")
    page.expect("#head", "Nothing drawn yet")
    press("e")
    assert page["#eraser"].get_attribute("aria-pressed") == "true"
    press("p")
    press(".")
    assert page["#width"].input_value() == "56"


def test_single_keys_can_be_switched_off(visit):
    page = visit().draw(*written(1))
    page["#shortcuts"].uncheck()
    page.page.keyboard.press("c")
    assert page.settled().answer == "1"
    page.page.keyboard.press("Control+z")
    page.expect("#head", "Nothing drawn yet")


def test_a_number_key_has_that_digit_written(visit):
    """At once, for who wants no motion; the hand is another each time but for a planted chance."""
    page = visit(reduced_motion="reduce", before="Math.random = () => 0.4")
    for digit in range(10):
        page.page.keyboard.press(str(digit))
        assert page.settled().answer == str(digit)


def test_an_example_is_written_as_a_hand_would(visit):
    page = visit(before="Math.random = () => 0.4")
    page["#example"].click()
    sync_api.expect(page["#undo"]).to_be_enabled(timeout=PATIENCE)
    page.expect("#mark", "4")


def test_a_screen_reader_hears_the_answer_once(visit):
    """Not every change while the pen moves: what has been so for a moment."""
    page = visit()
    page.page.evaluate(
        """() => {
          window.heard = [];
          const said = document.querySelector("#said");
          new MutationObserver(() => heard.push(said.textContent)).observe(said, {childList: true});
        }"""
    )
    page.draw(*written(4))
    page.expect("#said", re.compile("This is a 4"))
    page.page.wait_for_timeout(1000)
    heard = page.page.evaluate("heard")
    assert heard[-1].startswith("This is a 4. ")
    assert len(heard) <= 2
    assert page["#said"].get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("width", [320, 360])
def test_nothing_runs_over_the_edge_of_a_phone(visit, width):
    page = visit(viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True)

    def overflow():
        return page.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    assert overflow() <= 0
    page.draw(*written(4))
    page["#digits button"].nth(9).click()
    page["#bars button"].nth(9).click()
    page.expect("#why-title", "Why 4 and not 9?")
    assert overflow() <= 0
    page["#clear"].click()
    page.draw(np.random.default_rng(0).uniform(0.15, 0.85, (70, 2)))
    assert page.answer == "?"
    assert overflow() <= 0
    assert page["#seen"].is_visible()


def test_everything_that_can_be_used_has_a_name(visit):
    page = visit().draw(*written(4))
    page["#digits button"].nth(9).click()
    browser = page.context.new_cdp_session(page.page)
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    named = {"button", "slider", "checkbox", "image", "img", "application", "group", "region"}
    found = set()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in named and not node["ignored"]:
            assert node["name"]["value"].strip(), node
            found.add(role)
    assert {"button", "slider", "checkbox", "application", "group"} <= found
    assert page["#bars button"].nth(4).get_attribute("aria-label").startswith("4: ")
    assert page["html"].get_attribute("lang") == "en"
    assert page["h1"].count() == 1


CONTRAST = """() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = numbers(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    if (element.closest("[aria-disabled=true], script, noscript")) continue;
    if (!element.checkVisibility() || element.closest(".drop-here")) continue;
    const [one, two] = [getComputedStyle(element).color, null].map((c) =>
      luminance(c ? numbers(c) : ground(element)));
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) faint.push([walker.currentNode.data.trim(), ratio]);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_as_wcag_asks(visit, scheme):
    """4.5 : 1 (WCAG 2.2, 1.4.3), for all that is written."""
    page = visit(color_scheme=scheme)
    assert page.page.evaluate(CONTRAST) == []
    page.draw(*written(4))
    page["#bars button"].nth(9).click()
    page["#digits button"].nth(9).click()
    page.expect("#why-title", "Why 4 and not 9?")
    assert page.page.evaluate(CONTRAST) == []
    page["#clear"].click()
    page.draw(*drawn_number())
    assert page["#boxes li"].count() == len(NUMBER)
    assert page.page.evaluate(CONTRAST) == []
