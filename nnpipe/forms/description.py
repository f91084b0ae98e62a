"""What a form looks like: its reference picture, its fields, and the checks across them.

A person writes it as TOML. `load_form` puts the TOML and all files that it names into one JSON
text, so that a worker on another machine needs no other file.
"""

import base64
import io
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nnpipe.errors import FormError, PictureError, SettingError
from nnpipe.numbers.constraints import Wanted, wanted
from nnpipe.pages import Page
from nnpipe.places import in_one_line
from nnpipe.preprocess import Picture
from nnpipe.preprocess.pictures import grey, open_picture, read_file

MOST = 1000
"""Fields of the largest form, and the most checks."""

LONGEST_NAME = 100
"""Characters of the longest name of a field."""

LARGEST = 1 << 20
"""Characters of the longest TOML file."""

MOST_SHARED = 0.25
"""Share of the smaller of two fields that the other may cover."""

OUTSIDE = 0.002
"""Share of the page's width or height by which a field may lie outside, because of rounding."""

REFERENCE_SIDE = 2000
"""Pixels of the longer side of a reference that suffice."""

DPI = (30.0, 2400.0)
"""Resolutions of a reference that are believed, in pixels per inch."""

MM = 25.4
"""Millimetres per inch."""

TOP = {"reference", "page", "unit", "fields", "checks"}
CONSTRAINTS = ("digits", "separators", "valid", "check", "between")
"""Keys of a field besides its name and box, as `numbers.constraints.wanted` takes them."""


@dataclass(frozen=True)
class Field:
    """A place on a page that holds a number."""

    name: str
    # Left, top, width, height, as shares 0…1 of the reference's width and height.
    box: tuple[float, float, float, float]
    wanted: Wanted


@dataclass(frozen=True)
class Check:
    """Sums of fields that are equal."""

    text: str  # such as "a + b = total"
    sides: tuple[tuple[str, ...], ...]  # names of the fields that are added up, two sides or more


@dataclass(frozen=True)
class Form:
    """A page with fields."""

    reference: bytes  # a picture file
    fields: tuple[Field, ...]
    checks: tuple[Check, ...] = ()


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
        content = _self_contained(tomllib.loads(text), path.parent)
        parse_form(content)
    except (PictureError, FormError) as error:
        raise FormError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise FormError(f"{path}: is not TOML ({in_one_line(error)[:200]})") from None
    return content


def parse_form(content: bytes) -> Form:
    """Return the form of a text that `load_form` wrote.

    Raises:
        FormError: a part is missing or wrong.
        MissingExtraError: a check digit needs python-stdnum.
    """
    try:
        text = json.loads(content)
        reference = base64.b64decode(text["reference"], validate=True)
        memo: dict[str, Wanted] = {}  # fields that want the same numbers share them
        fields = [
            _parse_field(one, n, lists=text["lists"], memo=memo)
            for n, one in enumerate(text["fields"], 1)
        ]
        _check_names(fields)
        _check_overlap(fields)
        checks = tuple(
            _parse_check(one, {field.name for field in fields}) for one in text["checks"]
        )
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise FormError("the kept form is damaged; score into a new output") from None
    return Form(reference, tuple(fields), checks)


def _parse_field(
    one: Mapping[str, Any], number: int, *, lists: Mapping[str, list[str]], memo: dict[str, Wanted]
) -> Field:
    name = _name(one, number)
    return Field(name, _box(one["box"], f"field {name!r}"), _wanted(one, lists=lists, memo=memo))


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
        page = np.array(_numbers(form["page"], 2, what="page"))
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
    where = _field(one, number)
    _check_keys(one, {"name", "box", *CONSTRAINTS}, where=f"{where}: ")
    if "box" not in one:
        raise FormError(f"{where} has no box; add box = [left, top, width, height]")
    box = np.array(_numbers(one["box"], 4, what=f"{where}: box")) / [*page, *page]
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
        raise FormError(f"reference {in_one_line(name)!r}: {error}") from None
    levels = grey(opened.image, enough=REFERENCE_SIDE)
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


def _field(one: Mapping[str, Any], number: int) -> str:
    """How a message names a field."""
    name = one.get("name")
    return (
        f"field {in_one_line(name)[:LONGEST_NAME]!r}"
        if isinstance(name, str)
        else f"field {number}"
    )


