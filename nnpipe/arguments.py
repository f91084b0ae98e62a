"""The pages that are named on the command line. Child processes with limits open them."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice, tee
from pathlib import Path
from typing import Any, NamedTuple

from nnpipe.errors import NnpipeError, PictureError
from nnpipe.kinds import FIRST, kind_of
from nnpipe.pages import KINDS, Page, count
from nnpipe.preprocess import SECONDS, read_file
from nnpipe.processes import Function, over

Source = Path | bytes | PictureError
"""A file, or what was read from anything else."""


class NamedPage(NamedTuple):
    """A page that is named on the command line."""

    name: str  # in answers, such as "scan.pdf#3"
    path: str
    number: int  # of the file, from 1
    source: Source


def pages_of(names: Iterable[str]) -> Iterator[NamedPage]:
    """Yield the pages that are named, and each page of a file that is named.

    Args:
        names: paths, ``-`` for stdin, or a path and a page, such as "scan.pdf#3".
    """
    for name in names:
        match = re.fullmatch(r"(.+)#([0-9]{1,9})", name, re.DOTALL)
        if match and not Path(name).exists():
            yield NamedPage(name, match[1], int(match[2]), _source(match[1]))
            continue
        source, pages = _source(name), 1
        if kind_of(_start(source)) in KINDS:
            (counted,) = over(_count, [source], seconds=SECONDS, fork=True)
            pages = counted if isinstance(counted, int) else 1  # whose error says why
        for number in range(1, pages + 1):
            yield NamedPage(f"{name}#{number}" if pages > 1 else name, name, number, source)


def each(pages: Iterable[NamedPage], function: Function) -> Iterator[tuple[NamedPage, Any]]:
    """Call a function with each page, in a child process that has limits; see `processes.over`.

    Yields:
        The page, and what the function returned, or the error that it raised.
    """
    pages, again = tee(pages)
    results = over(partial(_on_page, function), again, seconds=SECONDS, fork=True)
    return zip(pages, results, strict=True)


def first_page(name: str, function: Function) -> Any:
    """Call a function with the page that is named, or the first one of a file, as `each` does.

    Raises:
        NnpipeError: the function raises it, or takes too long.
    """
    ((_, result),) = each(islice(pages_of([name]), 1), function)
    if isinstance(result, NnpipeError):
        raise type(result)(f"{name}: {result}", advice=result.advice)
    return result


def _on_page(function: Function, page: NamedPage) -> Any:
    return function(Page(_content(page.source), page.number))


def _count(source: Source) -> int:
    return count(_content(source))


@lru_cache(maxsize=1)  # the pages of a file are read one after the other
def _content(source: Source) -> bytes:
    if isinstance(source, PictureError):
        raise source
    return read_file(source) if isinstance(source, Path) else source


def _source(name: str) -> Source:
    """What a child process reads: a file, or the bytes of anything else."""
    if name == "-" and sys.stdin is None:
        raise PictureError("stdin is closed; pipe a picture into nnpipe, or name a file")
    if name == "-":
        return sys.stdin.buffer.read()
    try:  # a pipe is read here, where it may take its time
        return Path(name) if Path(name).is_file() else read_file(name)
    except PictureError as error:
        return error


def _start(source: Source) -> bytes:
    """Return the first bytes of a file, or none if it cannot be read."""
    if isinstance(source, Path):
        with suppress(OSError), source.open("rb") as stream:
            return stream.read(FIRST)
    return source if isinstance(source, bytes) else b""
