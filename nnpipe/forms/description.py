"""What a form looks like: its reference picture, its fields, and the checks across them.

A person writes it as TOML. `loading` puts the TOML and all files that it names into one JSON text.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpipe.errors import FormError, SettingError
from nnpipe.numbers.constraints import Wanted, wanted
from nnpipe.places import in_one_line

READING = 2
"""Version of the alignment and reading of forms. Raise it when pages would get other rows."""

MOST = 1000
"""Fields of the largest form, and the most checks."""

LONGEST_NAME = 100
"""Characters of the longest name of a field."""

MOST_SHARED = 0.25
"""Share of the smaller of two fields that the other may cover."""

OUTSIDE = 0.002
"""Share of the page's width or height by which a field may lie outside, because of rounding."""

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


def field_in_message(one: Mapping[str, Any], number: int) -> str:
    """Return how a message names a field: by its name, or by its number from 1."""
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
            f"{field_in_message(one, number)}: a name has 1 to {LONGEST_NAME} characters that can "
            "be printed"
        )
    return name.strip()


def numbers_in(value: Any, count: int, *, what: str) -> list[float]:
    """Return a list of finite numbers, each between −10⁹ and 10⁹."""
    is_list = isinstance(value, list) and len(value) == count
    if not is_list or not all(
        isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 for n in value
    ):
        raise FormError(f"{what} is {in_one_line(str(value))[:80]}, expected {count} numbers")
    return [float(n) for n in value]


def _box(value: Any, where: str) -> tuple[float, float, float, float]:
    """Return a box that lies on the page; rounding is mended."""
    left, top, width, height = numbers_in(value, 4, what=f"{where}: box")
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
        where = field_in_message(one, 0)
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
        raise FormError(f"two fields are named {twice!r}; give each field a name of its own")


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
        shown = name and in_one_line(name)[:LONGEST_NAME]
        if name not in names:
            raise FormError(f"the check {text[:200]!r} names {shown!r}, but there is no such field")
        if every.count(name) > 1:
            raise FormError(f"the check {text[:200]!r} names {shown!r} twice; name it once")
    return Check(text, sides)
