"""The process that downloads MNIST: torchvision's downloader, with what it lacks around it.

Started by `nnpipe.datasets.mnist`. It reads its job as JSON from stdin; when it fails, it writes
one JSON object with the kind of failure to stdout and exits with 1.
"""

import errno
import json
import socket
import sys
import urllib.error
from pathlib import Path
from typing import NoReturn


def main() -> None:
    """Download the job's files, or say why not."""
    job = json.load(sys.stdin)
    socket.setdefaulttimeout(job["silence"])  # torchvision itself would wait for ever
    try:
        from torchvision.datasets.utils import download_url
    except ModuleNotFoundError:
        fail("import", "downloading MNIST needs torchvision: pip install 'nnpipe[train]'")
    except (ImportError, RuntimeError) as error:
        fail(
            "import",
            f"torchvision does not fit the installed torch ({str(error).splitlines()[0]}); install "
            "both from one index: pip install --force-reinstall torch torchvision",
        )

    for name, md5 in job["files"]:
        try:
            download_url(job["mirror"] + name, job["folder"], name, md5)
        except urllib.error.HTTPError as error:
            fail("unreachable", f"it answered {error.code} {error.reason}", file=name)
        except urllib.error.URLError as error:
            reason = getattr(error.reason, "strerror", None) or error.reason
            fail("unreachable", str(reason), file=name)
        except RecursionError as error:
            fail("unreachable", str(error), file=name)  # redirected in a circle
        except RuntimeError:  # how torchvision says that the MD5 is wrong
            size = (Path(job["folder"]) / name).stat().st_size
            fail("not official", "", file=name, size=size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
                fail("disk", str(error.strerror), file=name, errno=error.errno)
            fail("unreachable", str(error), file=name)
        except Exception as error:  # a mirror that is no URL, an answer that is no HTTP
            fail("unreachable", f"{type(error).__name__}: {error}", file=name)


def fail(kind: str, reason: str, **details: str | int) -> NoReturn:
    """Report the failure and end the process."""
    print(json.dumps({"kind": kind, "reason": " ".join(reason.split()), **details}))
    sys.exit(1)


if __name__ == "__main__":
    main()
