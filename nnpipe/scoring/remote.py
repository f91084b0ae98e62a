"""Files that fsspec knows how to reach, among them those in archives: listing and fetching."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, NamedTuple

from nnpipe.errors import PictureError, ScoringError
from nnpipe.places import (
    Place,
    RemotePath,
    decode_path,
    encode_path,
    file_system,
    in_one_line,
    is_url,
)
from nnpipe.preprocess.pictures import MAX_BYTES, TOO_LARGE
from nnpipe.scoring.entries import MOST_LOST, Content, Entry, Skip, Source, fixed_part, lost

AT_ONCE = 32
"""Objects that are fetched together, because nearly all of the time is spent waiting for them."""

AT_ONCE_SIZE = 64 * 2**20
"""Bytes of the objects that are fetched together, except for a single larger one."""

TRIES = 4
"""How often a server is asked for an object. Each time, fsspec's packages retry on their own."""

PATIENCE = 60
"""Seconds after which a server is not asked again."""

ID_KEYS = ("ETag", "etag", "md5Hash", "CRC", "created")
"""Keys of a listing whose values change with a file's content. Modification times do not always
change: they are coarse, and a file keeps its own in an archive."""


class Remote(NamedTuple):
    """Reads files that fsspec knows how to reach."""

    url: str  # any URL of the file system
    base: str  # what all paths begin with, in the file system's own words

    @property
    def seconds(self) -> int:
        """Time limit of reading files that are fetched together; a server may be busy."""
        return 300

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """Read the bytes of each file.

        Raises:
            ScoringError: the folder can no longer be reached.
        """
        fs, _ = _opened(self.url)
        in_a_row = 0
        for content in self._fetch_all(fs, entries):
            in_a_row = in_a_row + 1 if isinstance(content, NotServedError) else 0
            if self.base and in_a_row % MOST_LOST == 1:  # without a base, nothing was listed
                self._check(fs)
            yield content

    def _check(self, fs: Any) -> None:
        """Check that the folder that was listed can still be reached."""
        try:
            fs.info(self.base)
        except Exception:  # whatever a server answers; some allow a listing alone, which is slow
            try:
                fs.ls(self.base)
            except Exception as error:
                why = f"can no longer be reached, or is gone ({in_one_line(error)})"
                raise lost(self.url, why) from error

    def _fetch_all(self, fs: Any, entries: Sequence[Entry]) -> Iterator[Content]:
        def fetch(entry: Entry) -> Content:
            path = self.base + os.fsdecode(decode_path(entry.path))
            if is_url(path) and "::" not in self.url:  # in an archive, it is an odd name
                path = fs._strip_protocol(path)
            return _fetch(fs, path, size=entry.size)

        if not fs.async_impl:  # such as archives, whose readers do not work in many threads
            yield from map(fetch, entries)
            return
        with ThreadPoolExecutor(AT_ONCE) as threads:
            rest = list(entries)
            while rest:
                sizes = accumulate(entry.size for entry in rest[:AT_ONCE])
                number = max(1, sum(size <= AT_ONCE_SIZE for size in sizes))
                yield from threads.map(fetch, rest[:number])
                del rest[:number]


class NotServedError(PictureError):
    """A file that its server does not give; it may be the server's fault."""


def _fetch(fs: Any, path: str, *, size: int) -> Content:
    if _means_another(fs, path):
        return PictureError("the file cannot be read: its name would be taken for another's")
    start = time.monotonic()
    for attempt in range(1, TRIES + 1):
        try:
            if (size or fs.info(path)["size"] or 0) > MAX_BYTES:
                return PictureError(TOO_LARGE)
            content: bytes = fs.cat_file(path)
        except FileNotFoundError:
            return NotServedError("there is no such file")
        # Whatever a server or an archive's reader may raise; a busy server answers the next time.
        except Exception as error:
            if hasattr(fs, "fo") and getattr(error, "errno", None):  # of the archive itself
                raise lost(path, f"cannot be read ({in_one_line(error)})") from error
            late = attempt == TRIES or time.monotonic() - start > PATIENCE
            if late or not fs.async_impl or isinstance(error, PermissionError):
                return NotServedError(f"the file cannot be read: {in_one_line(error)}")
            time.sleep(0.1 * 4**attempt)
        else:
            return content or PictureError("the file is empty")
    raise AssertionError


