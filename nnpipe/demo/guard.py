"""Limits of a connection before the application sees a request: bytes, lines and time.

uvicorn itself has no such limits. ``nnpipe demo`` uses this class, and so does
``uvicorn nnpipe.demo.app:app --http nnpipe.demo.guard:Guard --loop asyncio --ws none``.
"""

import asyncio
import json
import socket
from contextlib import suppress

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ = 4 * 1024
"""Bytes read from a connection at a time, so that no client makes the others wait."""

MAX_HEAD = 16 * 1024
"""Bytes of a request line with its headers, and of anything between two parts of a body. The last
read is not counted, so up to `READ` bytes more may pass."""

MAX_HEADERS = 100
"""Header lines of a request, including trailers. Browsers send about 20."""

MAX_PIPELINED = 8
"""Requests that a client may send before it has the first answer. Browsers wait for each answer."""

HEAD_SECONDS = 10.0
"""Seconds from the start of a connection, or from its last answer, to the end of the next head."""

REQUEST_SECONDS = 40.0
"""Seconds from the end of the head to the end of the answer. The limits of the application add up
to less, so this ends only connections whose client does not read its answer."""

MAX_CONNECTIONS = 200
"""Open connections. Beyond this, a new one replaces one that waits for its client."""

MAX_PER_CLIENT = 50
"""Open connections from one address, likewise. This is less than `answers.MAX_UNDER_WAY`, so that
no client can take all of those places."""

NOT_HTTP = (
    "this is not an HTTP/1.1 request, or its head has more than "
    f"{MAX_HEAD >> 10} KiB or {MAX_HEADERS} lines"
)


class Guard(HttpToolsProtocol, asyncio.BufferedProtocol):
    """A connection of uvicorn with these limits.

    asyncio reads into the buffer that `get_buffer` returns, so it reads `READ` bytes at a time
    instead of 256 KiB and serves other connections in between.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start; if there are too many connections, close one that waits for its client.

        The longest idle one is closed first, then the one with the slowest body. If the server is
        answering all of them, it refuses the new one.
        """
        super().connection_made(transport)
        # Without this, the end of an answer waits up to 40 ms until the client has confirmed the
        # beginning. asyncio does not set it for all servers, and Unix sockets do not have it.
        with suppress(OSError):
            options = socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            transport.get_extra_info("socket").setsockopt(*options)
        self.buffer = bytearray(READ)
        self.size = 0  # bytes since the last complete head or part of a body
        self.end = self.loop.call_later(HEAD_SECONDS, self.abort)
        everyone = [c for c in self.connections if isinstance(c, Guard)]
        mine = [c for c in everyone if c.client and self.client and c.client[0] == self.client[0]]
        for crowd, limit in ((mine, MAX_PER_CLIENT), (everyone, MAX_CONNECTIONS)):
            others = [c for c in crowd if (c.idle or c.cycle.more_body) and c is not self]
            if len(crowd) > limit and others:
                return min(others, key=lambda c: (not c.idle, c.end.when())).abort()
            if len(crowd) > limit:
                why = "too many connections are open; try again"
                return self.refuse("503 Service Unavailable\r\nRetry-After: 1", why)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self.end.cancel()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """True if no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def abort(self) -> None:
        """Close the connection now, even if the client has not read everything."""
        self.connections.discard(self)
        self.transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer that asyncio reads into."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on the bytes that asyncio has read."""
        self.data_received(bytes(self.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Parse bytes. The parser calls the `on_` methods; an error in them refuses the request."""
        if self.size > MAX_HEAD:
            return self.send_400_response(NOT_HTTP)
        self.size += len(data)
        return super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header line or a trailer."""
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise ValueError

    def on_headers_complete(self) -> None:
        """Start to answer a request."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError
        self.size = 0
        self.allow(REQUEST_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receive a part of a body."""
        self.size = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self.allow(HEAD_SECONDS if self.idle else REQUEST_SECONDS)

    def allow(self, seconds: float) -> None:
        """Set the time until the connection is closed."""
        self.end.cancel()
        self.end = self.loop.call_later(seconds, self.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser refuses."""
        self.refuse("400 Bad Request", NOT_HTTP)

    def refuse(self, status: str, why: str) -> None:
        """Answer in one sentence and close; during another answer, only close."""
        body = json.dumps({"detail": why})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close"
        if self.idle:
            self.transport.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        self.transport.close()
