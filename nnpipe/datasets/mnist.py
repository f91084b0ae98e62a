"""MNIST: the four official files, fetched by torchvision's downloader and read with NumPy.

LeCun, Cortes & Burges 1998, http://yann.lecun.com/exdb/mnist/, which also describes the IDX format.
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from nnpipe.errors import DatasetError, MirrorError, MissingExtraError
from nnpipe.files import cannot_write

MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
DISPUTED = frozenset(
    (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)
)
"""Test digits whose labels people who looked at them dispute (Northcutt, Athalye & Mueller 2021,
"Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks")."""

MIRROR_VARIABLE = "NNPIPE_MNIST_MIRROR"
SECONDS_PER_MIRROR = 600
"""A mirror that has not sent all four files (12 MB) by then is given up."""

SECONDS_OF_SILENCE = 30
"""A mirror that sends nothing for so long is given up."""


def raw_folder(folder: Path) -> Path:
    """Where torchvision keeps MNIST's files below a folder of data sets."""
    return folder / "MNIST" / "raw"


def fetch(
    folder: Path,
    mirror: str | None = None,
    *,
    seconds: float = SECONDS_PER_MIRROR,
    silence: float = SECONDS_OF_SILENCE,
) -> None:
    """Download whatever official file is not yet below ``folder``.

    A file counts as there only if its MD5 is the official one, and gets its name only then.

    Args:
        folder: files go to ``folder/MNIST/raw``, torchvision's own place for them.
        mirror: ``https://…/`` or ``file:///…/``; by default the variable NNPIPE_MNIST_MIRROR, and
            without it the public mirrors, one after the other.
        seconds: how long one mirror may take in all.
        silence: how long it may send nothing.

    Raises:
        MirrorError: no mirror could be reached, or none had the files.
        DatasetError: a mirror sent something that is not the official file.
        OutputError: the files cannot be written.
        MissingExtraError: torchvision is not installed, or does not fit torch.
    """
    raw = raw_folder(folder)
    missing = [name for name in MD5 if not _is_official(raw / name)]
    if not missing:
        return
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    mirrors = [url.rstrip("/") + "/" for url in ([mirror] if mirror else MIRRORS)]
    try:
        raw.mkdir(parents=True, exist_ok=True)
        # A folder of their own until all of them are whole.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=raw) as temporary:
            if mirrors[0].startswith("file:"):
                _copy(missing, Path(url2pathname(urlsplit(mirrors[0]).path)), Path(temporary))
            else:
                _download(missing, mirrors, Path(temporary), seconds, silence)
            for name in missing:
                (Path(temporary) / name).replace(raw / name)
    except OSError as error:
        raise cannot_write(raw, error) from error


def _copy(names: list[str], source: Path, target: Path) -> None:
    """Copy from a folder; torchvision's downloader cannot read ``file:`` URLs."""
    for name in names:
        try:
            content = (source / name).read_bytes()
        except OSError as error:
            raise _unreachable(f"{source / name}: {error.strerror}") from error
        (target / name).write_bytes(content)
        if not _is_official(target / name):
            raise _not_official(f"{source / name}: {len(content):,} bytes with the wrong MD5")


def _download(
    names: list[str], mirrors: list[str], target: Path, seconds: float, silence: float
) -> None:
    """Let torchvision download, in a process of its own."""
    job = {
        "files": [(name, MD5[name]) for name in names],
        "mirrors": mirrors,
        "folder": str(target),
        "seconds": seconds,
        "silence": silence,
    }
    command = [sys.executable, "-m", "nnpipe.datasets.torchvision_download"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=60 + seconds * len(mirrors),  # it watches the time itself
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _unreachable(f"{', '.join(mirrors)}: not done after {error.timeout:g} s") from None
    if done.returncode == 0:
        return
    try:
        failure = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise DatasetError(f"the download of MNIST broke off: {reason}") from None
    match failure["kind"]:
        case "unreachable":
            raise _unreachable(failure["reason"])
        case "not official":
            raise _not_official(failure["reason"])
        case "disk":
            raise OSError(failure["errno"], failure["reason"])
        case _:
            raise MissingExtraError(failure["reason"])


def _unreachable(reason: str) -> MirrorError:
    return MirrorError(
        f"MNIST could not be downloaded ({reason}); check the network, name another place with "
        f"--mirror or {MIRROR_VARIABLE} (https://…/ or file:///…/), or use digits drawn by nnpipe "
        "itself with --dataset drawn"
    )


def _not_official(reason: str) -> DatasetError:
    return DatasetError(
        f"what came for MNIST is not the official file ({reason}, cut off or an error page); "
        "nothing was kept, so try again or name another place with --mirror"
    )


def _is_official(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    except OSError:
        return False
    return digest.hexdigest() == MD5[path.name]


def read(folder: Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Read the 60,000 training and the 10,000 test digits, as (images, labels) each.

    Raises:
        DatasetError: a file is missing or not the official one.
    """
    arrays = []
    for name in MD5:
        path = raw_folder(folder) / name
        if not path.exists():
            raise DatasetError(f"{path}: is missing; get it with 'nnpipe download --dataset mnist'")
        if not _is_official(path):
            raise DatasetError(
                f"{path}: is not the official file (wrong MD5); get it again with "
                "'nnpipe download --dataset mnist'"
            )
        arrays.append(read_idx(path))
    training_images, training_labels, test_images, test_labels = arrays
    return (training_images, training_labels), (test_images, test_labels)


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of bytes: uint8, of the shape that its header gives.

    The header is two zeros, the type (8: unsigned byte), the number of dimensions, and each
    dimension as a big-endian 32-bit integer.

    Raises:
        DatasetError: the file is cut off, or no such file.
    """
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: is not a whole gzip file ({error}); get it again") from error
    zeros, kind, dimensions = content[:2], content[2:3], int.from_bytes(content[3:4])
    start = 4 + 4 * dimensions
    if zeros != b"\0\0" or kind != b"\x08" or not dimensions or len(content) < start:
        raise DatasetError(
            f"{path}: does not begin as an IDX file of bytes does (0x{content[:4].hex()}, "
            "expected 0x00000801 or 0x00000803); get it again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    count = int(np.prod(shape, dtype=object))
    if len(content) - start != count:
        raise DatasetError(
            f"{path}: holds {len(content) - start:,} bytes, and its header promises {count:,}; "
            "get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
