"""Limits of a request: bytes, pixels and time.

A thread that decodes a picture cannot be stopped from outside. So pictures that would take long are
refused by their header, and reading the bytes of a picture fails once its time is up.
"""

import asyncio
import io
import time

from fastapi import HTTPException, Request

from nnpipe.errors import PictureError
from nnpipe.preprocess.decoders import check_size, open_mended

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
    """Bytes that can be read for a number of seconds."""

    def __init__(self, content: bytes, seconds: float) -> None:
        super().__init__(content)
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            PictureError: the time is up.
        """
        if time.monotonic() > self.end:
            raise PictureError(TOO_LONG.format(self.seconds))
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


def check_header(picture: Deadline) -> None:
    """Check the header of a picture without decoding it.

    Raises:
        HTTPException: 415: the format is unknown; 413: the picture is too large.
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
