"""Places named by a path or by a URL: files of this machine, S3, and all else that fsspec knows.

Also how names and messages are written: in one line, and safe to print.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nnpipe.errors import NnpipeError, OutputError, ScoringError, needs


def is_url(text: str) -> bool:
    """Return True for a URL, such as ``s3://bucket/folder``, and False for a path."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://", text))


def place(text: str) -> "Place":
    """Return the place that a path or a URL names.

    Raises:
        MissingExtraError: it is a URL, and the packages for it are not installed.
        ScoringError: no package knows such URLs.
    """
    if is_url(text) and not text.startswith("file://"):
        return RemotePath(text, *file_system(text))
    return Path(text.removeprefix("file://"))


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        MissingExtraError: the packages for it are not installed.
        ScoringError: no package knows such URLs, or what it names cannot be opened.
    """
    with needs("batch", url):
        import fsspec
    try:
        # Others write meanwhile, so listings are not cached.
        fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
    except Exception as error:  # an archive that is none, a server that is not there
        raise ScoringError(f"{url}: cannot be opened ({in_one_line(error)})") from error
    return fs, path


@dataclass(frozen=True)
class RemotePath:
    """A file or folder that fsspec reaches, with the methods of `Path` that nnpipe needs.

    The file systems of fsspec raise errors of many packages. This class turns them into a
    `FileNotFoundError` if there is no such file; otherwise into a `ScoringError` on reading, and
    into an `OutputError` on writing.
    """

    url: str
    fs: Any  # the fsspec file system
    path: str  # in the notation of the file system

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}", self.fs, f"{self.path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path; empty for a bucket."""
        folder, _, name = self.path.rpartition("/")
        return name if folder or self.path.startswith("/") else ""

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return Path(self.name).suffix

    def with_name(self, name: str) -> "RemotePath":
        """Return the place of another name in the same folder."""
        url, path = (text.rpartition("/")[0] for text in (self.url, self.path))
        return RemotePath(url, self.fs, path) / name

    def exists(self) -> bool:
        """Return True for a file or a folder that is there."""
        with self._access():
            return bool(self.fs.exists(self.path))

    def is_dir(self) -> bool:
        """Return True for a folder."""
        with self._access():
            return bool(self.fs.isdir(self.path))

    def iterdir(self) -> Iterator["RemotePath"]:
        """Yield the files and folders in a folder."""
        with self._access():
            paths = self.fs.ls(self.path, detail=False)
        yield from (self / path.rstrip("/").rpartition("/")[2] for path in paths)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open a file to read its bytes. All errors of the block count as the server's."""
        with self._access(), self.fs.open(self.path, "rb") as stream:
            yield stream

    def read_range(self, begin: int, *, end: int) -> bytes:
        """Read the bytes between two positions."""
        with self._access():
            return bytes(self.fs.cat_file(self.path, start=begin, end=end))

    def put(self, file: Path) -> None:
        """Write the content of a local file."""
        with self._access(writing=True):
            self.fs.put_file(str(file), self.path)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file."""
        with self._access(writing=True):
            if not missing_ok or self.fs.exists(self.path):
                self.fs.rm(self.path)

    def remove_files(self, ours: Callable[[str], object]) -> None:
        """Remove files below a folder, and the folders that this leaves empty; see `files`."""
        with suppress(Exception):
            start = len(self.path.rstrip("/")) + 1
            paths = [path for path in self.fs.find(self.path) if ours(path[start:])]
            if paths:
                self.fs.rm(paths)
            for path in [*{path.rpartition("/")[0] for path in paths}, self.path]:
                with suppress(Exception):  # some file systems have no folders
                    if not self.fs.find(path):  # some remove what is in a folder, too
                        self.fs.rmdir(path)

    @contextmanager
    def _access(self, *, writing: bool = False) -> Iterator[None]:
        """Turn the errors of a file system into ours. Every call of one goes through here."""
        try:
            yield
        except NnpipeError:
            raise
        except Exception as error:
            if writing:
                why = f"could not be written ({in_one_line(error)}); name another place"
                raise OutputError(f"{self}: {why}") from error
            if isinstance(error, FileNotFoundError):
                raise
            raise ScoringError(f"{self}: cannot be accessed ({in_one_line(error)})") from error


Place = Path | RemotePath
"""Where a file or folder is."""


# --- names and messages ---------------------------------------------------------------------------

CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal may obey or cannot show: control characters except the end of a line,
line separators, changes of the direction of writing, and lone surrogates."""

UNSAFE = re.compile(f"{CONTROLS.pattern}|\n")
"""Characters that break a line, control a terminal, or change the direction of writing."""


def printable(text: str) -> str:
    r"""Write characters that could harm a terminal as escapes, such as ``\x1b``."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_name(name: str) -> str:
    r"""Write a name as `printable` does, and the end of a line as ``\n``."""
    return printable(name).replace("\n", "\\n")


def in_one_line(message: Exception | str) -> str:
    """Write a text, or the message of an error, in one line; an error without one by its type.

    A parser may quote a broken file, which must break neither a table nor a terminal.
    """
    words = re.sub(r"\s+", " ", str(message), flags=re.ASCII).strip(" ")
    return printable(words) or type(message).__name__


def encode_path(name: str | bytes) -> str:
    r"""Write the name or path of a file as text from which `decode_path` gets it back.

    A file name is bytes, and need not be UTF-8. Each byte that is not UTF-8, and each byte of an
    `UNSAFE` character, becomes ``\xff``; a backslash doubles, so that different names stay
    different. The order of the texts is that of the bytes, except for the names that change.
    """
    text = os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return UNSAFE.sub(lambda match: "".join(f"\\x{b:02x}" for b in match[0].encode()), text)


def decode_path(text: str) -> bytes:
    r"""Return the bytes of the name or path that `encode_path` wrote as ``text``."""
    return re.sub(
        rb"\\(?:\\|x([0-9a-f]{2}))",
        lambda escape: bytes.fromhex(escape[1].decode()) if escape[1] else b"\\",
        text.encode(),
    )
