"""Pictures as data URIs, so that the page needs no other file."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nnpipe.errors import PictureError
from nnpipe.evaluation import CLASSES
from nnpipe.network import Array
from nnpipe.preprocess.pictures import open_picture
from nnpipe.report.measure import Measured

THUMBNAIL = 112
"""Largest side of a file's picture, in pixels."""


def encode_pictures(metrics: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """Return the pictures of a report as data URIs.

    Returns:
        ``seen``: index → the 28×28 pixels that the network sees; ``files``: index → a thumbnail of
        the file, for a folder; ``means``: the mean picture of each digit, None if it does not
        occur.
    """
    indices = [int(i) for i in metrics["pictures"]]
    images, labels = measured.labelled.digits
    files = measured.labelled.files
    by_digit = [images[labels == digit] for digit in range(CLASSES)]
    return {
        "seen": {str(i): _data_uri(images[i]) for i in indices},
        "files": {str(i): _thumbnail(files[i]) for i in indices} if files else {},
        "means": [_data_uri(some.mean(axis=0).round()) if len(some) else None for some in by_digit],
    }


def _thumbnail(path: Path) -> str | None:
    try:
        image = open_picture(path).image
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return _encode(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (PictureError, OSError, ValueError):  # the file has changed since it was read
        return None


def _data_uri(pixels: Array) -> str:
    return _encode(Image.fromarray(pixels.astype(np.uint8)))


def _encode(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
