"""How much a connection may ask for before the application sees a request: bytes, lines, time.

uvicorn itself bounds none of them. The command `nnpipe demo` serves with this class, and so does
``uvicorn nnpipe.demo.app:app --http nnpipe.demo.guard:Guard --loop asyncio --ws none``.
"""

import asyncio
import json
import socket
from contextlib import suppress

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

READ = 4 * 1024
"""Bytes read from a connection at a time, so that no client keeps the others waiting."""

MAX_HEAD = 16 * 1024
"""Bytes of a request line and its headers, and of what stands between two pieces of a body.
The last read is not counted, so up to `READ` more pass."""

MAX_HEADERS = 100
"""Header lines of a request, trailers included. Browsers send about 20."""

MAX_PIPELINED = 8
"""Requests that a client sends before the answer to the first has come. Browsers send none."""

HEAD_SECONDS = 10.0
"""Seconds from the start of a connection, or from its last answer, to the end of the next head."""

REQUEST_SECONDS = 40.0
"""Seconds from the end of the head to the end of the answer. The limits of the application sum up
to less, so this ends only connections whose client does not take its answer."""

MAX_CONNECTIONS = 200
"""Open connections. A new one beyond this replaces one that waits for its client."""

MAX_PER_CLIENT = 50
"""Open connections from one address, likewise. This is less than `limits.MAX_UNDER_WAY`, so no
client takes all of those places."""

NOT_HTTP = (
    "this is not an HTTP/1.1 request, or its head has more than "
    f"{MAX_HEAD >> 10} KiB or {MAX_HEADERS} lines"
)


class Guard(HttpToolsProtocol, asyncio.BufferedProtocol):
    """A connection of uvicorn's within these limits.

    asyncio reads a `BufferedProtocol` into the buffer that `get_buffer` returns. So it reads `READ`
    bytes at a time rather than 256 KiB, and serves other connections in between.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start; if there are too many connections, end one that waits for its client.

        The one that is idle the longest goes first, then the one whose body takes the longest. If
        all are being answered, this one is refused.
        """
        super().connection_made(transport)
        # Without this, the end of an answer waits 40 ms until the client has confirmed the
        # beginning. asyncio sets it only on sockets of some servers, and a Unix socket has none.
        with suppress(OSError):
            options = socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            transport.get_extra_info("socket").setsockopt(*options)
        self.buffer = bytearray(READ)
        self.size = 0  # bytes since the last complete head or piece of a body
        self.end = self.loop.call_later(HEAD_SECONDS, self.abort)
        everyone = [c for c in self.connections if isinstance(c, Guard)]
        mine = [c for c in everyone if c.client and self.client and c.client[0] == self.client[0]]
        for crowd, limit in ((mine, MAX_PER_CLIENT), (everyone, MAX_CONNECTIONS)):
            others = [c for c in crowd if (c.idle or c.cycle.more_body) and c is not self]
            if len(crowd) > limit and others:
                return min(others, key=lambda c: (not c.idle, c.end.when())).abort()
            if len(crowd) > limit:
                why = "too many connections are open; come again"
                return self.refuse("503 Service Unavailable\r\nRetry-After: 1", why)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self.end.cancel()
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def abort(self) -> None:
        """End the connection now, even if the client does not take what is written."""
        self.connections.discard(self)
        self.transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Give asyncio the buffer to read into."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what asyncio has read."""
        self.data_received(bytes(self.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Parse bytes; the parser calls the `on_` methods. What they raise ends in a refusal."""
        if self.size > MAX_HEAD:
            return self.send_400_response(NOT_HTTP)
        self.size += len(data)
        return super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line or a trailer."""
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise ValueError

    def on_headers_complete(self) -> None:
        """Start to answer."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError
        self.size = 0
        self.allow(REQUEST_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self.size = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self.allow(HEAD_SECONDS if self.idle else REQUEST_SECONDS)

    def allow(self, seconds: float) -> None:
        """Set the time until the connection ends."""
        self.end.cancel()
        self.end = self.loop.call_later(seconds, self.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser refuses."""
        self.refuse("400 Bad Request", NOT_HTTP)

    def refuse(self, status: str, why: str) -> None:
        """Answer in a sentence, and close; in the middle of another answer, only close."""
        body = json.dumps({"detail": why})
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close"
        if self.idle:
            self.transport.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        self.transport.close()
