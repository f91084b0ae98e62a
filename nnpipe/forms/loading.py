"""A form as TOML, and the files that it names → one text for `description.parse_form`.

A person writes the TOML. The text needs no other file, so that a worker on another machine can
read it.
"""

import base64
import io
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nnpipe.errors import FormError, PictureError, SettingError
from nnpipe.forms.description import CONSTRAINTS, MOST, field_in_message, numbers_in, parse_form
from nnpipe.forms.geometry import square
from nnpipe.numbers.constraints import wanted
from nnpipe.pages import Page
from nnpipe.places import in_one_line
from nnpipe.preprocess import Picture
from nnpipe.preprocess.pictures import grey, open_picture, read_file

LARGEST = 1 << 20
"""Characters of the longest TOML file."""

DEEPEST = 100
"""Parts of the longest key; a longer one may take all memory."""

REFERENCE_SIDE = 2000
"""Pixels of the longer side of a reference that suffice."""

DPI = (30.0, 2400.0)
"""Resolutions of a reference that are believed, in pixels per inch."""

MM = 25.4
"""Millimetres per inch."""

TOP = {"reference", "page", "unit", "fields", "checks"}


def load_form(path: Path) -> bytes:
    """Read a form and everything that it names into one text for `parse_form`.

    Args:
        path: the TOML file. Paths in it are relative to its folder.

    Raises:
        FormError: the file is missing or wrong; the message names the file and the field.
        MissingExtraError: a check digit needs python-stdnum.
    """
    try:
        text = read_file(path, regular=True).decode("utf-8-sig")
        if len(text) > LARGEST:
            raise FormError("the file has more than a million characters, so it is no form")
        if max(part.count(".") for part in re.split(r"[\n=,]", text)) > DEEPEST:
            raise FormError(f"a key has more than {DEEPEST} parts, so it is no form")
        content = _self_contained(tomllib.loads(text), path.parent)
        parse_form(content)
    except (PictureError, FormError) as error:
        raise FormError(f"{path}: {error}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise FormError(f"{path}: is not TOML ({in_one_line(error)[:200]})") from None
    return content


def _self_contained(form: Mapping[str, Any], folder: Path) -> bytes:
    """Return a form as JSON, with the files that it names."""
    _check_keys(form, TOP)
    fields, checks = _tables(form, "fields"), _tables(form, "checks")
    if not fields:
        raise FormError("has no fields; add a part [[fields]] with name and box for each")
    if max(len(fields), len(checks)) > MOST:
        raise FormError(f"has more than {MOST:,} fields or checks; split the form")
    if not isinstance(form.get("reference"), str):
        raise FormError('has no reference; add reference = "page.png", a picture of the form')
    image, page = _open_reference(form["reference"], folder)
    unit = form.get("unit", "mm")
    if unit not in ("mm", "%"):
        raise FormError(f'unit is {unit!r}, expected "mm" or "%"')
    if "page" in form:
        page = np.array(numbers_in(form["page"], 2, what="page"))
    if unit == "%":
        page = np.array([100.0, 100.0])
    elif page is None:
        raise FormError(
            "the reference does not say how large it is; add page = [width, height] in "
            'millimetres, or give boxes in shares of the page with unit = "%"'
        )
    if not (page > 0).all():
        raise FormError(f"page is {page.tolist()}, expected its width and height")
    lists: dict[str, list[str]] = {}
    content = [
        _field_content(one, n, folder=folder, page=page, lists=lists)
        for n, one in enumerate(fields, 1)
    ]
    for one in checks:
        _check_keys(one, {"equal"}, where="a check: ")
    shown = io.BytesIO()
    image.save(shown, "PNG")
    text = {
        "reference": base64.b64encode(shown.getvalue()).decode(),
        "fields": content,
        "checks": [one.get("equal") for one in checks],
        "lists": lists,
    }
    return json.dumps(text, ensure_ascii=False, allow_nan=True).encode()


def _field_content(
    one: Mapping[str, Any],
    number: int,
    *,
    folder: Path,
    page: np.ndarray,
    lists: dict[str, list[str]],
) -> dict[str, Any]:
    """Return a field with its box in shares of the page, and add the list that it names."""
    where = field_in_message(one, number)
    _check_keys(one, {"name", "box", *CONSTRAINTS}, where=f"{where}: ")
    if "box" not in one:
        raise FormError(f"{where} has no box; add box = [left, top, width, height]")
    box = np.array(numbers_in(one["box"], 4, what=f"{where}: box")) / [*page, *page]
    kept = {key: one[key] for key in ("name", *CONSTRAINTS) if key in one} | {"box": box.tolist()}
    if isinstance(valid := one.get("valid"), str) and valid not in lists:
        if not (folder / valid).is_file():  # a pipe or a device may never end
            raise FormError(f"{where}: {folder / valid} is no file; expected one number per line")
        try:
            read = wanted(valid=folder / valid).valid
        except (SettingError, ValueError) as error:
            raise FormError(f"{where}: {error}") from None
        lists[valid] = read.numbers if read else []
    return kept


def _open_reference(name: str, folder: Path) -> tuple[Image.Image, np.ndarray | None]:
    """Return the reference in grey, and its width and height in millimetres, if it says them.

    Args:
        name: a path, or a path and the number of a page, such as "form.pdf#2".
        folder: the path is relative to it.
    """
    file, mark, number = name.rpartition("#")
    picture: Picture
    try:
        path = folder / name
        if mark and number.isascii() and number.isdigit() and not path.exists():
            picture = Page(read_file(folder / file, regular=True), int(number[:9]))
        else:
            picture = read_file(path, regular=True)
        opened = open_picture(picture, enough=REFERENCE_SIDE)
        if opened.damage:
            raise PictureError(opened.damage)
    except (PictureError, ValueError) as error:
        raise FormError(f"reference {in_one_line(name)[:200]!r}: {error}") from None
    levels = square(grey(opened.image, enough=REFERENCE_SIDE), opened.image.info.get("dpi"))
    page = None
    dpi = opened.image.info.get("dpi")
    if dpi and all(DPI[0] <= float(one) <= DPI[1] for one in dpi):
        page = np.array([opened.width, opened.height]) * MM / np.array(dpi, np.float64)
    return Image.fromarray(np.rint(levels).astype(np.uint8)), page


def _tables(form: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    tables = form.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise FormError(f"{key} is no list of tables; begin each with a line [[{key}]]")
    return tables


def _check_keys(table: Mapping[str, Any], keys: Iterable[str], *, where: str = "") -> None:
    if wrong := sorted(set(table) - set(keys)):
        expected = ", ".join(sorted(keys))
        raise FormError(f"{where}there is no key {in_one_line(wrong[0])[:40]!r}; use {expected}")
