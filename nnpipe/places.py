"""Places named by a path or by a URL: folders of this machine, S3, all that fsspec knows."""

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnpipe.errors import MissingExtraError, NnpipeError, ScoringError


def is_url(text: str) -> bool:
    """Whether this is a URL, such as ``s3://bucket/folder``, and not a path."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*://", text))


def place(text: str) -> Path:
    """The place as something that has the methods of a `Path`.

    Raises:
        MissingExtraError: it is a URL, and the packages for it are not installed.
        ScoringError: no package knows such URLs.
    """
    if not is_url(text):
        return Path(text)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    try:
        from upath import UPath

        # What others write meanwhile is to be seen, so listings are not kept.
        remote: Any = UPath(text, use_listings_cache=False)
        _ = remote.fs
    except (ImportError, ValueError) as error:
        raise _unknown(text, error) from None
    return remote  # type: ignore[no-any-return]


def is_remote(path: Path) -> bool:
    """Whether a place is beyond the file systems of this machine."""
    return not isinstance(path, Path)


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        MissingExtraError: the packages for it are not installed.
        ScoringError: no package knows such URLs, or what it names cannot be opened.
    """
    try:
        import fsspec

        fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise _unknown(url, error) from None
    except Exception as error:  # an archive that is none, a server that is not there
        raise ScoringError(f"{url}: cannot be opened ({in_one_line(error)})") from error
    return fs, path


@contextmanager
def accessed(path: Path) -> Iterator[None]:
    """Turn what a server answers, or what is on the way to it, into a sentence.

    Raises:
        ScoringError: the place, which is a remote one, cannot be read or written.
    """
    try:
        yield
    except NnpipeError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        # Every package has errors of its own; what they share is that fsspec has called it.
        if not any(frame.f_globals.get("__name__", "").startswith("fsspec") for frame, _ in frames):
            raise
        raise ScoringError(f"{path}: cannot be accessed ({in_one_line(error)})") from error


CONTROLS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What a terminal may obey or cannot show: control characters but the end of a line, separators of
lines, changes of the direction of writing, and lone surrogates."""


def printable(text: str) -> str:
    r"""Write the characters that a terminal must not get as escapes, such as ``\x1b``."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_name(name: str) -> str:
    r"""Write a name as `printable` does, and the end of a line, too, as ``\n``."""
    return printable(name).replace("\n", "\\n")


def in_one_line(said: Exception | str) -> str:
    """The message of an error, or else its type; or any other text.

    What a parser quotes from a broken file must break neither a table nor a terminal.
    """
    words = re.sub(r"\s+", " ", str(said), flags=re.ASCII).strip(" ")
    return printable(words) or type(said).__name__


def _unknown(url: str, error: Exception) -> Exception:
    if isinstance(error, ModuleNotFoundError) and error.name in ("fsspec", "upath"):
        why = "URLs and archives need more: pip install '.[batch]' in nnpipe's folder"
        return MissingExtraError(f"{url}: {why}")
    return ScoringError(f"{url}: cannot be opened ({error})")
