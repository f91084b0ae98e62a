"""The drawing page on a port, until Ctrl-C."""

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
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_origins: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
    open_page: bool = False,
) -> None:
    """Serve the page, and log its address, until Ctrl-C or a signal ends it.

    Args:
        classifier: reads the drawings.
        host: name or address to listen on.
        port: 0 takes a free one.
        allow_origins: origins of other pages that may use the API.
        allow_hosts: names that the server answers to, in addition to `host` and this machine's.
        open_page: open the page in a browser if there is a screen.

    Raises:
        ServerError: the address is in use or does not exist.
        NnpipeError: an origin is not valid.
    """
    app = create_app(classifier, allow_origins=allow_origins, allow_hosts=[host, *allow_hosts])
    with _listen(host, port) as listener:
        address, port, *_ = listener.getsockname()
        ip = ipaddress.ip_address(address)
        name = "localhost" if ip.is_unspecified else f"[{address}]" if ip.version == 6 else address
        url = f"http://{name}:{port}/"
        logger.info("the drawing page is at %s until Ctrl-C", url)
        if not ip.is_loopback:
            logger.warning("anyone on the network can reach it; the host 127.0.0.1 prevents this")
        # Without a screen, a browser would open in the terminal.
        screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
        if open_page and screen:
            # The port is open already, so the browser waits for the server.
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
        config = uvicorn.Config(
            app,
            http=Guard,
            loop="asyncio",  # uvloop reads 256 KiB at a time
            ws="none",
            backlog=256,
            access_log=False,
            log_level="error",  # a warning is a line for each refused connection
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ServerError(f"port {port} of {host} is in use", advice="port") from None
        why = getattr(error, "strerror", None) or error
        raise ServerError(f"cannot listen on port {port} of {host}: {why}") from None
