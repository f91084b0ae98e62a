"""Files that are there whole or not at all, and the hash of what is in them."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
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
    folder = Path(tempfile.gettempdir()) if remote else scratch or path.parent
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
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _upload(file: Path, to: Any) -> None:
    try:
        to.fs.put_file(str(file), to.path)
    except Exception as error:  # whatever a server answers
        raise OSError(in_one_line(error)) from error


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
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return OutputError(
        f"{path}: could not be written ({error.strerror or error}); "
        f"{'free some space or ' if full else ''}name another place"
    )


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


def remove(path: Any) -> None:
    """Remove a file, or a folder with all that is in it, as far as that can be done."""
    with suppress(Exception):
        if is_remote(path):
            path.fs.rm(path.path, recursive=True)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
