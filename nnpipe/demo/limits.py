"""How much a request may ask for: bytes, pixels, time, and others waiting beside it.

A thread that decodes a picture cannot be ended from outside. So what would take it long is refused
before it begins, from the picture's header, or by the picture's own bytes, which are not handed out
any more when the time is up.
"""

import asyncio
import io
import time

from fastapi import HTTPException, Request

from nnpipe.errors import PictureError
from nnpipe.preprocess.decoders import check_size, open_mended

MAX_BODY = 10 * 1024 * 1024
"""Bytes of a picture. A phone's photos have three to eight million."""

MAX_JSON = 1024 * 1024
"""Bytes of an array: some 500×500 values. JSON is parsed in one go, while all others wait."""

MAX_PIXELS = 25_000_000
"""A phone's photos have 12 million."""

MAX_UNDER_WAY = 64
"""Requests that are being received, waiting or read; the next one is asked to come again."""

SECONDS = 10.0
"""In which a request must have arrived, and in which it must have been answered then."""

TOO_LONG = "reading the picture takes longer than {:g} seconds"


class Deadline(io.BytesIO):
    """Bytes that can be read for so many seconds."""

    def __init__(self, content: bytes, seconds: float) -> None:
        super().__init__(content)
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as ever.

        Raises:
            PictureError: the time is up.
        """
        if time.monotonic() > self.end:
            raise PictureError(TOO_LONG.format(self.seconds))
        return super().read(size)


async def receive(request: Request, limit: int) -> bytes:
    """Read a body to its end.

    Raises:
        HTTPException: 413, it is larger than the limit, in bytes; 408, it is not here in time;
            422, it is empty.
    """
    too_large = HTTPException(413, f"the body has more than the {limit >> 20} MiB that are read")
    content = bytearray()
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large  # a client that asks first, as curl does, then sends nothing
    try:
        async with asyncio.timeout(SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the body is not here after {SECONDS:g} seconds") from None
    if not content:
        raise HTTPException(422, "the body is empty; send a picture")
    return bytes(content)


def check_header(picture: Deadline) -> None:
    """Look at a picture's header, and decode nothing.

    Raises:
        HTTPException: 415, it is in none of the formats; 413, it is too large to be decoded.
    """
    try:
        image = open_mended(picture)
    except PictureError as error:
        raise HTTPException(415, str(error)) from None
    try:
        check_size(image, picture.getvalue(), max_pixels=MAX_PIXELS)
    except PictureError as error:
        raise HTTPException(413, str(error)) from None
    picture.seek(0)
