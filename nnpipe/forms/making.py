"""Make a form: propose its fields as TOML, and try it on a page.

Each function works on one page in a child process, and returns what the command line writes.
"""

import json
import os
from collections.abc import Sequence
from math import floor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.errors import FormError, PictureError
from nnpipe.forms.description import parse_form
from nnpipe.forms.drawing import AMBER, BLUE, GREEN, RED, Mark, draw, upright
from nnpipe.forms.finding import Proposal, find_fields, page_size
from nnpipe.forms.geometry import corners
from nnpipe.forms.reading import ENOUGH, levels_of, read_page
from nnpipe.numbers.reading import Number
from nnpipe.preprocess.pictures import Picture, open_picture

COLOURS = {"ok": GREEN, "doubtful": AMBER}
"""Colours by status; any other one is red."""


class Draft(NamedTuple):
    """Fields of a page that becomes the reference of a form."""

    fields: list[Proposal]
    size: tuple[float, float] | None  # width and height of the page in millimetres
    drawing: bytes  # PNG


class Trial(NamedTuple):
    """What a form reads on a page."""

    names: list[str]
    numbers: list[Number]
    alignment: float  # 0…1
    drawing: bytes  # PNG


def propose(picture: Picture) -> Draft:
    """Propose the fields of a page.

    Raises:
        PictureError: the page cannot be read.
        FormError: it has no fields.
    """
    opened = open_picture(picture, enough=ENOUGH)
    if opened.damage:
        raise PictureError(opened.damage)
    levels = levels_of(opened)
    size = page_size(opened.width, opened.height, dpi=opened.image.info.get("dpi"))
    fields = find_fields(levels, size=size)
    if not fields:
        raise FormError(
            "found no boxes, combs or ruled cells on this page; scan the empty form at 300 dpi, or "
            "write the form yourself, as docs/forms.md shows"
        )
    sides = levels.shape[::-1]
    marks = []
    for name, (left, top, width, height), digits in fields:
        place = corners([left, top, left + width, top + height]) * sides
        marks.append(Mark(place, f"{name} ({digits})", BLUE, inside=True))
    return Draft(fields, size, draw(levels, marks))


def as_toml(draft: Draft, *, page: str, folder: Path) -> bytes:
    """Return the form that has the proposed fields.

    Args:
        draft: the fields.
        page: path of the page, which becomes the reference.
        folder: where the form will lie.

    Raises:
        FormError: the path of the page cannot be written.
    """
    if page == "-":
        raise FormError("a form names its page; save it as a file first")
    reference = os.path.relpath(page, folder).replace(os.sep, "/")
    if not reference.isprintable():
        raise FormError("the page's name has signs that a form cannot hold; rename the file")
    unit = draft.size or (100.0, 100.0)
    lines = [
        "# A form that nnpipe proposed. Its picture shows where each field is. What to do next:",
        "# 1. Give the fields names, remove those that you do not need, and correct the others.",
        '# 2. Say how many digits they have: digits = 3, "1-4" or "any". You may also add',
        '#    valid = "numbers.csv" or between = "0-100".',
        "# 3. If fields add up, add a check, such as:",
        "# [[checks]]",
        '# equal = ["votes_a + votes_b", "total"]',
        "",
        f"reference = {json.dumps(reference, ensure_ascii=False)}",
        'unit = "mm"' if draft.size else 'unit = "%"  # of the width and the height of the page',
    ]
    if draft.size:
        lines.append(f"page = [{draft.size[0]:.1f}, {draft.size[1]:.1f}]  # width and height")
        unit = round(draft.size[0], 1), round(draft.size[1], 1)
    for field in draft.fields:
        box = ", ".join(f"{s * u:.2f}" for s, u in zip(field.box, [*unit, *unit], strict=True))
        digits = field.digits if field.digits.isdigit() else f'"{field.digits}"'
        lines += [
            "",
            "[[fields]]",
            f'name = "{field.name}"',
            f"box = [{box}]",
            f"digits = {digits}",
        ]
    return "\n".join([*lines, ""]).encode()


def try_form(picture: Picture, *, form: bytes, weights: Path | None) -> Trial:
    """Read a page with a form, and draw where the fields fall.

    Args:
        picture: the page.
        form: as `description.load_form` returns it.
        weights: the weights file; None for the one that comes with nnpipe.

    Raises:
        PictureError: the page cannot be read.
        FormError: the page does not look like the form.
    """
    described = parse_form(form)
    opened = open_picture(picture, enough=ENOUGH)
    page = read_page(opened, described, classifier=Classifier.load(weights))
    if opened.damage or not page.crops:
        raise FormError(opened.damage or page.numbers[0].reason)
    levels = levels_of(opened)
    names = [field.name for field in described.fields]
    scale = np.array(levels.shape[::-1]) / [opened.width, opened.height]
    marks = [
        Mark(place * scale, _caption(name, number), COLOURS.get(number.status, RED))
        for name, number, place in zip(names, page.numbers, page.corners, strict=True)
    ]
    return Trial(names, page.numbers, page.alignment, draw(*upright(levels, marks)))


def _caption(name: str, number: Number) -> str:
    return f"{name}: {number.label or '-'} {floor(100 * (number.confidence or 0))}%"


def as_table(trial: Trial) -> Sequence[tuple[str, ...]]:
    """Return the rows of a table: field, status, label, confidence and reason."""
    rows = [("field", "status", "label", "confidence", "reason")]
    for name, number in zip(trial.names, trial.numbers, strict=True):
        confidence = f"{floor(1000 * (number.confidence or 0)) / 10:.1f}%"  # 94.96 is below 95
        rows.append((name, number.status, number.label or "-", confidence, number.reason))
    return rows
