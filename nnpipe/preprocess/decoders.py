"""The bytes of a file → a decoded picture, by a fixed list of decoders."""

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from nnpipe.errors import PictureError
from nnpipe.kinds import FIRST, kind_of

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
"""The kinds of pictures that are read; Pillow's name of each, and the prefix of Pillow's module.
Pillow has more decoders. Some of them start other programs, as the one for PostScript does."""

FORMATS = ", ".join(DECODERS)

PILLOW_FORMATS = {name for name, _ in DECODERS.values()} | {"MPO"}
"""Pillow's names of the formats that are read. MPO is a JPEG that holds several pictures."""

REMEDIES = {
    "a Git LFS pointer": "fetch the picture with 'git lfs pull'",
    "PDF": "save its pages as PNG or JPEG",
}

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded: some are made to fill the memory."""

MAX_SCANS = 100
"""Scans of a JPEG. A progressive one has about ten; each goes over the whole picture again."""

MAX_WORK = 1_000_000_000
"""Scans times pixels of a JPEG. Decoding that many takes some seconds."""

MAX_MISSING = 0.05
"""Share of the rows of a JPEG that may be missing at its end. With 0.05, the digits of 1 in 300
pictures are read otherwise, and of 1 in 24 that are cut to their ink; with 0.1, of 1 in 13."""

ENOUGH = 250
"""Pictures of twice as many pixels a side, or more, are shrunk to between one and two times this:
finer detail costs time and does not help."""

TAIL = bytes(range(1, 255)) + b"\xff\xd9"
"""Nonsense to put after a JPEG that is cut off. The rows that it changes are the missing ones."""

END_MISSING = "its last bytes are missing"

ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]
"""The passes of an interlaced PNG: first column, first row, and the steps from one to the next."""

NEEDED = b"IHDR", b"PLTE", b"tRNS", b"IDAT"
"""The chunks of a PNG that decide about its pixels."""


SENTENCES = re.compile(
    r"(image file is truncated|broken data stream|Truncated|[Uu]n(supported|known comp))[\w ()]*"
)
"""Pillow's messages that help people. Most of the others are about its own parts."""


class Opened(NamedTuple):
    """A decoded picture."""

    image: Image.Image  # large JPEGs are decoded at a fraction of their size
    width: int  # of the whole picture
    height: int
    note: str  # what was left out or is wrong with the file; empty if nothing
    damage: str = ""  # why its pixels are not to be trusted; empty if they are


