"""The process that downloads MNIST: torchvision's downloader, with what it lacks around it.

Started by `nnpipe.datasets.mnist`, since torchvision waits for ever, and brings torch with it. It
reads its job as JSON from stdin; when it fails, it writes one JSON object that says how and why to
stdout, and exits with 1.
"""

import contextlib
import errno
import json
import signal
import socket
import sys
import urllib.error
from pathlib import Path
from typing import Any, NoReturn

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


class OutOfTimeError(Exception):
    """The mirror has had all its time. No OSError, as torchvision would try again after one."""


class WrongFileError(Exception):
    """The mirror sent something that is not the official file."""


def main() -> None:
    """Download the job's files from the first mirror that has them, or say why none did."""
    job = json.load(sys.stdin)
    try:
        from torchvision.datasets.utils import download_url
    except ModuleNotFoundError:
        why = "downloading MNIST needs torchvision: pip install '.[train]' in nnpipe's folder"
        fail("import", why)
    except (ImportError, RuntimeError) as error:
        fail(
            "import",
            f"torchvision does not fit the installed torch ({str(error).splitlines()[0]}); install "
            "both from one index: pip install --force-reinstall torch torchvision",
        )

    socket.setdefaulttimeout(job["silence"])
    kind, failures = "unreachable", []
    for mirror in job["mirrors"]:
        set_alarm(job["seconds"])
        try:
            for name, md5 in job["files"]:
                download(download_url, mirror + name, Path(job["folder"]) / name, md5)
            return
        except OutOfTimeError:
            failures.append(f"{mirror}: not done after {job['seconds']:g} seconds")
        except ConnectionError as error:
            failures.append(f"{mirror}{name}: {error}")
        except WrongFileError as error:
            kind = "not official"
            failures.append(f"{mirror}{name}: {error}")
    fail(kind, "; ".join(failures))


def download(download_url: Any, url: str, path: Path, md5: str) -> None:
    """Download one file; what torchvision raises for want of an answer is a ConnectionError."""
    try:
        # Older versions of torchvision print what they do; stdout is for the report.
        with contextlib.redirect_stdout(sys.stderr):
            download_url(url, str(path.parent), path.name, md5)
    except OutOfTimeError:
        raise
    except urllib.error.HTTPError as error:
        raise ConnectionError(f"it answered {error.code} {error.reason.splitlines()[0]}") from error
    except RecursionError as error:
        raise ConnectionError("it redirects in a circle") from error
    except RuntimeError as error:  # how torchvision says that the MD5 is wrong
        size = path.stat().st_size
        raise WrongFileError(f"{size:,} bytes with the wrong MD5 arrived") from error
    except Exception as error:
        fail_if_disk(error)
        if isinstance(error, urllib.error.URLError):
            reason = getattr(error.reason, "strerror", None) or error.reason
            raise ConnectionError(reason) from error
        # A mirror that is no URL, or whose answer is no HTTP, comes as all sorts of errors.
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def fail_if_disk(error: BaseException | None) -> None:
    """End here if the disk is the cause; torchvision may have tried again by http after that."""
    while error:
        if isinstance(error, OSError) and error.errno in DISK:
            fail("disk", str(error.strerror), errno=error.errno)
        error = error.__context__


def set_alarm(seconds: float) -> None:
    """Raise `OutOfTimeError` then; where there are no alarms, the parent ends this process."""

    def ring(*_: object) -> NoReturn:
        raise OutOfTimeError

    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def fail(kind: str, reason: str, **details: Any) -> NoReturn:
    """Report the failure and end the process."""
    print(json.dumps({"kind": kind, "reason": " ".join(reason.split()), **details}))
    sys.exit(1)


if __name__ == "__main__":
    main()
