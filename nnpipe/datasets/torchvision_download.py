"""The process that downloads MNIST with torchvision's downloader.

`nnpipe.datasets.mnist` starts it, because torchvision can wait forever and imports torch. It reads
the arguments of `download` from stdin, and writes the error, or None, to stdout, both as pickles.
"""

import contextlib
import errno
import pickle
import socket
import sys
from pathlib import Path
from urllib.error import HTTPError, URLError

from nnpipe.errors import DatasetError, MirrorError, MissingExtraError, NnpipeError, needs
from nnpipe.places import in_one_line

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def main() -> None:
    """Download what stdin says."""
    error: Exception | None = None
    with contextlib.redirect_stdout(sys.stderr):  # older versions of torchvision print
        try:
            download(**pickle.load(sys.stdin.buffer))  # noqa: S301 (nnpipe has written it)
        except (NnpipeError, OSError) as raised:
            error = raised
    pickle.dump(error, sys.stdout.buffer)


def download(files: dict[str, str], mirror: str, *, folder: Path, silence: float) -> None:
    """Download files from a mirror.

    Args:
        files: MD5s by name.
        mirror: the URL of the files' folder.
        folder: where to write the files.
        silence: seconds that the mirror may send nothing.

    Raises:
        MirrorError: the mirror cannot be reached, or does not have a file.
        DatasetError: the mirror has sent something that is not the official file.
        MissingExtraError: torchvision is not installed, or does not fit torch.
        OSError: the disk is full or cannot be written.
    """
    try:
        with needs("train", "downloading MNIST"):
            from torchvision.datasets.utils import download_url
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(
            f"torchvision does not fit the installed torch ({str(error).splitlines()[0]}); install "
            "both from one index: pip install --force-reinstall torch torchvision"
        ) from None
    socket.setdefaulttimeout(silence)
    for name, md5 in files.items():
        try:
            download_url(mirror + name, str(folder), name, md5)
        except Exception as error:
            cause: BaseException | None = error
            while cause:  # torchvision may have tried again with http: after an error of the disk
                if isinstance(cause, OSError) and cause.errno in DISK:
                    raise cause from None
                cause = cause.__context__
            match error:
                case HTTPError():
                    reason = f"it answered {error.code} {error.reason.splitlines()[0]}"
                case RecursionError():
                    reason = "it redirects in a circle"
                case RuntimeError():  # what torchvision raises for a wrong MD5
                    size = (folder / name).stat().st_size
                    reason = f"{mirror}{name}: {size:,} bytes with the wrong MD5"
                    raise DatasetError(reason) from error
                case URLError():
                    reason = getattr(error.reason, "strerror", None) or str(error.reason)
                case _:  # a mirror that is not a URL, or an answer that is not HTTP
                    reason = f"{type(error).__name__}: {error}"
            raise MirrorError(f"{mirror}{name}: {in_one_line(reason)}") from error


if __name__ == "__main__":
    main()
