"""Bytes of a file → a decoded picture, by one of a fixed list of decoders."""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from nnpipe import pages
from nnpipe.errors import PictureError
from nnpipe.kinds import FIRST, kind_of
from nnpipe.pages import Page

DECODERS = {
    "PNG": ("PNG", "Png"),
    "JPEG": ("JPEG", "Jpeg"),
    "TIFF": ("TIFF", "Tiff"),
    "BMP": ("BMP", "Bmp"),
    "GIF": ("GIF", "Gif"),
    "WebP": ("WEBP", "WebP"),
    "PNM": ("PPM", "Ppm"),
    "AVIF": ("AVIF", "Avif"),
    "JPEG 2000": ("JPEG2000", "Jpeg2K"),
    "ICO": ("ICO", "Ico"),
}
"""For each kind of picture that nnpipe reads, Pillow's name of the format and the prefix of its
module in Pillow. Pillow has more decoders, but some start programs, such as PostScript's."""

KINDS = (*DECODERS, "HEIC", "PDF")
"""The kinds of pictures that are read; the last two need the extra ``scans``."""

FORMATS = ", ".join(KINDS)

PILLOW_FORMATS = {name for name, _ in DECODERS.values()} | {"MPO", "HEIF"}
"""Pillow's names of these formats. MPO is a JPEG file with several pictures, HEIF includes HEIC."""

REMEDIES = {"a Git LFS pointer": "fetch the picture with 'git lfs pull'"}

MAX_PIXELS = 100_000_000
"""Pixels of the largest picture that is decoded; larger ones may be made to fill the memory."""

MAX_SCANS = 100
"""Scans of a JPEG that are decoded at most. A progressive JPEG has about ten."""

MAX_WORK = 1_000_000_000
"""Most scans times pixels of a JPEG that is decoded; that many take a few seconds."""

MAX_MISSING = 0.05
"""Share of the rows of a JPEG that may be missing at its end. At 0.05, 1 in 300 pictures is read
differently; of pictures that are cropped to their ink, 1 in 24. At 0.1, it is 1 in 13 of these."""

ENOUGH = 250
"""Pixels. A picture whose longer side has at least twice as many is shrunk by a whole factor to one
or two times this: finer detail costs time and does not help."""

TAIL = bytes(range(1, 255)) + b"\xff\xd9"
"""Bytes to append to a JPEG that is cut off. The rows that they change are the missing ones."""

TOO_MANY = "the picture has more than the {} million pixels that are read; make it smaller"
WHOLE = "the file is damaged ({}), but the picture in it is whole"
END_MISSING = "its last bytes are missing"

ADAM7 = [tuple(map(int, p)) for p in ("0088", "4088", "0448", "2044", "0224", "1022", "0112")]
"""The passes of an interlaced PNG: first column, first row, step of columns, step of rows."""

NEEDED = b"IHDR", b"PLTE", b"tRNS", b"IDAT"
"""The chunks of a PNG that its pixels depend on."""

SENTENCES = re.compile(
    r"(image file is truncated|broken data stream|Truncated|[Uu]n(supported|known comp))[\w ()]*"
)
"""Messages of Pillow that help users. Most others are about the parts of Pillow."""

T = TypeVar("T")


class Opened(NamedTuple):
    """A decoded picture."""

    image: Image.Image  # large JPEGs are decoded at a fraction of their size
    width: int  # of the original
    height: int
    note: str  # what is wrong with the file or was left out; empty if nothing
    damage: str = ""  # why its pixels are not trustworthy; empty if they are
    decode_fully: Callable[[], Image.Image] | None = None  # if it was decoded at a fraction


class DamagedError(PictureError):
    """A picture that its decoder cannot read. Its argument is the decoder's message, or empty."""

    def __str__(self) -> str:
        return f"the picture is damaged{self.args[0] and f' ({self.args[0]})'}"


def damaged(error: Exception) -> DamagedError:
    """Return the error for an exception of Pillow."""
    return DamagedError(str(error) if SENTENCES.fullmatch(str(error)) else "")


