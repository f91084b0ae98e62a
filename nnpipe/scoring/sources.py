"""Where pictures come from: folders, patterns, lists, archives and URLs.

A source gives an *entry* for each of its files, and reads the files of given entries. The first
happens once, in the process that plans; the second in the worker processes.
"""

import glob
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from nnpipe.errors import PictureError, ScoringError
from nnpipe.places import file_system, in_one_line, is_remote, is_url
from nnpipe.preprocess import MAX_BYTES, SECONDS, TOO_LARGE, read_file
from nnpipe.scoring.lists import PathList
from nnpipe.scoring.rows import decode_path, encode_path

AT_ONCE = 32
"""So many objects are fetched together: each takes its time to arrive, and little else."""

AT_ONCE_SIZE = 64 * 2**20
"""Fewer, where they are large; more than one has then not so many bytes in all."""

TRIES = 4
PATIENCE = 60
"""So often a server is asked for an object, and not again after so many seconds. Each time the
packages below have asked more than once already."""

LOST_IN_A_ROW = 20
"""Files in a row that the listing saw and that are gone, or cannot be read any more: more than the
files is wrong."""

LITTER = "hidden file or system litter"
"""The reason in the summary for files that `is_litter` leaves out."""

LITTER_NAMES = {"thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"}
"""Files and folders of file managers and archivers, in lower case."""

JUST_NOW = 2 * 10**9
"""What was written less than two seconds (in ns) ago may yet change without a new time stamp."""


class Entry(NamedTuple):
    """A file of a source."""

    path: str  # see `rows.encode_path`
    stamp: str = ""  # changes with the file's content; empty if that cannot be told
    size: int = 0  # in bytes, as far as known


Skip = Callable[[str, str], None]  # is told the path of what is no file, and why it has no row
Content = bytes | PictureError


class Local(NamedTuple):
    """Files below a folder of this machine; absolute paths are taken as they are."""

    root: str

    @property
    def seconds(self) -> int:
        """How long reading one of them may take."""
        return SECONDS

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """The bytes of each file, or why they cannot be had."""
        root = os.fsencode(self.root) + b"/"
        lost = 0  # files in a row
        for entry in entries:
            name = decode_path(entry.path)
            content: Content
            try:
                content = read_file(name if name.startswith(b"/") else root + name, regular=True)
            except PictureError as error:
                content = error
            except MemoryError:
                content = PictureError("the file takes more memory than can be had")
            lost = self._lost(entry, content, lost) if isinstance(content, PictureError) else 0
            yield content

    def _lost(self, entry: Entry, error: PictureError, before: int) -> int:
        """Count the files in a row that the listing saw and the system can no longer read.

        Raises:
            ScoringError: the folder is gone, or these are too many.
        """
        cause = error.__context__
        if not isinstance(cause, OSError) or not (entry.stamp or entry.size):
            return 0
        if not entry.path.startswith("/"):
            _check_root(self.root)
        if isinstance(cause, PermissionError):
            return 0
        if before + 1 == LOST_IN_A_ROW:
            why = f"{LOST_IN_A_ROW} files in a row are lost (the last is {entry.path}: {error})"
            raise _gone(self.root, why)
        return before + 1


def _gone(source: str, why: str) -> ScoringError:
    return ScoringError(
        f"{in_one_line(source)}: {why}; what is done is kept, and the same command goes on when "
        "the files are back; if they stay away, remove the folder beside the output that ends with "
        ".nnpipe to begin again"
    )


def _check_root(root: str) -> None:
    """Raise a `ScoringError` if a folder in which there were files is gone, closed or empty."""
    try:
        with os.scandir(root) as items:
            if next(items, None):
                return
        why = "the folder is empty now"
    except OSError as error:
        why = str(error.strerror)
    raise _gone(root, f"the files that were there are gone ({why})")


