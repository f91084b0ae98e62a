"""The names that the server answers to.

A malicious page can point its own name to this machine (DNS rebinding), and then the browser lets
it read the answers of this server. The ``Host`` header of such a request has the name of that
page. Requests by IP address are safe, because an address cannot be redirected.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit


def answers_to(host: str, names: Iterable[str]) -> bool:
    """Return True if a ``Host`` header is an IP address, a name of this machine, or in `names`.

    Args:
        host: the header, with or without a port.
        names: further names, in lower case; "*" stands for all.
    """
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        allowed = {"localhost", socket.gethostname().lower(), *names}
        return bool({name, "*"} & allowed or ip_address(name))
    return False
