"""The names that the page answers to.

A stranger's page can point its own name to this machine (DNS rebinding). The browser then lets it
read what this server answers. Such a request has the stranger's name in its ``Host`` header. An
address cannot be pointed elsewhere, so every address is fine.
"""

import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit


def answers_to(host: str, names: Iterable[str]) -> bool:
    """Return True if a ``Host`` header has an address, a name of this machine, or one of `names`.

    Args:
        host: the header, with a port or without.
        names: further names, in lower case; "*" stands for all.
    """
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
        allowed = {"localhost", socket.gethostname().lower(), *names}
        return bool({name, "*"} & allowed or ip_address(name))
    return False
