"""The drawing page on a port, till Ctrl-C."""

import errno
import ipaddress
import logging
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress

import uvicorn

from nnpipe.classifier import Classifier
from nnpipe.demo.app import create_app
from nnpipe.demo.guard import Guard
from nnpipe.errors import ServerError

logger = logging.getLogger(__name__)


def serve(
    classifier: Classifier,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_origins: Sequence[str] = (),
    open_page: bool = False,
    *,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serve the page, and say where, till Ctrl-C or a signal to end.

    Args:
        classifier: what reads the drawings.
        host: name or address to listen on.
        port: 0 takes a free one.
        allow_origins: of pages elsewhere that may ask the API.
        open_page: open the page in a browser, where there is a screen.
        allow_hosts: names that it answers to beside `host` and this machine's own.

    Raises:
        ServerError: it cannot listen there.
        NnpipeError: an origin is none.
    """
    app = create_app(classifier, allow_origins, allow_hosts=[host, *allow_hosts])
    with _listen(host, port) as listening:
        address, port, *_ = listening.getsockname()
        ip = ipaddress.ip_address(address)
        name = "localhost" if ip.is_unspecified else f"[{address}]" if ip.version == 6 else address
        url = f"http://{name}:{port}/"
        logger.info("the drawing page is at %s till Ctrl-C", url)
        if not ip.is_loopback:
            logger.warning(
                "anyone on the network can reach it; --host 127.0.0.1 keeps it to this machine"
            )
        # Without a screen, the browser would be one that takes the terminal.
        screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
        if open_page and screen:
            # It already listens, so a browser that is faster than the server waits.
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
        config = uvicorn.Config(
            app,
            http=Guard,
            loop="asyncio",  # uvloop reads 256 KiB at a time
            ws="none",
            backlog=256,
            access_log=False,
            log_level="error",  # else each refused connection is a line
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        why = f"cannot listen on port {port} of {host}: {getattr(error, 'strerror', None) or error}"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            why = f"port {port} of {host} is in use; choose another with --port, 0 for any"
        raise ServerError(why) from None
