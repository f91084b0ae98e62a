"""Pictures as data URIs: a page that carries them opens anywhere."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from nnpipe.errors import PictureError
from nnpipe.evaluation import CLASSES
from nnpipe.preprocess.pictures import open_picture
from nnpipe.report.measure import Measured

THUMBNAIL = 112


def encode_pictures(metrics: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """The pictures that a report shows.

    Returns:
        ``seen``, index → what the network sees; ``files``, index → the picture of the file, for a
        folder; ``means``, the mean picture of each digit, None for one that does not occur.
    """
    indices = [int(i) for i in metrics["pictures"]]
    images, labels = measured.labelled.digits
    files = measured.labelled.files
    means = [
        images[labels == k].mean(axis=0) if (labels == k).any() else None for k in range(CLASSES)
    ]
    return {
        "seen": {str(i): _data_uri(Image.fromarray(images[i])) for i in indices},
        "files": {str(i): _thumbnail(files[i]) for i in indices} if files else {},
        "means": [
            None if mean is None else _data_uri(Image.fromarray(mean.round().astype(np.uint8)))
            for mean in means
        ],
    }


def _thumbnail(path: Any) -> str | None:
    try:
        image = open_picture(path).image
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return _data_uri(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (PictureError, OSError, ValueError):  # it could be read a moment ago
        return None


def _data_uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
