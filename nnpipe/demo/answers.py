"""A request → the bytes of its answer, within limits of bytes, pixels and time.

`receive` collects a body; `answer` runs in threads. A thread that decodes a picture cannot be
stopped from outside. So pictures that would take long are refused by their header, and reading the
bytes of a picture fails once its time is up. A PDF is rendered in a process of its own.
"""

import asyncio
import io
import json
import time
from functools import partial
from typing import Any

import numpy as np
from fastapi import HTTPException, Request

from nnpipe.attribution import evidence
from nnpipe.classifier import Classifier
from nnpipe.demo.schema import Options
from nnpipe.errors import NnpipeError, PictureError
from nnpipe.kinds import kind_of
from nnpipe.preprocess import SIDE, Picture, Pixels, as_inputs
from nnpipe.preprocess.decoders import Opened, check_size, decode, open_mended
from nnpipe.processes import over

MAX_BODY = 10 * 1024 * 1024
"""Bytes of a picture. Photos of phones have 3 to 8 million."""

MAX_JSON = 1024 * 1024
"""Bytes of an array, some 500×500 values. Other requests wait while JSON is parsed."""

MAX_PIXELS = 25_000_000
"""Pixels of a picture. Photos of phones have 12 million."""

MAX_UNDER_WAY = 64
"""Requests that are received, waiting or being read; beyond this the answer is 429."""

SECONDS = 10.0
"""Seconds until a body must have arrived, and again until it must have been read."""

WAIT = 5.0
"""Seconds that a request waits for a free reader. There is one for each core."""

BUSY = {"Retry-After": "1"}
"""Header of answers to try again after, in seconds."""

TOO_LONG = "reading the picture takes longer than {:g} seconds"


class Deadline(io.BytesIO):
    """Bytes that can be read for `SECONDS`."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.end = time.monotonic() + SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            PictureError: the time is up.
        """
        if time.monotonic() > self.end:
            raise PictureError(TOO_LONG.format(SECONDS))
        return super().read(size)


async def receive(request: Request, limit: int) -> bytes:
    """Read a body to its end.

    Raises:
        HTTPException: 413: it has more bytes than the limit; 408: it does not arrive in time;
            422: it is empty.
    """
    too_large = HTTPException(413, f"the body has more than {limit >> 20} MiB")
    content = bytearray()
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large  # curl asks before it sends the body, and then stops
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the body has not arrived after {SECONDS:g} seconds") from None
    if not content:
        raise HTTPException(422, "the body is empty; send a picture")
    return bytes(content)


def answer(classifier: Classifier, body: bytes, *, as_json: bool, options: Options) -> bytes:
    """Read a picture, and return a `schema.Answer` or a `schema.NumberAnswer` as JSON.

    Args:
        classifier: reads the picture.
        body: the bytes of a picture, or of a JSON array.
        as_json: the body is a JSON array.
        options: what to read, and what to add to the answer.

    Raises:
        HTTPException: 400, 413, 415 or 422: the picture cannot be read; the detail says why.
    """
    picture = from_json(body) if as_json else from_bytes(body)
    content = (
        _number(classifier, picture, digits=options.digits)
        if options.digits
        else _digit(classifier, picture, options=options)
    )
    return json.dumps(content, separators=(",", ":")).encode()


def _number(classifier: Classifier, picture: Picture, *, digits: str) -> dict[str, Any]:
    number = classifier.read(picture, digits=digits)
    if number.status == "error":
        raise HTTPException(422, number.reason)
    return {**number.shown, "digits": [digit._asdict() for digit in number.digits]}


def _digit(classifier: Classifier, picture: Picture, *, options: Options) -> dict[str, Any]:
    reading = classifier.read(picture)
    if reading.probabilities is None or reading.pixels is None:
        raise HTTPException(422, reading.reason)
    content = {**vars(reading), "pixels": reading.pixels.tolist()}
    network = classifier.network
    inputs = as_inputs(reading.pixels[np.newaxis])
    if options.activations:
        _, *hidden, logits = (_rounded(layer[0]) for layer in network.activations(inputs))
        content["activations"] = {"hidden": hidden, "logits": logits}
    if options.evidence:
        label = int(np.argmax(reading.probabilities))
        rival = None if options.rival == label else options.rival
        parts = evidence(network, inputs[0], label=label, rival=rival)
        content["evidence"] = {
            "label": label,
            "rival": rival,
            "pixels": _rounded(parts.pixels.reshape(SIDE, SIDE)),
            "bias": round(parts.bias, 6),
            "difference": round(parts.difference, 6),
        }
    return content


def _rounded(array: np.ndarray) -> Any:
    return array.round(6).tolist()


def from_bytes(body: bytes) -> Picture:
    """Check the header of a picture, and return its bytes, readable for a limited time.

    The first page of a PDF is rendered.

    Raises:
        HTTPException: 415: the format is unknown; 413: the picture is too large; 422: the PDF
            cannot be rendered.
    """
    picture = Deadline(body)
    if kind_of(body) == "PDF":
        return _rendered(body)
    try:
        image = open_mended(picture)
    except PictureError as error:
        raise HTTPException(415, str(error)) from None
    try:
        check_size(image, body, max_pixels=MAX_PIXELS)
    except PictureError as error:
        raise HTTPException(413, str(error)) from None
    picture.seek(0)
    return picture


def _rendered(body: bytes) -> Opened:
    """Render the first page of a PDF in a process that is stopped when its time is up."""
    try:
        (page,) = over(partial(decode, max_pixels=MAX_PIXELS), [io.BytesIO(body)], seconds=SECONDS)
        if isinstance(page, Opened):
            return page
        raise page
    except NnpipeError as error:
        raise HTTPException(422, str(error)) from None


def from_json(body: bytes) -> Pixels:
    """Read rows of brightness, or 784 numbers, from JSON.

    Raises:
        HTTPException: 400: the body is not JSON; 422: it is not such an array.
    """
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON ({error})") from None
    try:
        array = np.array(rows)
    except ValueError:  # rows of different length
        array = np.array(None)
    if array.shape == (SIDE * SIDE,):
        array = array.reshape(SIDE, SIDE)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise HTTPException(422, "expected rows of numbers of one length, or 784 numbers as 28")
    if not ((array >= 0) & (array <= 255)).all():  # also refuses NaN
        raise HTTPException(422, "a brightness must lie in 0…255")
    return np.rint(array).astype(np.uint8)  # type: ignore[no-any-return]
