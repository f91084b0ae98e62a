"""Where pictures come from: folders, patterns, lists, archives and URLs.

A source gives an *entry* for each of its files, and reads the files of given entries. The first
happens once, in the process that plans; the second in the worker processes.
"""

import codecs
import glob
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image

from nnpipe.errors import PictureError, ScoringError
from nnpipe.places import file_system, in_one_line, is_remote, is_url
from nnpipe.preprocess import MAX_BYTES, SECONDS, TOO_LARGE, read_file
from nnpipe.scoring.rows import decode_path, encode_path

AT_ONCE = 32
"""So many objects are fetched together: each takes its time to arrive, and little else."""

AT_ONCE_SIZE = 64 * 2**20
"""Fewer, where they are large; more than one has then not so many bytes in all."""

TRIES = 4
PATIENCE = 60
"""So often a server is asked for an object, and not again after so many seconds. Each time the
packages below have asked more than once already."""

NO_TEXT = frozenset(range(32)) - frozenset(b"\0\t\n\r")
"""Bytes that tell that a file is no list of paths. (Odd names are listed with NUL as their end.)"""

ARCHIVES = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
    b"PK\x03\x04",
    b"\x28\xb5\x2f\xfd",
)
"""What files begin with that hold others, or a .tar, and are not read as they are."""

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
        for entry in entries:
            name = decode_path(entry.path)
            try:
                yield read_file(name if name.startswith(b"/") else root + name, regular=True)
            except PictureError as error:
                yield error
            except MemoryError:
                yield PictureError("the file takes more memory than can be had")


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
            return PictureError("there is no such file")
        # Whatever a server or an archive's reader may raise; a busy server answers the next time.
        except Exception as error:
            late = tried == TRIES or time.monotonic() - start > PATIENCE
            if late or not fs.async_impl or isinstance(error, PermissionError):
                return PictureError(f"the file cannot be read: {in_one_line(error)}")
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
    path = Path(source)
    if source == "-":
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            yield _listed("stdin", copy)
    elif is_url(source):
        yield _remote(source, but)
    elif path.is_dir():
        root = os.path.realpath(source)
        outputs = _local(but)
        yield Source(root, Local(root), lambda skip: _walk(os.fsencode(root), skip, outputs))
    elif path.suffix.lower() in (".zip", ".tar") and path.is_file():
        yield _remote(f"{path.suffix[1:].lower()}://::file://{path.resolve()}")
    elif path.is_file():
        if _is_picture(path):
            raise ScoringError(f"{source}: is a picture; a single one is read by 'nnpipe predict'")
        with open(path, "rb") as stream:
            yield _listed(source, stream)
    elif glob.has_magic(source):
        yield _matching(source, _local(but))
    else:
        raise ScoringError(f"{source}: cannot be listed (there is no such file or folder)")


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path):
            return True
    except Exception:
        return False


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
                    f"{os.fsdecode(root)}: cannot be listed ({error.strerror})"
                ) from None
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
    rest += b"/*" if rest.endswith(b"**") else b""
    below = tuple(output + b"/" for output in outputs)

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
    return Source(os.fsdecode(os.path.join(root, rest)), reader, entries)


def _listed(name: str, stream: IO[bytes]) -> Source:
    """Paths in a text; relative ones count from the working folder."""
    stream.seek(0)
    digest, nul = hashlib.sha256(), False
    while block := stream.read(2**20):
        digest.update(block)
        nul = nul or b"\0" in block
        if block.startswith(ARCHIVES) or not (nul or NO_TEXT.isdisjoint(block)):
            raise ScoringError(f"{name}: is neither folder, .zip, .tar, nor a text of paths")
    first = os.fsdecode(next(_lines(stream, nul), b""))
    if is_url(first):
        reader: Local | Remote = Remote(first, "")
    else:
        reader = Local(os.getcwd())

    def entries(skip: Skip) -> Iterator[Entry]:
        for name in _lines(stream, nul):
            if isinstance(reader, Remote):
                yield Entry(encode_path(name))
            elif entry := _entry(name, os.path.join(os.fsencode(reader.root), name), skip):
                yield entry

    return Source(f"a list ({digest.hexdigest()}) in {os.getcwd()}", reader, entries)


def _lines(stream: IO[bytes], nul: bool) -> Iterator[bytes]:
    """The lines of a text that are not empty, or its parts that end with NUL."""
    end = b"\0" if nul else b"\n"
    stream.seek(0)
    stream.seek(3 if stream.read(3) == codecs.BOM_UTF8 else 0)
    rest = b""
    while block := stream.read(2**20):
        *whole, rest = (rest + block).split(end)
        yield from filter(None, whole if nul else (line.rstrip(b"\r") for line in whole))
    yield from filter(None, [rest])


@lru_cache(maxsize=1)
def _opened(url: str) -> tuple[Any, str]:
    """A file system that stays open: an archive's list of files takes a while to read."""
    return file_system(url)


def _find(fs: Any, root: str) -> dict[str, dict[str, Any]]:
    """All files below a folder, or matching a pattern, by their paths."""
    found: dict[str, dict[str, Any]]
    if hasattr(fs, "tar") and not root:  # its find is slow, and takes /a and a for the same
        found = {name: about for name, (about, *_) in fs.index.items()}
        return {name: about for name, about in found.items() if about["type"] != "directory"}
    # With folders, glob leaves out an object that has the name of one; http's knows no choice.
    options = {} if "http" in fs.protocol else {"withdirs": False}
    found = (fs.glob if "*" in root else fs.find)(root, detail=True, **options)
    return found


def _remote(url: str, but: Sequence[Any] = ()) -> Source:
    _opened.cache_clear()
    fs, root = _opened(url)
    outputs = tuple(f"{p.path}/" for p in but if is_remote(p) and type(p.fs) is type(fs))
    base = _fixed_part(root) if "*" in root else f"{root.rstrip('/')}/" if root else ""

    def entries(skip: Skip) -> Iterator[Entry]:
        try:
            found = _find(fs, root)
        except Exception as error:  # whatever a server answers
            raise ScoringError(f"{url}: cannot be listed ({in_one_line(error)})") from error
        if _is_damaged_tar(fs):
            raise ScoringError(f"{url}: is damaged (after {len(found):,} files)")
        for path, about in found.items():
            if path == root and "*" not in root:
                raise ScoringError(f"{url}: is a single file; name its folder, or a pattern")
            if f"{path}/".startswith(outputs) or (path.endswith("/") and not about.get("size")):
                continue  # what some tools put where a folder is
            name = path[len(base) :] if path.startswith(base) else path.rpartition("/")[2]
            if about["type"] in ("file", "link"):
                yield Entry(encode_path(name), _stamp(about), about.get("size") or 0)
            else:
                skip(encode_path(name), "neither file nor folder")

    return Source(url.rstrip("/"), Remote(url, base), entries)


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
