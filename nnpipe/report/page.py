"""The page of a report, its summary in Markdown, and the pictures in it."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from nnpipe.errors import PictureError
from nnpipe.evaluation import CLASSES
from nnpipe.evaluation.confidence import BINS
from nnpipe.network import Array
from nnpipe.preprocess.pictures import open_picture
from nnpipe.report.metrics import Measured
from nnpipe.report.numbers import MeasuredNumbers

NARROW = "\N{NARROW NO-BREAK SPACE}"

THUMBNAIL = 112
"""Largest side of a file's picture, in pixels."""

WIDE_THUMBNAIL = 400
"""The same of a number's picture."""


def render(
    name: str, metrics: dict[str, Any], *, plots: dict[str, list[str]], pictures: dict[str, Any]
) -> str:
    """Return the text of a page or of a summary.

    Args:
        name: of the template: "report.html" or "report.md", "numbers.html" or "numbers.md".
        metrics: see `metrics.contents`.
        plots: SVGs by the name of the plot; without them the page shows tables.
        pictures: data URIs, see `encode_pictures`.
    """
    environment = Environment(
        loader=PackageLoader("nnpipe.report", "."),
        autoescape=name.endswith(".html"),
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {f.__name__: f for f in (percent, number, share, estimate)}
    # This package draws the plots; everything else is escaped.
    safe = {plot: [Markup(svg) for svg in svgs] for plot, svgs in plots.items()}  # noqa: S704
    template = environment.get_template(f"{name}.jinja")
    return template.render(bins=BINS, m=metrics, plots=safe, pictures=pictures)


def percent(value: float, digits: int = 2) -> str:
    """Write a share in [0, 1] as per cent."""
    return f"{100 * value:.{digits}f}{NARROW}%"


def number(value: int) -> str:
    """Write a count with a comma between thousands."""
    return f"{value:,}"


def share(value: float | None, digits: int = 4) -> str:
    """Write a figure as a decimal fraction, None as a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def estimate(value: dict[str, float] | None, digits: int = 2) -> str:
    """Write a share with its interval in HTML, None as a dash."""
    if value is None:
        return "–"
    low, high = (f"{100 * value[end]:.{digits}f}" for end in ("low", "high"))
    return Markup('{} <span class="interval">{} to {}</span>').format(
        percent(value["value"], digits), low, high
    )


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
        "files": {str(i): _thumbnail(files[i], THUMBNAIL) for i in indices} if files else {},
        "means": [_data_uri(some.mean(axis=0).round()) if len(some) else None for some in by_digit],
    }


def encode_numbers(metrics: dict[str, Any], measured: MeasuredNumbers) -> dict[str, Any]:
    """Return the pictures of a report on numbers: ``files``, as `encode_pictures` does."""
    files = measured.numbers.files
    return {"files": {i: _thumbnail(files[int(i)], WIDE_THUMBNAIL) for i in metrics["pictures"]}}


def _thumbnail(path: Path, side: int) -> str | None:
    try:
        image = open_picture(path).image
        image.thumbnail((side, side))
        return _encode(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (PictureError, OSError, ValueError):  # the file has changed since it was read
        return None


def _data_uri(pixels: Array) -> str:
    return _encode(Image.fromarray(pixels.astype(np.uint8)))


def _encode(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
