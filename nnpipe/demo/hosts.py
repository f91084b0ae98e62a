"""The names that the page answers to.

A page of a stranger can point a name of its own to this machine (DNS rebinding), and its browser
then lets it read what this server answers. Such a request has the stranger's name in its ``Host``
header. Addresses cannot be pointed elsewhere, so all of them are fine.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Hosts:
    """Refuses requests for other names: ASGI middleware.

    Args:
        app: what answers the rest.
        names: names beside ``localhost``, this machine's own, and all addresses; "*" allows all.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self.app = app
        self.names = {"localhost", *(name.lower() for name in (socket.gethostname(), *names))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it with 421."""
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else "localhost"
        if self.allows(host):
            return await self.app(scope, receive, send)
        why = "this server does not answer to the name in the request; --allow-host adds a name"
        return await JSONResponse({"detail": why}, 421)(scope, receive, send)

    def allows(self, host: str) -> bool:
        """Return True if a ``Host`` header has one of the names, or an address, with any port."""
        parts = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+))(?::\d*)?", host)
        if "*" in self.names or parts is None:
            return "*" in self.names
        name = (parts[1] or parts[2]).lower().rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True
