"""What kind of file something is, by its first bytes."""

import re

SIGNATURES = {
    "PNG": rb"\x89PNG",
    "JPEG": rb"\xff\xd8\xff",
    "TIFF": rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "GIF": rb"GIF8[79]a",
    "WebP": rb"RIFF.{4}WEBP",
    "PNM": rb"P(?:[1-6]\s+[#\d]|[Ff]\s)",
    "AVIF": rb".{4}ftyp(?:.{4}){0,16}?avi[fs]",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "ICO": rb"\0\0\x01\0[^\0]\0",
    "HEIC": rb".{4}ftyp(?:he[iv]|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "PDF": rb"(?:\xef\xbb\xbf)?\s*%PDF",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "SVG": rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<svg",
    "PSD": rb"8BPS",
    "a Windows metafile": rb"\xd7\xcd\xc6\x9a|\x01\0\x09\0\0[\x01\x03]|\x01\0\0\0.{36} EMF",
    "DICOM": rb".{128}DICM",
    "a Git LFS pointer": rb"version https://git-lfs",
    "HTML": rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<(?:html|head|body)|\s*<!doctype html)",
    "a ZIP archive or an Office document": rb"PK[\x03\x05]",
    "an archive": rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar",
    "a video": rb".{4}(?:ftyp|moov|mdat)|\x1aE\xdf\xa3|RIFF.{4}AVI |\0\0\x01[\xb3\xba]",
    "nothing but zeros": rb"\0{64}",
    "text": rb"[\t-\r\x20-\x7e\x80-\xf4]+\Z",
}
"""Regular expressions for the first bytes of a file. The first that matches gives the kind."""

FIRST = 512
"""Bytes at the start of a file that tell its kind."""


def kind_of(start: bytes) -> str | None:
    """Name the kind of a file, such as "PNG", "PDF" or "a video".

    Args:
        start: the first bytes of the file, `FIRST` or more; all of a shorter file.

    Returns:
        A key of `SIGNATURES`, or None for an unknown kind.
    """
    start = start[:FIRST]
    # `re.match` compiles a pattern when it is first needed, and most files are PNG or JPEG.
    matches = (kind for kind, signature in SIGNATURES.items() if re.match(signature, start, re.S))
    return next(matches, None)
