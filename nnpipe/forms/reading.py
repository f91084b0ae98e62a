"""A page and a form → the number in each field, and how it looks."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.errors import FormError, PictureError
from nnpipe.forms.alignment import Aligner, Array
from nnpipe.forms.checks import settle
from nnpipe.forms.description import Field, Form
from nnpipe.forms.frames import erase
from nnpipe.numbers.constraints import MOST_DIGITS
from nnpipe.numbers.reading import Number
from nnpipe.numbers.ways import prepare
from nnpipe.preprocess import Picture, Pixels
from nnpipe.preprocess.decoders import Opened
from nnpipe.preprocess.pictures import grey, open_picture

ENOUGH = 5000
"""Pixels of a page's longer side that suffice, or up to twice as many: A4 at 300 dpi has 3508."""

MARGIN = 0.2
"""Space around a field in which its frame is looked for, as a share of its height."""

KEPT = 0.0
"""Share of the margin that is read with the field."""

LARGEST_CROP = 3000
"""Pixels of the longer side of a cut field."""

VISIBLE = 0.9
"""Share of a field that must lie on the page."""

SURE = 0.95
"""Probability of a number below which somebody should look at it."""

NOT_THIS_FORM = "this page does not look like the form"


class PageReading(NamedTuple):
    """What was read from a page."""

    numbers: list[Number]  # one for each field, in the form's order
    alignment: float  # 0…1: how much of the form's print is in place; 0 if it is another page
    crops: list[Pixels]  # of each field; none if it is another page
    corners: Array  # (fields, 4, 2), clockwise from the upper left, in pixels of the page


def read_page(picture: Picture, form: Form, *, classifier: Classifier) -> PageReading:
    """Read the fields of a page.

    A page that does not show the form is no error: its fields are rejected.

    Args:
        picture: the page; see `preprocess.pictures.Picture`.
        form: what the page should look like.
        classifier: reads the numbers.

    Raises:
        PictureError: it cannot be read as a picture.
        FormError: the form's reference cannot be used.
    """
    opened = open_picture(picture, enough=ENOUGH)
    levels = np.rint(grey(opened.image, enough=ENOUGH)).astype(np.uint8)
    scale = opened.width / levels.shape[1]
    aligner, reference = _aligner(form.reference)
    size = reference.shape[::-1]
    boxes = np.array([field.box for field in form.fields]) * [*size, *size]
    boxes[:, 2:] += boxes[:, :2]
    found = None if opened.damage else aligner.find(levels, boxes)
    if not found:
        refused = _refused(opened.damage or NOT_THIS_FORM, width=opened.width, height=opened.height)
        nowhere = np.zeros((len(boxes), 4, 2))
        return PageReading([refused] * len(boxes), 0.0, [], nowhere)
    cuts = [
        _cut(levels, box, matrix=matrix, reference=reference, cells=_cells(field))
        for box, matrix, field in zip(boxes, found.fields, form.fields, strict=True)
    ]
    numbers = _read(
        form, cuts, classifier=classifier, visible=_visible(found.fields, boxes, page=levels.shape)
    )
    placed = [
        _on_page(number, np.diag([scale, scale, 1]) @ cut.matrix, opened=opened)
        for number, cut in zip(numbers, cuts, strict=True)
    ]
    settled = settle(form, placed) if form.checks else placed
    corners = np.array(
        [_mapped(_corners(box), m) for box, m in zip(boxes, found.fields, strict=True)]
    )
    answers = [_doubted(number, own) for number, own in zip(settled, placed, strict=True)]
    return PageReading(answers, found.quality, [cut.pixels for cut in cuts], corners * scale)


@lru_cache(maxsize=4)
def _aligner(reference: bytes) -> tuple[Aligner, Pixels]:
    """Return the aligner of a reference, and its brightness."""
    try:
        shown = grey(open_picture(reference, enough=ENOUGH).image, enough=ENOUGH)
    except PictureError as error:
        raise FormError(f"the reference of the form: {error}") from None
    levels = np.rint(shown).astype(np.uint8)
    return Aligner(levels), levels


class Cut(NamedTuple):
    """A field that was cut out of a page."""

    pixels: Pixels
    matrix: Array  # (3, 3), pixels of the cut → pixels of the page


def _cells(field: Field) -> int:
    """Return how many boxes for a digit a field has; 1 if any number of digits fits."""
    return 1 if field.wanted.most == MOST_DIGITS else field.wanted.most


