"""Ways in which a JSON file of nnpipe may be damaged, or something else may be in its place."""

import os
import socket
from collections.abc import Callable
from pathlib import Path


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)  # a socket's path has at most 107 bytes
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def _text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "pipe": _pipe,
    "folder": _folder,
    "loop": _loop,
    "socket": _socket,
    "empty": _text(b""),
    "list": _text(b'[{"a": 1}]'),
    "huge number": _text(b"[1e999, 1e999]"),
    "NaN": _text(b"[NaN, NaN]"),
    "depth": _text(b"[" * 100_000),
    "UTF-8": _text(b'{"a": "\xff"}'),
    "surrogate": _text(b'{"\\ud800\\u001b[2J": 1}'),
    "digits": _text(b"[" + b"9" * 10_000 + b"]"),
}
