"""How well pages are aligned with a form, and how well their fields are read, and how fast.

    python benchmarks/read_forms.py [--weights FILE] [--data-dir data] [--count 100] [--validation]

Forms are composed: a title, labels, and fields of boxes, combs and table cells, filled with MNIST's
test digits, or its validation digits. A page is turned by up to 10 degrees or by 170 to 190,
scaled by up to 10 percent, seen in perspective, lit unevenly, blurred, and compressed. Beside the
fields as they are found stand the same fields cut where they truly are. The forms called "bare"
have boxes, and hardly any text. Foreign pages show other forms, text, noise, or nothing.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
from measure import load, machine, option_parser, row, spread, table
from PIL import Image, ImageDraw, ImageFont

from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits
from nnpipe.errors import NnpipeError
from nnpipe.forms import alignment, reading
from nnpipe.forms.description import Field, Form
from nnpipe.numbers.constraints import wanted

DPI = 150
MM = DPI / 25.4  # pixels
SIZE = 210 * MM, 297 * MM  # A4
FIELDS = 20
ROUNDS = 5
KINDS = ("text", "bare")
FOREIGN = ("another form", "text", "noise", "blank")
WORDS = "total name date votes for the of all page item school class exam number sum mark box paper"

Array = np.ndarray


class Sheet(NamedTuple):
    """A form, its picture without writing, and the places of its fields."""

    picture: Array  # uint8 (h, w)
    boxes: list[tuple[float, float, float, float]]  # left, top, width, height, in pixels
    digits: list[int]

    @property
    def form(self) -> Form:
        """The form as the reader takes it."""
        height, width = self.picture.shape
        sides = np.array([width, height] * 2)
        pairs = zip(self.boxes, self.digits, strict=True)
        fields = (
            Field(f"f{n}", tuple((np.array(box) / sides).tolist()), WANTED[count])
            for n, (box, count) in enumerate(pairs)
        )
        code = cv2.imencode(".png", self.picture)[1].tobytes()
        return Form(code, tuple(fields))


WANTED = {n: wanted(n) for n in range(1, 9)}


def words(rng: np.random.Generator, count: int) -> str:
    """Return random words."""
    return " ".join(rng.choice(WORDS.split(), count)).capitalize()


def compose(rng: np.random.Generator, kind: str) -> Sheet:
    """Compose a form of `FIELDS` fields."""
    width, height = map(round, SIZE)
    image = Image.new("L", (width, height), 255)
    pen = ImageDraw.Draw(image)
    font = {size: ImageFont.load_default(size * MM) for size in (3, 6)}
    if kind == "text":
        pen.text((20 * MM, 12 * MM), words(rng, 4), 0, font[6])
        pen.text((20 * MM, 22 * MM), words(rng, 12), 0, font[3])
    else:
        pen.text((20 * MM, 12 * MM), words(rng, 1), 0, font[3])
    boxes, digits = [], []
    top = rng.uniform(35, 45) * MM
    for number in range(FIELDS):
        column = number % 2
        cell, tall = rng.uniform(5.5, 9) * MM, rng.uniform(7, 10) * MM
        count = int(rng.integers(1, 7))
        left = (20 + 85 * column + rng.uniform(0, 20)) * MM
        if kind == "text":
            pen.text((left, top - 4.5 * MM), words(rng, 2), 0, font[3])
        style, line = rng.integers(3), max(1, round(rng.uniform(0.15, 0.6) * MM))
        right = left + count * cell
        for n in range(count + 1):
            x = left + n * cell
            start = (
                top if style == 0 or n in (0, count) else top + (0.6 if style == 1 else 2) * tall
            )
            if start < top + tall:
                pen.line([(x, start), (x, top + tall)], 0, line)
        pen.line([(left, top + tall), (right, top + tall)], 0, line)
        if style != 1:
            pen.line([(left, top), (right, top)], 0, line)
        boxes.append((left, top, right - left, tall))
        digits.append(count)
        top += column * 24 * MM
    return Sheet(np.asarray(image), boxes, digits)


def filled(sheet: Sheet, data: Digits, rng: np.random.Generator) -> tuple[Array, list[str]]:
    """Return a sheet with numbers written into its fields, and the numbers."""
    page, labels = sheet.picture.copy(), []
    for (left, top, width, height), count in zip(sheet.boxes, sheet.digits, strict=True):
        some = rng.integers(0, len(data.labels), count)
        labels.append("".join(map(str, data.labels[some])))
        cell = width / count
        side = min(cell * 1.2, height) * rng.uniform(0.8, 1.1)
        for n, one in enumerate(some):
            ink = cv2.resize(data.images[one], (round(side),) * 2, interpolation=cv2.INTER_CUBIC)
            x = round(left + (n + 0.5) * cell - side / 2 + rng.normal(0, 0.03) * side)
            y = round(top + height / 2 - side / 2 + rng.normal(0, 0.03) * side)
            part = page[y : y + len(ink), x : x + len(ink)]
            np.minimum(part, 255 - (ink * rng.uniform(0.7, 1)).astype(np.uint8), out=part)
    return page, labels


def seen(page: Array, rng: np.random.Generator, *, turned: bool) -> tuple[Array, Array]:
    """Return a page as a scan or a photo shows it, and the homography to it."""
    height, width = page.shape
    angle = np.deg2rad(rng.uniform(-10, 10) + 180 * turned)
    scale = rng.uniform(0.9, 1.1)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    there = (corners - corners.mean(axis=0)) @ np.array([[cos, sin], [-sin, cos]])
    there += rng.uniform(-0.03, 0.03, (4, 2)) * width
    there -= there.min(axis=0) - 10
    matrix = cv2.getPerspectiveTransform(np.float32(corners), np.float32(there))
    size = np.ceil(there.max(axis=0) + 10).astype(int).tolist()
    paper = rng.uniform(60, 255)
    flat = cv2.warpPerspective(page, matrix, size, flags=cv2.INTER_AREA, borderValue=paper)
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    light = rng.uniform(0.7, 1) * (1 - rng.uniform(-0.2, 0.2) * x - rng.uniform(-0.2, 0.2) * y)
    shown = cv2.GaussianBlur(flat.astype(np.float32), (0, 0), rng.uniform(0.3, 1.2)) * light
    shown += rng.normal(0, rng.uniform(1, 8), shown.shape)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
    code = cv2.imencode(".jpg", shown.clip(0, 255).astype(np.uint8), quality)[1]
    return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), matrix


def foreign(kind: str, rng: np.random.Generator) -> Array:
    """Return a page that shows no form of ours."""
    width, height = map(round, SIZE)
    if kind == "another form":
        return compose(rng, str(rng.choice(KINDS))).picture
    if kind == "noise":
        coarse = rng.uniform(0, 255, (height // 20, width // 20)).astype(np.float32)
        return (
            cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            .clip(0, 255)
            .astype(np.uint8)
        )
    image = Image.new("L", (width, height), 255)
    if kind == "text":
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(4 * MM)
        for line in range(40):
            pen.text((20 * MM, (20 + 6 * line) * MM), words(rng, 12), 0, font)
    return np.asarray(image)


class Count(NamedTuple):
    """What a page of a form gave."""

    error: float  # distance of the farthest corner of a field from its true place, in millimetres
    numbers: list
    cut: list  # the same fields, cut where they are
    truth: list[str]
    seconds: float


def read(classifier: Classifier, sheet: Sheet, data: Digits, rng: np.random.Generator) -> Count:
    """Read a page of a form."""
    page, truth = filled(sheet, data, rng)
    shown, matrix = seen(page, rng, turned=bool(rng.random() < 0.5))
    form = sheet.form
    start = time.perf_counter()
    found = reading.read_page(shown, form, classifier=classifier)
    seconds = time.perf_counter() - start
    boxes = np.array(sheet.boxes)
    corners = np.stack(
        [
            boxes[:, :2],
            boxes[:, :2] + boxes[:, 2:] * (1, 0),
            boxes[:, :2] + boxes[:, 2:],
            boxes[:, :2] + boxes[:, 2:] * (0, 1),
        ],
        axis=1,
    )
    true = cv2.perspectiveTransform(corners.reshape(1, -1, 2), matrix).reshape(-1, 4, 2)
    error = np.linalg.norm(found.corners - true, axis=2).max() / MM if found.alignment else np.inf
    count = len(boxes)
    exact = alignment.Alignment(1.0, np.repeat(matrix[None], count, axis=0), np.ones(count))
    with mock.patch.object(alignment.Aligner, "find", return_value=exact):
        cut = reading.read_page(shown, form, classifier=classifier)
    return Count(float(error), found.numbers, cut.numbers, truth, seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read all pages, and print the tables as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--count", type=int, default=100, metavar="N")
    parser.add_argument("--validation", action="store_true")
    given = parser.parse_args(arguments)
    machine("pillow", "opencv-python-headless")
    sets = load(given.data_dir)
    data = sets.validation if given.validation else sets.test
    try:
        classifier = Classifier.load(given.weights)
    except NnpipeError as error:
        sys.exit(str(error))
    cv2.setNumThreads(1)
    table(
        "Pages of composed forms",
        "form",
        "pages",
        "aligned within 1.5 mm",
        "farthest, mm (95 %)",
        "fields right",
        "right if cut where they are",
        "ok",
        "wrong of these",
        "seconds",
    )
    for kind in KINDS:
        rng = np.random.default_rng(5)
        counts: list[Count] = []
        for n in range(given.count):
            if n % 10 == 0:
                sheet = compose(rng, kind)
            counts.append(read(classifier, sheet, data, rng))
        errors = np.array([one.error for one in counts])
        right, cut, ok = (
            np.array([f(x, t) for c in counts for x, t in zip(getattr(c, k), c.truth, strict=True)])
            for k, f in (
                ("numbers", lambda x, t: x.label == t),
                ("cut", lambda x, t: x.label == t),
                ("numbers", lambda x, t: x.status == "ok"),
            )
        )
        row(
            kind,
            len(counts),
            f"{np.mean(errors < 1.5):.1%}",
            f"{np.quantile(errors, 0.95, method='lower'):.2f}",
            f"{right.mean():.1%}",
            f"{cut.mean():.1%}",
            f"{ok.mean():.1%}",
            f"{(ok & ~right).sum() / max(ok.sum(), 1):.2%}",
            spread([c.seconds for c in counts], ".2f"),
        )
        if given.validation:
            for sure in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98):
                every = [
                    (x.confidence or 0, x.label == t, x.label)
                    for c in counts
                    for x, t in zip(c.numbers, c.truth, strict=True)
                ]
                some = [r for p, r, label in every if p >= sure and label]
                print(sure, len(some) / len(every), 1 - np.mean(some))
    table("Foreign pages", "page", "pages", "accepted", "highest quality")
    rng = np.random.default_rng(6)
    for kind in FOREIGN:
        qualities = []
        for _ in range(given.count // 4):
            form = compose(rng, str(rng.choice(KINDS))).form
            shown, _ = seen(foreign(kind, rng), rng, turned=False)
            qualities.append(reading.read_page(shown, form, classifier=classifier).alignment)
        row(kind, len(qualities), sum(q > 0 for q in qualities), f"{max(qualities):.2f}")


if __name__ == "__main__":
    main()
