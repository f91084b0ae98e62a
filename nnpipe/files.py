"""Files: written whole or not at all, read without waiting, hashed, and removed by name."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from nnpipe.errors import OutputError
from nnpipe.places import in_one_line, is_remote


@contextmanager
def replacing(
    path: Path, mode: str = "wb", *, scratch: Path | None = None, **options: Any
) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well.

    A reader sees the old file or the new one, never a part, whatever moment the process dies at.
    When the block fails, the temporary file is removed and the old one stays. A place that is
    not on this machine gets the file in one piece, when it is whole.

    Args:
        path: what is to be replaced.
        mode: as that of ``open``.
        scratch: a folder for the temporary file, of the same file system; by default ``path``'s.
        options: more for ``open``.

    Raises:
        OutputError: the file cannot be written (no space, no permission, a folder in its place).
    """
    remote = is_remote(path)
    folder = temporary_folder() if remote else scratch or path.parent
    # Short and independent of the name, which may already be as long as the file system allows.
    temporary = folder / f".nnpipe-{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode.replace("w", "x"), **options) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if remote:
            _upload(temporary, path)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
    except OSError as error:
        raise cannot_write(folder if remote and _is_full(error) else path, error) from error
    finally:
        with suppress(OSError):  # where it could not be made, it may not be looked for, either
            temporary.unlink()


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file; the system releases it when this process ends, in whatever way.

    The block may remove the file, as its last step. Windows knows no such locks: there nothing is
    locked.

    Args:
        path: the lock file. It is made if need be.
        wait: whether to wait for whoever holds it.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is False.
        OutputError: the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    stream = -1
    try:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Its last holder may have removed the file between these two steps.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream), path.lstat()):
                    break
            os.close(stream)
    except OSError as error:
        if stream >= 0:
            os.close(stream)
        if isinstance(error, BlockingIOError):
            raise
        raise cannot_write(path, error) from error
    try:
        yield
    finally:
        os.close(stream)


def temporary_folder() -> Path:
    """Return the folder for temporary files; raise an OutputError if there is none."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise OutputError("no temporary folder can be written; name one with TMPDIR") from error


def _upload(file: Path, to: Any) -> None:
    try:
        to.fs.put_file(str(file), to.path)
    except Exception as error:  # whatever a server answers
        raise cannot_write(to, OSError(in_one_line(error))) from error


def check_writable(folder: Path) -> None:
    """See whether files can be written into a folder, which need not be there yet.

    Raises:
        OutputError: they cannot; better said before hours of work than after.
    """
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise cannot_write(folder, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(there, os.W_OK | os.X_OK):
        raise cannot_write(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The sentence for a file or folder that the system does not let us write."""
    return OutputError(
        f"{path}: could not be written ({error.strerror or error}); "
        f"{'free some space or ' if _is_full(error) else ''}name another place"
    )


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def write_json(path: Path, content: object, scratch: Path | None = None) -> None:
    """Write ``content`` as indented JSON (UTF-8, no NaN), whole or not at all; see `replacing`."""
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:  # the path of a folder need not be UTF-8
        text = json.dumps(content, indent=2, allow_nan=False).encode()
    with replacing(path, scratch=scratch) as stream:
        stream.write(text + b"\n")


def sha256(content: bytes) -> str:
    """The SHA-256 of ``content`` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def temporary_copy(content: bytes, suffix: str) -> Iterator[Path]:
    """Have bytes as a file in the folder for temporary files while the block runs.

    Raises:
        OutputError: it cannot be written.
    """
    folder = temporary_folder()
    try:
        copy = tempfile.NamedTemporaryFile(suffix=suffix, dir=folder)  # noqa: SIM115
        copy.write(content)
        copy.flush()
    except OSError as error:
        raise cannot_write(folder, error) from error
    with copy:
        yield Path(copy.name)


def sha256_of(stream: IO[bytes]) -> str:
    """The SHA-256 of an open file from its beginning, as 64 hexadecimal digits."""
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def open_regular(path: Any, *, links: bool = True) -> IO[bytes]:
    """Open a regular file to read its bytes, and never wait for one.

    Args:
        path: the file.
        links: whether it may be a link.

    Raises:
        OSError: the file cannot be read, or is a folder, pipe, socket or device.
    """
    if is_remote(path):
        return path.open("rb")  # type: ignore[no-any-return]
    # Without O_NONBLOCK, opening a pipe waits for a writer. Windows has neither.
    flags = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))
    stream = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "is a pipe or a device, expected a file", str(path))
    return stream


def copy(path: Any, to: Any, scratch: Path) -> None:
    """Have what is in a file also stand elsewhere in the same file system, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if is_remote(path):
            path.fs.copy(path.path, to.path)
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = scratch / f".nnpipe-{secrets.token_hex(6)}.tmp"
        try:
            temporary.hardlink_to(path)  # where that is known, nothing need be copied
        except OSError:
            shutil.copyfile(path, temporary)
        temporary.replace(to)
    except Exception as error:
        raise cannot_write(to, OSError(in_one_line(error))) from error


def remove_files(folder: Any, ours: Callable[[str], object]) -> None:
    """Remove files below a folder by name, and the folders that this leaves empty.

    Links are not followed. A file that cannot be removed stays, and so does any other file.

    Args:
        folder: where to look.
        ours: says if something is to be removed, by its path relative to the folder; the path of a
            folder ends with a slash.
    """
    with suppress(Exception):
        if is_remote(folder):
            start = len(folder.path.rstrip("/")) + 1
            paths = [path for path in folder.fs.find(folder.path) if ours(path[start:])]
            if paths:
                folder.fs.rm(paths)
            for path in [*{path.rpartition("/")[0] for path in paths}, folder.path]:
                with suppress(Exception):  # some file systems have no folders
                    if not folder.fs.find(path):  # some remove what is in a folder, too
                        folder.fs.rmdir(path)
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


def remove(path: Any) -> None:
    """Remove a file, or a folder with all that is in it, as far as that can be done."""
    with suppress(Exception):
        if is_remote(path):
            path.fs.rm(path.path, recursive=True)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
