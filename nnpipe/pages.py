"""Files that hold several pages: the frames of a TIFF, and the pages of a PDF.

A page of a PDF is rendered by PDFium. No script runs, no link is followed and no attachment is
opened, because the part of PDFium for forms and scripts is never started.
"""

import atexit
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

from PIL import Image

from nnpipe.errors import MissingExtraError, PictureError, needs
from nnpipe.kinds import kind_of

MAYBE_MANY = (".pdf", ".tif", ".tiff")
"""Suffixes of the files whose pages are counted."""

KINDS = ("PDF", "TIFF")
"""Kinds of files that may have several pages."""

MOST_PAGES = 10_000
"""Pages of the longest file that is read."""

DPI = 300
"""Resolution of a page of a PDF that is not a scan, in pixels per inch."""

LEAST_DPI, MOST_DPI = 72, 600
"""Resolutions at which a scan is rendered; a page whose images are coarser is no scan."""

COVERED = 0.5
"""Share of a page that its images cover if it is a scan."""

POINTS = 72
"""Points per inch: the unit of lengths in a PDF."""

SLACK = 1e-6
"""Share by which a page is rendered smaller. Otherwise, rounding may add a row of pixels."""

REOPENED = 16
"""Pages after which a PDF is opened again, because PDFium keeps what it has read."""

SMALLER = 0.99
"""Factor by which the resolution of a page that is too large is lowered again and again."""

_LOCK = Lock()
"""PDFium serves one thread at a time."""


class Page(NamedTuple):
    """A page of a file."""

    content: bytes  # of the file
    number: int  # from 1


def count(content: bytes) -> int:
    """Return the number of pages of a file; 1 for any file but a PDF or a TIFF.

    Raises:
        PictureError: the file is damaged, encrypted or too long, or needs the extra ``scans``.
    """
    kind = kind_of(content)
    if kind == "PDF":
        with _LOCK, _pdf_errors():
            pages = len(_document(content))
    else:
        pages = len(_directories(content)) if kind == "TIFF" else 1
    if not pages:
        raise PictureError("the file has no pages")
    if pages > MOST_PAGES:
        raise PictureError(f"the file has more than {MOST_PAGES:,} pages; split it")
    return pages


def check_number(page: Page) -> int:
    """Return the number of pages of the file.

    Raises:
        PictureError: the file has no such page, or `count` raises it.
    """
    pages = count(page.content)
    if not 1 <= page.number <= pages:
        has = "one page" if pages == 1 else f"{pages:,} pages"
        raise PictureError(f"there is no page {page.number}; the file has {has}")
    return pages


@contextmanager
def scans(what: str) -> Iterator[None]:
    """Turn a failing import of a package of the extra ``scans`` into a `PictureError`.

    Raises:
        PictureError: an import in the block failed.
    """
    try:
        with needs("scans", what):
            yield
    except MissingExtraError as error:
        raise PictureError(str(error)) from None


def tiff_from(page: Page) -> bytes:
    """Return a TIFF whose first page is this page of a TIFF; see `check_number`."""
    order, wide = _layout(page.content)
    start, end = (8, 16) if wide else (4, 8)
    at = struct.pack(order + "IQ"[wide], _directories(page.content)[page.number - 1])
    return page.content[:start] + at + page.content[end:]


def _layout(content: bytes) -> tuple[str, bool]:
    """Return the byte order of a TIFF, and whether it is a BigTIFF, with numbers of 64 bits."""
    return "<" if content[:2] == b"II" else ">", b"+" in content[2:4]


@lru_cache(maxsize=1)
def _directories(content: bytes) -> list[int]:
    """Return where in a TIFF each page is described; at most one more than `MOST_PAGES`.

    Raises:
        PictureError: the list of pages is a loop.
    """
    order, wide = _layout(content)
    pointer, size, entry = ("Q", "Q", 20) if wide else ("I", "H", 12)
    places: dict[int, None] = {}
    try:
        (at,) = struct.unpack_from(order + pointer, content, 8 if wide else 4)
        while at and len(places) <= MOST_PAGES:
            if at in places:
                raise PictureError("the file is damaged: its list of pages is a loop")
            places[at] = None
            (entries,) = struct.unpack_from(order + size, content, at)
            at += struct.calcsize(order + size) + entries * entry
            (at,) = struct.unpack_from(order + pointer, content, at)
    except (struct.error, OverflowError):
        pass  # the last page is damaged, and nothing says where the next one would be
    return list(places)


def render(page: Page, *, max_pixels: int) -> Image.Image:
    """Render a page of a PDF in grey, as large as its images, or at 300 dpi; see `check_number`.

    Args:
        page: the page.
        max_pixels: pixels of the picture; a page that would have more gets a lower resolution.

    Raises:
        PictureError: the page cannot be rendered.
    """
    with _LOCK, _pdf_errors(f"page {page.number} of the PDF is damaged"):
        sheet = _document(page.content)[page.number - 1]
        try:
            width, height = sheet.get_size()
            scale = _resolution(sheet, area=width * height) / POINTS
            scale *= 1 - SLACK
            while math.ceil(width * scale) * math.ceil(height * scale) > max_pixels:
                scale *= SMALLER
            bitmap = sheet.render(scale=scale, grayscale=True, may_draw_forms=False)
            try:
                image: Image.Image = bitmap.to_pil().copy()  # it shares memory with the bitmap
                image.info["dpi"] = scale * POINTS, scale * POINTS
                return image
            finally:
                bitmap.close()
        finally:
            sheet.close()
            if page.number % REOPENED == 0:
                _document.cache_clear()


def _resolution(sheet: Any, *, area: float) -> float:
    """Return the resolution of a page in pixels per inch: that of its images if it is a scan.

    Args:
        sheet: the page.
        area: of the page, in square points.
    """
    from pypdfium2 import raw

    covered, finest = 0.0, 0.0
    for image in sheet.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]):
        a, b, c, d, *_ = image.get_matrix().get()
        pixels = c_uint(), c_uint()
        sides = math.hypot(a, b), math.hypot(c, d)
        if all(sides) and raw.FPDFImageObj_GetImagePixelSize(image, *map(byref, pixels)):
            covered += abs(a * d - b * c)
            finest = max(finest, *(n.value / side for n, side in zip(pixels, sides, strict=True)))
    if covered < COVERED * area or finest * POINTS < LEAST_DPI:
        return DPI
    return min(finest * POINTS, MOST_DPI)


# The pages of a file are read one after the other. The key is a file's content; its hash is
# computed once, because a bytes object keeps it.
@lru_cache(maxsize=1)
def _document(content: bytes) -> Any:
    """Open a PDF; the one that was opened before is closed."""
    with scans("a PDF"):
        from pypdfium2 import PdfDocument
    # Left open, it makes pypdfium2 print a message when the process ends.
    atexit.unregister(_document.cache_clear)
    atexit.register(_document.cache_clear)
    return PdfDocument(content)


@contextmanager
def _pdf_errors(damage: str = "the PDF is damaged, or has no pages") -> Iterator[None]:
    """Turn any exception of pypdfium2 into a `PictureError`.

    Args:
        damage: what it says, unless the file is encrypted.

    Raises:
        PictureError: the PDF cannot be read.
    """
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        if "assword" in str(error) or "ecurity" in str(error):
            damage = "the PDF is encrypted; save a copy that opens without a password"
        raise PictureError(damage) from error