class DamagedError(PictureError):
    """A picture that its decoder cannot read.

    Attributes:
        detail: what the decoder says, or empty if that is not a sentence for people.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)  # what `pickle` makes it of again

    def __str__(self) -> str:
        return f"the picture is damaged{self.detail and f' ({self.detail})'}"


def damaged(error: Exception) -> DamagedError:
    """What Pillow raised, in a sentence for people."""
    return DamagedError(str(error) if SENTENCES.fullmatch(str(error)) else "")


@contextmanager
def damage_noticed() -> Iterator[None]:
    """Turn what Pillow raises for a picture, which can be anything, into a sentence.

    Raises:
        PictureError: it cannot be read.
    """
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many(MAX_PIXELS) from None
    except Exception as error:
        raise damaged(error) from error


def open_header(stream: io.BytesIO) -> Image.Image:
    """Open a picture with the one decoder for its kind, and decode nothing yet.

    Raises:
        PictureError: it is of another kind; and what Pillow raises if it is damaged.
    """
    kind = kind_of(stream.getbuffer()[:FIRST].tobytes())
    stream.seek(0)
    if kind not in DECODERS:
        what = f"{kind}, " if kind else ""
        remedy = REMEDIES.get(kind or "", "save the picture as PNG or JPEG")
        raise PictureError(f"this is {what}not a picture that nnpipe reads ({FORMATS}); {remedy}")
    name, module = DECODERS[kind]
    import_module(f"PIL.{module}ImagePlugin")
    # `Image.open` would import five decoders first, which takes longer than to read a picture.
    factory, _ = Image.OPEN[name]
    return factory(stream, "")


def open_mended(stream: io.BytesIO) -> Image.Image:
    """Open a picture as `decode` does, and decode nothing yet.

    Raises:
        PictureError: it is of another kind, or too damaged.
    """
    try:
        with damage_noticed():
            return open_header(stream)
    except DamagedError as error:
        mended, _ = _mend(stream, error)
    with damage_noticed():
        return open_header(mended)


def check_size(image: Image.Image, content: bytes = b"", *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what takes too much memory or time to decode.

    Args:
        image: an opened picture.
        content: the bytes of its file, if there is one.
        max_pixels: the most pixels that are read.

    Raises:
        PictureError: it has no pixels or too many, or it is a JPEG with too many scans.
    """
    pixels = image.width * image.height
    if not pixels:
        raise PictureError("the picture has no pixels")
    if pixels > max_pixels:
        raise _too_many(max_pixels)
    scans = min(MAX_SCANS, MAX_WORK // pixels)
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > scans:
        raise PictureError(f"the picture has more than the {scans} scans that are read")


def _too_many(pixels: int) -> PictureError:
    return PictureError(
        f"the picture has more than the {pixels // 10**6} million pixels that are read; "
        "make it smaller"
    )


def decode(stream: io.BytesIO) -> Opened:
    """Decode the first frame of a picture.

    Raises:
        PictureError: it is of another kind, too large, or too damaged to be read.
    """
    if not stream.getbuffer():
        raise PictureError("the file is empty")
    note = ""
    try:
        with damage_noticed():
            return _decode(stream)
    except DamagedError as error:
        mended, wrong = _mend(stream, error)
        note = _whole(wrong) if wrong else ""
    with damage_noticed():
        return _decode(mended)._replace(note=note)


def _whole(wrong: str) -> str:
    return f"the file is damaged ({wrong}), but the picture in it is whole"


def _decode(stream: io.BytesIO) -> Opened:
    image, content = open_header(stream), stream.getvalue()
    check_size(image, content)
    width, height = image.size
    note = ""
    if image.format in ("JPEG", "MPO"):  # an MPO's second picture is a smaller one of the same
        part = next((n for n in (8, 4, 2) if max(image.size) >= n * ENOUGH), 1)
        if opened := _decode_jpeg(image, content, part):
            return opened
        grey = "L" if image.mode == "RGB" else None
        image.draft(grey, (max(1, width // part), max(1, height // part)))
    elif (frames := getattr(image, "n_frames", 1)) > 1:
        note = f"the first of {frames} frames was read"
    elif image.format == "PNG" and content.rfind(b"IEND") < 0:
        note = _whole(END_MISSING)
    image.load()
    if image.format == "PNG" and _lacks_rows(image, content):
        raise OSError("image file is truncated")
    return Opened(image, width, height, note)


def _lacks_rows(image: Image.Image, content: bytes) -> bool:
    """Whether a PNG's data end before its last row, which Pillow does not say and leaves at 0."""
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
    """The name of each part of a PNG and its place, to IEND or as far as there are any."""
    at, name = 8, b""
    while name != b"IEND" and (name := content[at + 4 : at + 8]):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        yield name, at, end
        at = end


def _decode_jpeg(image: Image.Image, content: bytes, part: int) -> Opened | None:
    """Decode a JPEG in grey or CMYK, at 1/part of its size, and hear libjpeg's warnings.

    Pillow decodes to the same pixels, but does not pass libjpeg's warnings on.

    Returns:
        The picture; None for the rare JPEGs that only Pillow decodes.

    Raises:
        PictureError: too much of it is missing.
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
            # Some cameras write zeros before the end. They do no harm, but libjpeg warns of them.
            with suppress(ValueError):
                levels(re.sub(rb"\0+\xff\xd9\Z", b"\xff\xd9", content), strict=True)
                damage = ""
    if decoded.shape[:2] != (height, width):
        return None
    if colours == "GRAY":
        result = Image.fromarray(decoded[..., 0])
    else:  # as Pillow does, since nearly all are written by Photoshop, which inverts them
        result = Image.frombytes("CMYK", (width, height), (255 - decoded).tobytes())
    result.info = image.info
    return Opened(result, *image.size, note, damage)


def _note_missing(changed: npt.NDArray[np.bool_], image: Image.Image) -> str:
    """Say how much of a JPEG is missing.

    Args:
        changed: which pixels, (h, w, channels), depend on what follows the end of its bytes.
        image: the opened picture.

    Raises:
        PictureError: too much is missing.
    """
    rows = np.flatnonzero(changed.any(axis=(1, 2)))
    if not rows.size:
        return _whole(END_MISSING)
    missing = 1 - int(rows[0]) / len(changed)
    # Where a progressive JPEG is cut off, all its later scans are missing as well.
    if missing > MAX_MISSING or image.info.get("progressive"):
        raise PictureError("the picture is cut off: its last part is missing")
    return f"the picture is cut off: the last {missing:.1%} of it is missing"


def _mend(stream: io.BytesIO, error: DamagedError) -> tuple[io.BytesIO, str]:
    """Keep of a PNG what decides about its pixels.

    Returns:
        A PNG of these parts, and what is wrong with the others; empty if nothing is.

    Raises:
        DamagedError: it is no PNG.
    """
    content = stream.getvalue()
    if kind_of(content) != "PNG":
        raise error
    parts, wrong, name = [content[:8]], error.detail, b""
    for name, at, end in _parts(content):
        sound = zlib.crc32(content[at + 4 : end - 4]).to_bytes(4) == content[end - 4 : end]
        if name in NEEDED or (name == b"eXIf" and sound):
            parts.append(content[at:end])
        elif not sound:
            wrong = f"its part {name.decode('ascii', 'replace')}"
    if name != b"IEND":
        wrong = END_MISSING
    return io.BytesIO(b"".join([*parts, b"\0\0\0\0IEND\xae\x42\x60\x82"])), wrong