@contextmanager
def damage_noticed() -> Iterator[None]:
    """Turn any exception of Pillow into a `PictureError`.

    Raises:
        PictureError: the picture cannot be read.
    """
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(TOO_MANY.format(MAX_PIXELS // 10**6)) from None
    except Exception as error:
        raise damaged(error) from error


def open_header(stream: io.BytesIO) -> Image.Image:
    """Read the header of a picture with the decoder for its kind.

    Raises:
        PictureError: the picture is of another kind.
        Exception: whatever Pillow raises for a damaged picture.
    """
    kind = kind_of(stream.getbuffer()[:FIRST].tobytes())
    stream.seek(0)
    if kind == "HEIC":
        with pages.scans("a HEIC picture"):
            return import_module("pillow_heif").HeifImageFile(stream, "")
    if kind not in DECODERS:
        what = f"{kind}, " if kind else ""
        remedy = REMEDIES.get(kind or "", "save the picture as PNG or JPEG")
        raise PictureError(f"this is {what}not a picture that nnpipe reads ({FORMATS}); {remedy}")
    name, module = DECODERS[kind]
    import_module(f"PIL.{module}ImagePlugin")
    # `Image.open` would import five decoders, which takes longer than reading a picture.
    factory, _ = Image.OPEN[name]
    return factory(stream, "")


def open_mended(stream: io.BytesIO) -> Image.Image:
    """Read the header of a picture, mended if it is damaged.

    Raises:
        PictureError: the picture is of another kind, or too damaged.
    """
    return _mended(stream, open_header)[0]


def _mended(stream: io.BytesIO, read: Callable[[io.BytesIO], T]) -> tuple[T, str]:
    """Read a picture, mended if it is damaged, and return it with what is wrong with the file."""
    try:
        with damage_noticed():
            return read(stream), ""
    except DamagedError as error:
        mended, wrong = _mend(stream, error)
    with damage_noticed():
        return read(mended), wrong


def check_size(image: Image.Image, content: bytes = b"", *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse a picture that takes too much memory or time to decode.

    Args:
        image: an opened picture.
        content: the bytes of its file, if any.
        max_pixels: pixels that it may have.

    Raises:
        PictureError: the picture has no pixels, too many, or is a JPEG with too many scans.
    """
    pixels = image.width * image.height
    if not pixels:
        raise PictureError("the picture has no pixels")
    if pixels > max_pixels:
        raise PictureError(TOO_MANY.format(max_pixels // 10**6))
    scans = min(MAX_SCANS, MAX_WORK // pixels)
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > scans:
        raise PictureError(f"the picture has more than the {scans} scans that are read")


def decode(stream: io.BytesIO, *, enough: int = ENOUGH, max_pixels: int = MAX_PIXELS) -> Opened:
    """Decode the first page of a file, a JPEG at a fraction of its size if that is enough.

    Args:
        stream: the file.
        enough: pixels of the longer side that suffice.
        max_pixels: pixels to which a page of a PDF is rendered at most.

    Raises:
        PictureError: the picture is of another kind, too large, or too damaged.
    """
    content = stream.getvalue()
    if not content:
        raise PictureError("the file is empty")
    kind, wrong = kind_of(content), ""
    number = pages.count(content) if kind in ("PDF", "TIFF") else 1
    if kind == "PDF":
        opened = decode_page(Page(content, 1), max_pixels=max_pixels)
    else:
        opened, wrong = _mended(stream, partial(_decode, enough=enough))
    if number > 1:
        return opened._replace(note=f"the first of {number:,} pages was read")
    return opened._replace(note=WHOLE.format(wrong)) if wrong else opened


def decode_page(page: Page, *, enough: int = ENOUGH, max_pixels: int = MAX_PIXELS) -> Opened:
    """Decode a page of a file; see `decode`.

    Raises:
        PictureError: as `decode` does; or the file has no such page.
    """
    kind = kind_of(page.content)
    pages.check_number(page)
    if kind == "PDF":
        image = pages.render(page, max_pixels=max_pixels)
        return Opened(image, *image.size, "")
    if kind == "TIFF":
        with damage_noticed():
            return _decode(io.BytesIO(pages.tiff_from(page)), enough=enough)
    return decode(io.BytesIO(page.content), enough=enough)


def _decode(stream: io.BytesIO, *, enough: int) -> Opened:
    image, content = open_header(stream), stream.getvalue()
    check_size(image, content)
    width, height = image.size
    note = ""
    if image.format in ("JPEG", "MPO"):  # the second picture of an MPO is a preview
        part = next((n for n in (8, 4, 2) if max(image.size) >= n * enough), 1)
        if opened := _decode_jpeg(image, content, part=part):
            if part > 1:
                opened = opened._replace(decode_fully=partial(_decode_whole, image, content))
            return opened
        size = max(1, width // part), max(1, height // part)
        image.draft("L" if image.mode == "RGB" else None, size)
    elif image.format != "TIFF" and (frames := getattr(image, "n_frames", 1)) > 1:
        which = "main one" if image.format == "HEIF" else "first"
        note = f"the {which} of {frames} frames was read"
    elif image.format == "PNG" and content.rfind(b"IEND") < 0:
        note = WHOLE.format(END_MISSING)
    image.load()
    if image.format == "PNG" and _lacks_rows(image, content):
        raise OSError("image file is truncated")
    return Opened(image, width, height, note)


def _lacks_rows(image: Image.Image, content: bytes) -> bool:
    """Return True if the data of a PNG end early. Pillow then fills in zeros without an error."""
    width, height, interlaced = *image.size, content[28]
    last_row = image.crop((0, height - 1, width, height))
    if not interlaced and last_row.getbbox(alpha_only=False):
        return False
    bits = content[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[content[25]]
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    sides = [(len(range(x, width, dx)), len(range(y, height, dy))) for x, y, dx, dy in passes]
    missing = sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sides if columns)
    unpacker = zlib.decompressobj()
    for name, start, end in _parts(content):
        data = content[start + 8 : end - 4] if name == b"IDAT" else b""
        while data and missing > 0:
            missing -= len(unpacker.decompress(data, 2**20))
            data = unpacker.unconsumed_tail
    return missing - len(unpacker.flush()) > 0


def _parts(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of each chunk of a PNG, up to IEND or the end of the data."""
    at, name = 8, b""
    while name != b"IEND" and (name := content[at + 4 : at + 8]):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        yield name, at, end
        at = end


def _decode_jpeg(image: Image.Image, content: bytes, *, part: int) -> Opened | None:
    """Decode a JPEG in grey or CMYK, at 1/part of its size, with the warnings of libjpeg.

    Pillow decodes to the same pixels, but hides the warnings.

    Returns:
        The picture, or None for the rare JPEGs that only Pillow decodes.

    Raises:
        PictureError: too much of the picture is missing.
    """
    from simplejpeg import decode_jpeg

    width, height = (-(-side // part) for side in image.size)
    least = {"min_width": width, "min_height": height} if part > 1 else {}
    colours = "CMYK" if image.mode == "CMYK" else "GRAY"

    def levels(content: bytes, *, strict: bool) -> npt.NDArray[np.uint8]:
        return np.asarray(decode_jpeg(content, colours, strict=strict, **least))

    note = damage = ""
    try:
        decoded = levels(content, strict=True)
    except ValueError as error:
        warning = str(error)
        try:
            decoded = levels(content, strict=False)
        except ValueError:
            return None
        if warning.startswith("Premature"):
            note = _note_missing(levels(content + TAIL, strict=False) != decoded, image)
        elif warning.startswith(("Corrupt", "Inconsistent")):
            damage = f"the picture is damaged ({warning})"
            # Some cameras write zeros before the end. They are harmless, but libjpeg warns.
            with suppress(ValueError):
                levels(re.sub(rb"\0+\xff\xd9\Z", b"\xff\xd9", content), strict=True)
                damage = ""
    if decoded.shape[:2] != (height, width):
        return None
    if colours == "GRAY":
        result = Image.fromarray(decoded[..., 0])
    else:  # inverted as Pillow does, because nearly all are written by Photoshop
        result = Image.frombytes("CMYK", (width, height), (255 - decoded).tobytes())
    result.info = image.info
    return Opened(result, *image.size, note, damage)


def _decode_whole(image: Image.Image, content: bytes) -> Image.Image:
    """Decode a JPEG that was decoded at a fraction of its size."""
    opened = _decode_jpeg(image, content, part=1)
    return opened.image if opened else image


def _note_missing(changed: npt.NDArray[np.bool_], image: Image.Image) -> str:
    """Describe how much of a JPEG is missing.

    Args:
        changed: shape (h, w, channels), True where a pixel depends on bytes after the last one.
        image: the opened picture.

    Raises:
        PictureError: too much is missing.
    """
    rows = np.flatnonzero(changed.any(axis=(1, 2)))
    if not rows.size:
        return WHOLE.format(END_MISSING)
    missing = 1 - int(rows[0]) / len(changed)
    # A progressive JPEG that is cut off lacks all later scans.
    if missing > MAX_MISSING or image.info.get("progressive"):
        raise PictureError("the picture is cut off: its last part is missing")
    return f"the picture is cut off: the last {missing:.1%} of it is missing"


def _mend(stream: io.BytesIO, error: DamagedError) -> tuple[io.BytesIO, str]:
    """Reduce a PNG to the chunks that its pixels depend on.

    Returns:
        The reduced PNG, and what is wrong with the other chunks, or empty.

    Raises:
        DamagedError: the picture is not a PNG.
    """
    content = stream.getvalue()
    if kind_of(content) != "PNG":
        raise error
    parts, wrong, name = [content[:8]], str(error.args[0]), b""
    for name, at, end in _parts(content):
        sound = zlib.crc32(content[at + 4 : end - 4]).to_bytes(4) == content[end - 4 : end]
        if name in NEEDED or (name == b"eXIf" and sound):
            parts.append(content[at:end])
        elif not sound:
            wrong = f"its part {name.decode('ascii', 'replace')}"
    if name != b"IEND":
        wrong = END_MISSING
    return io.BytesIO(b"".join([*parts, b"\0\0\0\0IEND\xae\x42\x60\x82"])), wrong