class Remote(NamedTuple):
    """Files that fsspec knows how to reach, among them those in archives."""

    url: str  # of the file system: of what it names, only that counts
    base: str  # what all paths begin with, in the file system's own words

    @property
    def seconds(self) -> int:
        """How long reading those may take that are fetched together; a server may be busy."""
        return 300

    def read(self, entries: Sequence[Entry]) -> Iterator[Content]:
        """The bytes of each file, or why they cannot be had."""
        fs, _ = _opened(self.url)
        lost = 0  # files in a row
        for content in self._fetch_all(fs, entries):
            lost = lost + 1 if isinstance(content, NotServedError) else 0
            if self.base and lost % LOST_IN_A_ROW == 1:  # without a base, nothing was listed
                self._check(fs)
            yield content

    def _check(self, fs: Any) -> None:
        """Raise a `ScoringError` if the folder that was listed cannot be listed any more."""
        try:
            fs.info(self.base)
        except Exception:  # whatever a server answers; some allow a listing alone, which is slow
            try:
                fs.ls(self.base)
            except Exception as error:
                why = f"can no longer be reached, or is gone ({in_one_line(error)})"
                raise _gone(self.url, why) from error

    def _fetch_all(self, fs: Any, entries: Sequence[Entry]) -> Iterator[Content]:
        def fetch(entry: Entry) -> Content:
            path = self.base + os.fsdecode(decode_path(entry.path))
            if is_url(path) and "::" not in self.url:  # in an archive, it is but an odd name
                path = fs._strip_protocol(path)
            return _fetch(fs, path, entry.size)

        if not fs.async_impl:  # such as archives, whose readers are no place for many threads
            yield from map(fetch, entries)
            return
        with ThreadPoolExecutor(AT_ONCE) as threads:
            left = list(entries)
            while left:
                sizes = accumulate(entry.size for entry in left[:AT_ONCE])
                number = max(1, sum(size <= AT_ONCE_SIZE for size in sizes))
                yield from threads.map(fetch, left[:number])
                del left[:number]


class NotServedError(PictureError):
    """A file that its server does not give; it may be the server's fault."""


def _fetch(fs: Any, path: str, size: int) -> Content:
    if _means_another(fs, path):
        return PictureError("the file cannot be read: its name would be taken for another's")
    start = time.monotonic()
    for tried in range(1, TRIES + 1):
        try:
            if (size or fs.info(path)["size"] or 0) > MAX_BYTES:
                return PictureError(TOO_LARGE)
            content: bytes = fs.cat_file(path)
        except FileNotFoundError:
            return NotServedError("there is no such file")
        # Whatever a server or an archive's reader may raise; a busy server answers the next time.
        except Exception as error:
            if hasattr(fs, "fo") and getattr(error, "errno", None):  # of the archive itself
                raise _gone(path, f"cannot be read ({in_one_line(error)})") from error
            late = tried == TRIES or time.monotonic() - start > PATIENCE
            if late or not fs.async_impl or isinstance(error, PermissionError):
                return NotServedError(f"the file cannot be read: {in_one_line(error)}")
            time.sleep(0.1 * 4**tried)
        else:
            return content or PictureError("the file is empty")
    raise AssertionError


def _means_another(fs: Any, path: str) -> bool:
    """Whether a file system reads a name, one that it has listed itself, as that of another file.

    For s3fs, ``?versionId=`` ends a name; zipfile's has no root, and so no ``/a`` beside ``a``.
    """
    if fs.async_impl:
        return "?versionId=" in path and not getattr(fs, "version_aware", True)
    return bool(fs._strip_protocol(path) != path)


class Source(NamedTuple):
    """What is to be scored."""

    identity: str  # the same whenever the same is meant
    reader: Local | Remote
    entries: Callable[[Skip], Iterator[Entry]]  # in any order
    named: bool = False  # whether a person named each file, so that litter is not left out


@contextmanager
def open_source(source: str, but: Sequence[Path] = ()) -> Iterator[Source]:
    """Find out what kind of source is meant, and keep it open.

    Args:
        source: a folder; a pattern (``scans/*/*.png``, ``**`` for any folders); a text file of
            paths, one to a line or each ended by NUL, or ``-`` for such a text on stdin; a .zip or
            .tar file; or a URL of a folder or pattern.
        but: what is left out of a folder: the output of an earlier run.

    Raises:
        ScoringError: there is no such thing, or it is none of these.
    """
    if not source:
        raise ScoringError("the source has no name; expected a folder, a list, an archive or a URL")
    path, shown = Path(source), in_one_line(source)
    if source == "-":
        if sys.stdin is None:
            raise ScoringError("stdin: is closed; expected a list of paths")
        with tempfile.TemporaryFile() as copy:
            yield _listed(PathList("stdin", sys.stdin.buffer, copy), "stdin")
    elif is_url(source):
        yield _remote(source, but)
    elif path.is_dir():
        root = os.path.realpath(source)
        outputs = _local(but)
        yield Source(root, Local(root), lambda skip: _walk(os.fsencode(root), skip, outputs))
    elif path.suffix.lower() in (".zip", ".tar") and path.is_file():
        yield _remote(f"{path.suffix[1:].lower()}://::file://{path.resolve()}")
    elif path.is_file():
        with open(path, "rb") as stream:
            yield _listed(PathList(shown, stream), shown)
    elif path.exists():
        why = "is a pipe, a socket or a device; to score what it lists, give - and redirect stdin"
        raise ScoringError(f"{shown}: {why}")
    elif glob.has_magic(source):
        yield _matching(source, _local(but))
    else:
        raise ScoringError(f"{shown}: cannot be listed (there is no such file or folder)")