def _means_another(fs: Any, path: str) -> bool:
    """Return True if this name, although it was listed, would open another file.

    s3fs takes ``?versionId=`` for the end of a name. The file system for .zip opens ``a`` for both
    ``a`` and ``/a``.
    """
    if fs.async_impl:
        return "?versionId=" in path and not getattr(fs, "version_aware", True)
    return bool(fs._strip_protocol(path) != path)


_opened = lru_cache(maxsize=1)(file_system)
"""A file system that stays open: reading an archive's list of files takes a while."""


def remote(url: str, outputs: Sequence[Place] = ()) -> Source:
    """Return a folder, a pattern or an archive as a source, without the outputs of this run.

    Raises:
        ScoringError: no package handles such a URL, or it cannot be opened.
    """
    _opened.cache_clear()
    fs, root = _opened(url)
    base = fixed_part(root) if "*" in root else f"{root.rstrip('/')}/" if root else ""
    places = (path for path in outputs if isinstance(path, RemotePath))
    excluded = tuple(f"{path.path}/" for path in places if type(path.fs) is type(fs))

    def entries(skip: Skip) -> Iterator[Entry]:
        files = _list(fs, root, shown=in_one_line(url))
        # In object stores, a folder without files does not exist, so it may be an empty one.
        if not (files or fs.async_impl or fs.exists(base)):
            raise ScoringError(f"{in_one_line(url)}: cannot be listed (there is no such folder)")
        for path, about in files.items():
            if f"{path}/".startswith(excluded) or (path.endswith("/") and not about.get("size")):
                continue  # some tools put an empty object where a folder is
            name = path[len(base) :] if path.startswith(base) else path.rpartition("/")[2]
            if about["type"] in ("file", "link"):
                version = next((about[key] for key in ID_KEYS if about.get(key)), None)
                stamp = "" if version is None else f"{about.get('size')}-{version}"
                yield Entry(encode_path(name), stamp, about.get("size") or 0)
            else:
                skip(encode_path(name), "neither file nor folder")

    named = "*" in root and "/." in f"/{root[len(base) :]}"
    return Source(url.rstrip("/"), Remote(url, base), entries, named)


def _list(fs: Any, root: str, *, shown: str) -> dict[str, dict[str, Any]]:
    """Return all files below a folder, or matching a pattern, by their paths.

    Raises:
        ScoringError: they cannot be listed.
    """
    try:
        files = _find(fs, root)
    except Exception as error:  # whatever a server answers
        kinds = str(type(error.__cause__ or error).mro())  # every package has its own
        verb = "reached" if re.search("Connect|Timeout", kinds) else "listed"
        raise ScoringError(f"{shown}: cannot be {verb} ({in_one_line(error)})") from error
    if hasattr(fs, "tar"):  # whose reader stops silently at damage
        fs.fo.seek(fs.tar.offset)
        if fs.fo.read(512).strip(b"\0"):
            raise ScoringError(f"{shown}: is damaged (after {len(files):,} files)")
    if root in files and "*" not in root:
        raise ScoringError(f"{shown}: is a single file; name its folder, or a pattern")
    return files


def _find(fs: Any, root: str) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]]
    if hasattr(fs, "tar") and not root:  # its find is slow, and takes /a and a for the same
        files = {name: about for name, (about, *_) in fs.index.items()}
        files |= {member.name: {"type": "other"} for member in fs.tar if member.isdev()}
        return {name: about for name, about in files.items() if about["type"] != "directory"}
    # With folders, glob leaves out an object that has the name of a folder. http has no option.
    options = {} if "http" in fs.protocol else {"withdirs": False}
    if fs.async_impl:
        fs._ls = partial(_list_folder, fs)
    try:
        files = (fs.glob if "*" in root else fs.find)(root, detail=True, **options)
    finally:
        vars(fs).pop("_ls", None)
    return files


async def _list_folder(fs: Any, path: str, **options: Any) -> Any:
    """List a folder, but fail on an `OSError`, for which fsspec would take the folder as empty."""
    try:
        return await type(fs)._ls(fs, path, **options)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path in str(error):
            raise
        raise ScoringError(in_one_line(error)) from error
