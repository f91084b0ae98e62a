import time

import pytest
from PIL import Image

from nnpipe.kinds import FIRST, SIGNATURES, kind_of

from .make_samples import SAMPLES, encoded

WRITTEN = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "WEBP": "WebP",
    "PPM": "PNM",
    "AVIF": "AVIF",
    "JPEG2000": "JPEG 2000",
    "ICO": "ICO",
    "EPS": "PostScript",
    "PDF": "PDF",
}


@pytest.mark.parametrize("written", WRITTEN)
def test_what_pillow_writes_is_named(written):
    for mode in ("L", "RGB"):
        content = encoded(Image.new(mode, (40, 30)), written)
        assert kind_of(content) == kind_of(content[:FIRST]) == WRITTEN[written]


OTHERS = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif",
    "JPEG XL": b"\xff\x0a\x7f",
    "PDF": b"\n%PDF-1.7\n",
    "SVG": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PSD": b"8BPS\0\1",
    "a Windows metafile": b"\xd7\xcd\xc6\x9a\0\0",
    "DICOM": b"\0" * 128 + b"DICM",
    "a Git LFS pointer": (SAMPLES / "broken-lfs-pointer.png").read_bytes(),
    "HTML": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    "a ZIP archive or an Office document": b"PK\3\4",
    "an archive": b"\x1f\x8b\x08",
    "a video": b"\0\0\0\x18ftypisom\0\0\0\0mp42isom",
    "nothing but zeros": bytes(2000),
    "text": "Größe: 12 %\n".encode(),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named_too(kind):
    assert kind_of(OTHERS[kind]) == kind
    assert kind in SIGNATURES


@pytest.mark.parametrize("start", [b"", b"\1\2\3", b"BMW is no bitmap\1", bytes(range(1, 256))])
def test_unknown_files_have_no_kind(start):
    assert kind_of(start) is None


def test_long_markup_is_judged_quickly():
    """A hostile file does not make the patterns backtrack for long."""
    begin = time.perf_counter()
    for start in (b"<!>" * 500, b"<?> " * 500, b"\n" * 2000, b"<" * 2000):
        kind_of(start)
    assert time.perf_counter() - begin < 20  # backtracking would take hours