def _name(one: Mapping[str, Any], number: int) -> str:
    name = one.get("name")
    if not isinstance(name, str) or not name.strip():
        raise FormError(f'field {number} has no name; add name = "…"')
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise FormError(
            f"{_field(one, number)}: a name has 1 to {LONGEST_NAME} characters that can be printed"
        )
    return name.strip()


def _numbers(value: Any, count: int, *, what: str) -> list[float]:
    """Return a list of finite numbers, each between −10⁹ and 10⁹."""
    is_list = isinstance(value, list) and len(value) == count
    if not is_list or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 for n in value
    ):
        raise FormError(f"{what} is {in_one_line(str(value))[:80]}, expected {count} numbers")
    return [float(n) for n in value]


def _box(value: Any, where: str) -> tuple[float, float, float, float]:
    """Return a box that lies on the page; rounding is mended."""
    left, top, width, height = _numbers(value, 4, what=f"{where}: box")
    right, bottom = left + width, top + height
    if width <= 0 or height <= 0:
        raise FormError(f"{where}: the width and the height of its box must be greater than 0")
    if min(left, top) < -OUTSIDE or max(right, bottom) > 1 + OUTSIDE:
        raise FormError(f"{where}: its box lies outside the page; check the unit and the box")
    left, top = max(left, 0.0), max(top, 0.0)
    return left, top, min(right, 1.0) - left, min(bottom, 1.0) - top


def _wanted(
    one: Mapping[str, Any], *, lists: Mapping[str, list[str]], memo: dict[str, Wanted]
) -> Wanted:
    """Return which numbers a field may hold."""
    options = {key: one[key] for key in CONSTRAINTS if key in one}
    key = json.dumps(options, sort_keys=True)
    if key not in memo:
        where = _field(one, 0)
        texts = [options.get(name, "") for name in ("separators", "check")]
        digits = options.get("digits", "any")
        if isinstance(digits, bool) or not isinstance(digits, int | str):
            raise FormError(f"{where}: digits is {digits!r}, expected any, 4 or 2-6")
        if not all(isinstance(text, str) for text in texts):
            raise FormError(f"{where}: separators and check are texts; put them in quotes")
        if isinstance(valid := options.get("valid"), str):
            options["valid"] = lists.get(valid, [])
        elif valid is not None and not isinstance(valid, list):
            raise FormError(f"{where}: valid is {valid!r}, expected a file or a list of numbers")
        try:
            memo[key] = wanted(**options)
        except SettingError as error:
            raise FormError(f"{where}: {error}") from None
    return memo[key]


def _check_names(fields: list[Field]) -> None:
    names = [field.name for field in fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise FormError(f"field {twice!r} is there twice; give each field a name of its own")


def _check_overlap(fields: list[Field]) -> None:
    """Refuse two fields that share more than a part of the smaller one."""
    boxes = np.array([field.box for field in fields])
    first, last, area = boxes[:, :2], boxes[:, :2] + boxes[:, 2:], boxes[:, 2:].prod(axis=1)
    for number, field in enumerate(fields):
        others = slice(number + 1, None)
        sides = np.minimum(last[number], last[others]) - np.maximum(first[number], first[others])
        shared = sides.clip(0).prod(axis=1) / np.minimum(area[number], area[others])
        if (shared > MOST_SHARED).any():
            other = fields[number + 1 + int(shared.argmax())].name
            raise FormError(
                f"fields {field.name!r} and {other!r} overlap; correct the box of one of them"
            )


def _parse_check(equal: Any, names: set[str]) -> Check:
    """Return a check; its sides are sums of names, such as "a + b"."""
    is_list = isinstance(equal, list) and len(equal) > 1
    if not is_list or not all(isinstance(side, str) for side in equal):
        raise FormError('a check has no sides; write equal = ["a + b", "total"]')
    sides = tuple(tuple(part.strip() for part in side.split("+")) for side in equal)
    text = " = ".join(" + ".join(side) for side in sides)
    every = [name for side in sides for name in side]
    for name in every:
        shown = in_one_line(name)[:LONGEST_NAME]
        if name not in names:
            raise FormError(f"the check {text[:200]!r} names {shown!r}, which is no field")
        if every.count(name) > 1:
            raise FormError(f"the check {text[:200]!r} names {shown!r} twice; name it once")
    return Check(text, sides)
