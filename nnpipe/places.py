"""Places named by a path or by a URL: folders of this machine, S3, all that fsspec knows."""

import re
from pathlib import Path
from typing import Any

from nnpipe.errors import MissingExtraError, ScoringError


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
        raise ScoringError(f"{url}: cannot be opened ({error or type(error).__name__})") from error
    return fs, path


def _unknown(url: str, error: Exception) -> Exception:
    if isinstance(error, ModuleNotFoundError) and error.name in ("fsspec", "upath"):
        return MissingExtraError(f"{url}: URLs and archives need more: pip install 'nnpipe[batch]'")
    return ScoringError(f"{url}: cannot be opened ({error})")