def is_litter(path: str) -> bool:
    """Whether a path is hidden, or a file that file managers and archivers leave; or lies in one.

    Args:
        path: relative to the source, whose own name does not count.
    """
    return any(
        (part.startswith(".") and part not in (".", "..")) or part.lower() in LITTER_NAMES
        for part in path.split("/")
    )


def _entry(name: bytes, path: bytes, skip: Skip) -> Entry | None:
    """The entry of a local file; a link to nothing has one, too: its row will say why."""
    try:
        found = os.stat(path)
    except OSError:
        return Entry(encode_path(name))
    if stat.S_ISDIR(found.st_mode):
        is_link = os.path.islink(path)
        skip(encode_path(name), "link to a folder" if is_link else "folder")
    elif not stat.S_ISREG(found.st_mode):
        skip(encode_path(name), "neither file nor folder")
    else:
        times = found.st_mtime_ns, found.st_ctime_ns  # the second changes when a file is renamed
        settled = max(times) < time.time_ns() - JUST_NOW
        stamp = f"{found.st_size}-{times[0]}-{times[1]}-{found.st_ino}" if settled else ""
        return Entry(encode_path(name), stamp, found.st_size)
    return None


def _walk(root: bytes, skip: Skip, outputs: set[bytes]) -> Iterator[Entry]:
    """Every file below a folder; links to files count, links to folders are not followed."""
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                for item in found:
                    name = folder + item.name
                    if item.path in outputs:
                        continue
                    if item.is_dir(follow_symlinks=False):
                        folders.append(name + b"/")
                    elif entry := _entry(name, item.path, skip):
                        yield entry
        except OSError as error:
            if not folder:
                raise ScoringError(
                    f"{in_one_line(os.fsdecode(root))}: cannot be listed ({error.strerror})"
                ) from None
            _check_root(os.fsdecode(root))
            skip(encode_path(folder[:-1]), f"folder cannot be read ({error.strerror})")


def _fixed_part(pattern: str) -> str:
    """The folder in which a pattern begins to vary, with its slash; paths are relative to it."""
    first = next(i for i, character in enumerate(pattern) if character in "*?[")
    return pattern[: pattern.rfind("/", 0, first) + 1]


def _local(places: Sequence[Path]) -> set[bytes]:
    """Those places that are on this machine, as absolute paths."""
    return {os.fsencode(p.parent.resolve() / p.name) for p in places if not is_remote(p)}


def _matching(pattern: str, outputs: set[bytes]) -> Source:
    base = _fixed_part(pattern)
    root, rest = os.fsencode(os.path.realpath(base)), os.fsencode(pattern[len(base) :])
    if any(b"**" in part != b"**" for part in rest.split(b"/")):
        raise ScoringError(f"{in_one_line(pattern)}: ** stands for folders; put it between two /")
    rest += b"/*" if rest.endswith(b"**") else b""
    below = tuple(output + b"/" for output in outputs)
    named = b"/." in b"/" + rest  # as in shells, * stands for no hidden file, but .* does

    def entries(skip: Skip) -> Iterator[Entry]:
        # Unlike the module glob's, this ** does not follow links, in which it may turn in circles.
        for found in Path(os.fsdecode(root)).glob(os.fsdecode(rest)):
            path = os.fsencode(found)
            name = path[len(root) :].lstrip(b"/")
            if path in outputs or path.startswith(below):
                continue
            if entry := _entry(name, path, skip):
                yield entry

    reader = Local(os.fsdecode(root))
    return Source(os.fsdecode(os.path.join(root, rest)), reader, entries, named)


