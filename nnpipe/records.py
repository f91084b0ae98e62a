"""Records: JSON documents that become dataclasses. Every part is checked.

A file may come from anywhere and may be damaged. Reading one never waits, takes bounded memory, and
ends in a value of the declared type or in an error that names the field.
"""

import errno
import json
import os
import reprlib
from collections import Counter
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from nnpipe.files import open_regular
from nnpipe.places import UNSAFE, Place

MOST_BYTES = 256 * 1024 * 1024
"""Largest file that is read into memory, in bytes."""

MOST_JSON = 16 * 1024 * 1024
"""Largest JSON document, in bytes; those of nnpipe have a few thousand."""

MOST_TEXT = 10_000
"""Longest string that people are shown, in characters. Paths may be longer."""

LARGEST = 2**63
"""Limit of the absolute value of a number. NaN is not below it."""

DEPTH = 20
"""Most nested lists and objects in a record."""


def read_bytes(path: Place, most: int = MOST_BYTES, *, links: bool = True) -> bytes:
    """Read a regular file of at most ``most`` bytes; see `files.open_regular`.

    Raises:
        OSError: the file cannot be read, is too large, or is no regular file.
    """
    with open_regular(path, links=links) as stream:
        size = stream.seek(0, os.SEEK_END)  # a large file is refused before it is read
        stream.seek(0)
        content = stream.read(size + 1) if size <= most else b""
    if max(size, len(content)) > most:
        raise OSError(errno.EFBIG, f"has more than {most:,} bytes", str(path))
    return content


def load(kind: Any, path: Place, *, printable: bool = True) -> Any:
    """Read a JSON file as a value of type ``kind``; see `build`.

    Raises:
        OSError: see `read_bytes`.
        ValueError: the file is not UTF-8, not JSON, or not a ``kind``.
    """
    return build(kind, parse(read_bytes(path, MOST_JSON).decode()), printable=printable)


def parse(text: str) -> Any:
    """Parse JSON, in which NaN and Infinity are errors.

    Raises:
        ValueError: it is not JSON, or is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def build(
    kind: Any, value: Any, *, name: str = "the document", printable: bool = True, depth: int = 0
) -> Any:
    """Make a value of type ``kind`` from parsed JSON, and check every part.

    Args:
        kind: a dataclass, ``list[X]``, ``tuple[X, ...]``, ``tuple[X, Y]``, ``dict[str, X]``,
            ``Counter[str]``, ``X | None``, ``Any``, ``str``, ``int``, ``float``, ``bool`` or
            ``Path``.
        value: from `parse`.
        name: what an error calls the value.
        printable: whether text may only have printable characters, at most `MOST_TEXT` of them.
        depth: levels above the value.

    Raises:
        ValueError: a part is missing, unknown, of another type, too long, nested too deep, not
            finite or too large, or has characters that cannot be printed.
    """
    if kind is Any:
        kind = {list: list[Any], dict: dict[str, Any]}.get(type(value), type(value))  # type: ignore[call-overload]
    origin, inner = get_origin(kind), get_args(kind)
    options: dict[str, Any] = {"printable": printable, "depth": depth + 1}
    if origin is UnionType:
        return None if value is None else build(inner[0], value, name=name, **options)
    if depth > DEPTH:
        raise ValueError(f"{name} is nested too deep")
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        needed = {field.name for field in fields(kind) if field.default is MISSING}
        if missing := needed - value.keys():
            raise ValueError(f"{name} lacks {min(missing)}")
        return kind(**build_fields(kind, value, name=name, **options))
    if origin in (list, tuple) and isinstance(value, list):
        kinds = inner if origin is tuple and ... not in inner else inner[:1] * len(value)
        pairs = zip(kinds, value, strict=True)  # raises a ValueError itself
        return origin(build(part, item, name=name, **options) for part, item in pairs)
    if origin in (dict, Counter) and isinstance(value, dict):
        part = int if origin is Counter else inner[1]
        keys = (build(str, key, name=f"a key of {name}", **options) for key in value)
        items = (build(part, item, name=name, **options) for item in value.values())
        return origin(dict(zip(keys, items, strict=True)))
    if kind is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    if type(value) is kind or (kind is float and type(value) is int):
        if isinstance(value, str):
            right = not printable or not (len(value) > MOST_TEXT or UNSAFE.search(value))
        else:
            right = value is None or abs(value) < LARGEST
        if right:
            return value
    expected = getattr(kind, "__name__", str(kind))
    raise ValueError(f"{name} is {reprlib.repr(value)}, expected {expected}")


def build_fields(
    kind: type, value: Any, *, name: str = "the document", **options: Any
) -> dict[str, Any]:
    """Make the values of some fields of a class from a JSON object; see `build`.

    Raises:
        ValueError: it is no object, has an unknown field, or a value of another type.
    """
    hints = get_type_hints(kind)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {reprlib.repr(value)}, expected an object")
    if unknown := value.keys() - hints.keys():
        raise ValueError(f"{name} has the unknown field {reprlib.repr(min(unknown))}")
    return {
        field: build(hints[field], item, name=field, **options) for field, item in value.items()
    }
