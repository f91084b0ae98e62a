"""The process that downloads MNIST with torchvision's downloader.

`nnpipe.datasets.mnist` starts it, because torchvision can wait forever and imports torch. It reads
the arguments of `download` from stdin, and writes the error, or None, to stdout, both as pickles.
"""

import contextlib
import errno
import pickle
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError

from nnpipe.datasets.mnist import not_official, unreachable
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


def download(
    files: dict[str, str], mirrors: list[str], *, folder: Path, seconds: float, silence: float
) -> None:
    """Download files, MD5s by name, from the first mirror that has them all; see `mnist.fetch`.

    Raises:
        MirrorError: no mirror could be reached, or none had the files.
        DatasetError: a mirror sent something that is not the official file.
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
    failures: list[DatasetError] = []
    for mirror in mirrors:
        try:
            set_alarm(seconds, MirrorError(f"{mirror}: not done after {seconds:g} seconds"))
            for name, md5 in files.items():
                download_file(download_url, mirror + name, path=folder / name, md5=md5)
            return
        except DatasetError as error:
            failures.append(error)
    reasons = "; ".join(map(str, failures))
    missing = all(isinstance(failure, MirrorError) for failure in failures)
    raise unreachable(reasons) if missing else not_official(reasons)


def download_file(download_url: Any, url: str, *, path: Path, md5: str) -> None:
    """Download one file.

    Raises:
        MirrorError: the mirror did not send it.
        DatasetError: the mirror sent another file.
        OSError: the disk is full or cannot be written.
    """
    try:
        download_url(url, str(path.parent), path.name, md5)
    except MirrorError:  # from the alarm
        raise
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
                size = path.stat().st_size
                raise DatasetError(f"{url}: {size:,} bytes with the wrong MD5") from error
            case URLError():
                reason = getattr(error.reason, "strerror", None) or str(error.reason)
            case _:  # a mirror that is not a URL, or an answer that is not HTTP
                reason = f"{type(error).__name__}: {error}"
        raise MirrorError(f"{url}: {in_one_line(reason)}") from error


def set_alarm(seconds: float, error: Exception) -> None:
    """Raise an error after some seconds; on Windows, the parent ends this process instead.

    An `OSError` would not do, because torchvision tries again after one.
    """

    def ring(*_: object) -> NoReturn:
        raise error

    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()