def _listed(paths: PathList, name: str) -> Source:
    """Paths in a text; relative ones count from the working folder."""
    first = os.fsdecode(next(paths.paths(), b""))
    if not first:
        raise ScoringError(f"{name}: is an empty list; expected one path to a line")
    reader = Remote(first, "") if is_url(first) else Local(os.getcwd())

    def entries(skip: Skip) -> Iterator[Entry]:
        for path in paths.paths():
            if isinstance(reader, Remote):
                yield Entry(encode_path(path))
            elif entry := _entry(path, os.path.join(os.fsencode(reader.root), path), skip):
                yield entry

    return Source(f"a list ({paths.digest}) in {os.getcwd()}", reader, entries, named=True)


@lru_cache(maxsize=1)
def _opened(url: str) -> tuple[Any, str]:
    """A file system that stays open: an archive's list of files takes a while to read."""
    return file_system(url)


def _find(fs: Any, root: str) -> dict[str, dict[str, Any]]:
    """All files below a folder, or matching a pattern, by their paths."""
    found: dict[str, dict[str, Any]]
    if hasattr(fs, "tar") and not root:  # its find is slow, and takes /a and a for the same
        found = {name: about for name, (about, *_) in fs.index.items()}
        found |= {member.name: {"type": "other"} for member in fs.tar if member.isdev()}
        return {name: about for name, about in found.items() if about["type"] != "directory"}
    # With folders, glob leaves out an object that has the name of one; http's knows no choice.
    options = {} if "http" in fs.protocol else {"withdirs": False}
    if fs.async_impl:
        fs._ls = partial(_list_folder, fs)
    try:
        found = (fs.glob if "*" in root else fs.find)(root, detail=True, **options)
    finally:
        vars(fs).pop("_ls", None)
    return found


async def _list_folder(fs: Any, path: str, **options: Any) -> Any:
    """List a folder; fsspec takes one for empty if its listing raises an `OSError`."""
    try:
        return await type(fs)._ls(fs, path, **options)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path in str(error):
            raise
        raise ScoringError(in_one_line(error)) from error


def _remote(url: str, but: Sequence[Any] = ()) -> Source:
    shown = in_one_line(url)
    _opened.cache_clear()
    fs, root = _opened(url)
    outputs = tuple(f"{p.path}/" for p in but if is_remote(p) and type(p.fs) is type(fs))
    base = _fixed_part(root) if "*" in root else f"{root.rstrip('/')}/" if root else ""
    named = "*" in root and "/." in f"/{root[len(base) :]}"

    def entries(skip: Skip) -> Iterator[Entry]:
        try:
            found = _find(fs, root)
        except Exception as error:  # whatever a server answers
            kinds = str(type(error.__cause__ or error).mro())  # every package has its own
            what = "reached" if re.search("Connect|Timeout", kinds) else "listed"
            raise ScoringError(f"{shown}: cannot be {what} ({in_one_line(error)})") from error
        if _is_damaged_tar(fs):
            raise ScoringError(f"{shown}: is damaged (after {len(found):,} files)")
        for path, about in found.items():
            if path == root and "*" not in root:
                raise ScoringError(f"{shown}: is a single file; name its folder, or a pattern")
            if f"{path}/".startswith(outputs) or (path.endswith("/") and not about.get("size")):
                continue  # what some tools put where a folder is
            name = path[len(base) :] if path.startswith(base) else path.rpartition("/")[2]
            if about["type"] in ("file", "link"):
                yield Entry(encode_path(name), _stamp(about), about.get("size") or 0)
            else:
                skip(encode_path(name), "neither file nor folder")

    return Source(url.rstrip("/"), Remote(url, base), entries, named)


def _is_damaged_tar(fs: Any) -> bool:
    """Whether a .tar goes on where its reader has stopped: at a header that is none, in silence."""
    if not hasattr(fs, "tar"):
        return False
    fs.fo.seek(fs.tar.offset)
    return bool(fs.fo.read(512).strip(b"\0"))


def _stamp(about: dict[str, Any]) -> str:
    """What a server or an archive tells of a file that changes with its content."""
    # Times are too coarse, or are kept when a file is put into an archive.
    keys = ("ETag", "etag", "md5Hash", "CRC", "created")
    found = next((about[key] for key in keys if about.get(key)), None)
    return "" if found is None else f"{about.get('size')}-{found}"