def _cut(levels: Pixels, box: Array, *, matrix: Array, reference: Pixels, cells: int) -> Cut:
    """Cut a field with its frame, upright, at the page's own resolution.

    Args:
        levels: the page.
        box: left, top, right and bottom, in pixels of the reference.
        matrix: pixels of the reference → pixels of the page.
        reference: the form's reference.
        cells: boxes for a digit each, or 1.
    """
    margin = MARGIN * (box[3] - box[1])
    left, top, right, bottom = box + np.array([-1, -1, 1, 1]) * margin
    corners = _mapped(_corners([left, top, right, bottom]), matrix)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    size = [max(sides[n], sides[n + 2]) for n in (0, 1)]
    shrink = min(1, LARGEST_CROP / max(*size, 1))
    width, height = (max(1, round(side * shrink)) for side in size)
    onto = np.array(
        [[(right - left) / width, 0, left], [0, (bottom - top) / height, top], [0, 0, 1]]
    )
    whole = matrix @ onto
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    pixels, printed = (
        cv2.warpPerspective(
            image, way, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        for image, way in ((levels, whole), (reference, onto))
    )
    scaled = margin * height / (bottom - top)
    pixels = erase(pixels, printed, margin=scaled, cells=cells)
    cut = max(round(scaled * (1 - KEPT)), 0)
    shift = np.array([[1, 0, cut], [0, 1, cut], [0, 0, 1]])
    return Cut(pixels[cut : height - cut or None, cut : width - cut or None], whole @ shift)


def _read(
    form: Form, cuts: Sequence[Cut], *, classifier: Classifier, visible: Sequence[bool]
) -> list[Number]:
    """Read the fields; those that want the same numbers together."""
    numbers = [_refused("the field lies outside the picture")] * len(cuts)
    groups: dict[int, list[int]] = defaultdict(list)
    for index, field in enumerate(form.fields):
        if visible[index]:
            groups[id(field.wanted)].append(index)
    for group in groups.values():
        wanted = form.fields[group[0]].wanted
        prepared = [prepare(cuts[i].pixels, separators=bool(wanted.separators)) for i in group]
        read = classifier.read_numbers(prepared, wanted, keep=bool(form.checks))
        for index, number in zip(group, read, strict=True):
            numbers[index] = number
    return numbers


def _visible(matrices: Array, boxes: Array, *, page: tuple[int, ...]) -> list[bool]:
    """Return for each field whether it lies on the page."""
    height, width = page
    shares = []
    for box, matrix in zip(boxes, matrices, strict=True):
        x, y = np.meshgrid(np.linspace(box[0], box[2], 8), np.linspace(box[1], box[3], 8))
        x, y = _mapped(np.stack([x.ravel(), y.ravel()], axis=1), matrix).T
        shares.append(np.mean((x >= 0) & (y >= 0) & (x <= width) & (y <= height)))
    return [bool(share >= VISIBLE) for share in shares]


def _corners(box: Sequence[float] | Array) -> Array:
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _mapped(points: Array, matrix: Array) -> Array:
    """Return where a matrix maps points, (n, 2)."""
    x, y, depth = matrix @ np.stack([*points.T, np.ones(len(points))])
    return np.stack([x / depth, y / depth], axis=1)


def _refused(reason: str, *, width: int | None = None, height: int | None = None) -> Number:
    return Number("rejected", confidence=0.0, reason=reason, width=width, height=height)


def _on_page(number: Number, matrix: Array, *, opened: Opened) -> Number:
    """Return a number whose digits' boxes are in pixels of the page."""
    digits = []
    for digit in number.digits:
        points = _mapped(_corners(digit[2:]), matrix)
        box = *points.min(axis=0).round(1).tolist(), *points.max(axis=0).round(1).tolist()
        digits.append(digit._replace(left=box[0], top=box[1], right=box[2], bottom=box[3]))
    reason = "; ".join(filter(None, (number.reason, opened.note)))
    number = replace(number, digits=tuple(digits), reason=reason)
    return replace(number, width=opened.width, height=opened.height)


def _doubted(number: Number, own: Number) -> Number:
    """Return a number that is doubtful unless it is sure.

    Args:
        number: the answer.
        own: what the field shows by itself. If that was sure, no check changes it unseen.
    """
    if number.status != "ok":
        return number
    changed = own.label not in (None, number.label) and (own.confidence or 0) >= SURE
    if (number.confidence or 0) >= SURE and not changed:
        return number
    why = "" if changed else f"less sure than {SURE:.0%}"
    reason = "; ".join(filter(None, (why, number.reason)))
    return replace(number, status="doubtful", reason=reason)
