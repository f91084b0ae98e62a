"""Files: written whole or not at all, read without waiting, hashed, and removed by name."""

import errno
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nnpipe.errors import NnpipeError, OutputError
from nnpipe.places import Place, RemotePath

TEMPORARY = r"\.nnpipe-[0-9a-f]{12}\.tmp"
"""Pattern of the names of temporary files that become others."""


@contextmanager
def replacing(path: Place, *, scratch: Any = None) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of ``path`` when the block ends without an error.

    A reader sees the old file or the new one, never a part, whenever the process dies. If the block
    fails, the temporary file is removed and the old one stays. A remote place gets the file in one
    piece, when it is whole.

    Args:
        path: the file to replace.
        scratch: a folder of the same file system for the temporary file; by default ``path``'s.

    Raises:
        OutputError: the file cannot be written (no space, no permission, a folder in its place).
    """
    folder = temporary_folder() if isinstance(path, RemotePath) else scratch or path.parent
    # Short and independent of the name, which may already be as long as the file system allows.
    temporary = folder / f".nnpipe-{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(temporary, "x+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if isinstance(path, RemotePath):
            path.put(temporary)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
    except OSError as error:
        full = isinstance(path, RemotePath) and is_full(error)
        raise cannot_write(folder if full else path, error) from error
    finally:
        with suppress(OSError):  # of a folder that cannot be read, either
            temporary.unlink()


@contextmanager
def locked(
    path: Path, *, busy: NnpipeError | None = None, output: Path | None = None
) -> Iterator[None]:
    """Hold a lock file while the block runs. The system releases it when this process ends.

    The block may remove the file, as its last step. Windows has no such locks: there nothing is
    locked.

    Args:
        path: the lock file. It is made if need be.
        busy: what to raise if another process holds it; by default, wait for that process.
        output: what the error names, if the file cannot be made; by default the file.

    Raises:
        NnpipeError: another process holds it, and ``busy`` is given.
        OutputError: the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with ExitStack() as stack:
        try:
            while True:
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
                stack.callback(os.close, stream)
                fcntl.flock(stream, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
                # Its last holder may have removed the file between these two steps.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(stream), path.lstat()):
                        break
                stack.close()
        except OSError as error:
            if busy and isinstance(error, BlockingIOError):
                raise busy from None
            raise cannot_write(output or path, error) from error
        yield


def temporary_folder() -> Path:
    """Return the folder for temporary files.

    Raises:
        OutputError: there is none.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise OutputError("no temporary folder can be written; name one with TMPDIR") from error


def check_writable(folder: Path) -> None:
    """Check that files can be written into a folder, before hours of work. It need not exist yet.

    Raises:
        OutputError: they cannot.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    why = errno.EACCES if existing.is_dir() else errno.ENOTDIR
    if why == errno.ENOTDIR or not os.access(existing, os.W_OK | os.X_OK):
        raise cannot_write(folder, OSError(why, os.strerror(why)))


def cannot_write(path: Place, error: OSError) -> OutputError:
    """Return the error for a file or folder that cannot be written."""
    return OutputError(
        f"{path}: could not be written ({error.strerror or error}); "
        f"{'free some space or ' if is_full(error) else ''}name another place"
    )


def is_full(error: OSError) -> bool:
    """Return True if there is no space, or no quota, left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_json(path: Place, content: object, *, scratch: Any = None) -> None:
    """Write ``content`` as indented JSON (UTF-8, no NaN), whole or not at all; see `replacing`."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path, scratch=scratch) as stream:
        # A path need not be UTF-8. Its other bytes are lone surrogates, which become escapes.
        stream.write(text.encode("utf-8", "backslashreplace"))


def sha256(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(stream: IO[bytes]) -> str:
    """Return the SHA-256 of an open file from its beginning, as 64 hexadecimal digits."""
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def open_regular(path: Place, *, links: bool = True) -> AbstractContextManager[IO[bytes]]:
    """Open a regular file to read its bytes, and never wait for one.

    Args:
        path: the file.
        links: whether it may be a link.

    Raises:
        OSError: the file cannot be read, or is a folder, pipe, socket or device.
    """
    if isinstance(path, RemotePath):
        return path.open()
    # Without O_NONBLOCK, opening a pipe waits for a writer. Windows has neither.
    flags = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    stream = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "is a pipe or a device, expected a file", str(path))
    return stream


def size_of(path: Place) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        OSError: see `open_regular`.
    """
    with open_regular(path, links=False) as stream:
        return stream.seek(0, os.SEEK_END)


def read_range(path: Place, begin: int, *, end: int) -> bytes:
    """Read the bytes of a regular file between two positions.

    Raises:
        OSError: see `open_regular`.
    """
    if isinstance(path, RemotePath):  # an open one would fetch more than is read
        return path.read_range(begin, end=end)
    with open_regular(path) as stream:
        stream.seek(begin)
        return stream.read(end - begin)


def remove_files(folder: Place, ours: Callable[[str], object]) -> None:
    """Remove files below a folder by name, and the folders that this leaves empty.

    Links are not followed. A file that cannot be removed stays, and so does any other file.

    Args:
        folder: where to look.
        ours: returns True for what is to be removed, by its path relative to the folder; the path
            of a folder ends with a slash.
    """
    if isinstance(folder, RemotePath):
        folder.remove_files(ours)
        return
    for root, _, names in os.walk(folder, topdown=False):
        below = Path(root).relative_to(folder)
        for name in names:
            if ours((below / name).as_posix()):
                with suppress(OSError):
                    (folder / below / name).unlink()
        if ours(f"{below.as_posix()}/"):
            with suppress(OSError):
                (folder / below).rmdir()
