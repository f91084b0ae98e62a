"""MNIST: the four official files, downloaded with torchvision and read with NumPy.

LeCun, Cortes & Burges 1998, http://yann.lecun.com/exdb/mnist/, which also describes the IDX format.
"""

import gzip
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from nnpipe.errors import DatasetError, MirrorError
from nnpipe.files import cannot_write

MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
DISPUTED = frozenset(
    (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)
)
"""Test digits with disputed labels (Northcutt, Athalye & Mueller 2021, "Pervasive Label Errors in
Test Sets Destabilize Machine Learning Benchmarks")."""

IDX_TYPES: dict[bytes, np.dtype[Any]] = {
    b"\0\0\x08": np.dtype(np.uint8),
    b"\0\0\x0c": np.dtype(">i4"),
}
"""How an IDX file begins, by the type of its values. QMNIST's labels are integers."""

MOST_BYTES = 1 << 30
"""Of an IDX file, unpacked: more than a million pictures have."""

GZIP = b"\x1f\x8b"
"""How a gzip file begins."""

MIRROR_VARIABLE = "NNPIPE_MNIST_MIRROR"


def raw_folder(folder: Path) -> Path:
    """Return where torchvision keeps the files of MNIST in a folder of data sets."""
    return folder / "MNIST" / "raw"


def fetch(
    folder: Path, mirror: str | None = None, *, seconds: float = 600, silence: float = 30
) -> None:
    """Download the official files that are missing in a folder of data sets.

    Files with another MD5 count as missing. No file is replaced before all downloads succeed.

    Args:
        folder: files go to ``folder/MNIST/raw``, like torchvision's.
        mirror: ``https://…/`` or ``file:///…/``; by default the variable NNPIPE_MNIST_MIRROR, else
            the public mirrors, one after the other.
        seconds: time limit of each mirror for all four files (12 MB).
        silence: seconds without data after which a mirror is given up.

    Raises:
        MirrorError: no mirror could be reached, or none had the files.
        DatasetError: a mirror sent something that is not the official file.
        OutputError: the files cannot be written.
        MissingExtraError: torchvision is not installed, or does not fit torch.
    """
    raw = raw_folder(folder)
    missing = {name: md5 for name, md5 in MD5.items() if not _is_official(raw / name)}
    if not missing:
        return
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    if mirror and not mirror.startswith(("https://", "http://", "file:")):
        raise DatasetError(f"{mirror} is no mirror; expected https://…/ or file:///…/")
    mirrors = [url.rstrip("/") + "/" for url in ([mirror] if mirror else MIRRORS)]
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=raw) as name:
            temporary = Path(name)
            if mirrors[0].startswith("file:"):
                _copy(missing, Path(url2pathname(urlsplit(mirrors[0]).path)), target=temporary)
            else:
                job = {"files": missing, "folder": temporary, "silence": silence}
                _download(job, mirrors, seconds=seconds)
            for name in missing:
                (temporary / name).replace(raw / name)
    except OSError as error:
        raise cannot_write(raw, error) from error


def _copy(names: Iterable[str], source: Path, *, target: Path) -> None:
    """Copy files from a folder, because torchvision does not know ``file:`` URLs."""
    for name in names:
        try:
            content = (source / name).read_bytes()
        except OSError as error:
            raise _unreachable(f"{source / name}: {error.strerror}") from error
        (target / name).write_bytes(content)
        if not _is_official(target / name):
            raise _not_official(f"{source / name}: {len(content):,} bytes with the wrong MD5")


def _download(job: dict[str, object], mirrors: list[str], *, seconds: float) -> None:
    """Run `torchvision_download` with the arguments in ``job`` for one mirror after the other."""
    command = [sys.executable, "-m", "nnpipe.datasets.torchvision_download"]
    failures: list[DatasetError] = []
    for mirror in mirrors:
        content = pickle.dumps(job | {"mirror": mirror})
        try:
            done = subprocess.run(
                command, input=content, capture_output=True, timeout=seconds, check=False
            )
            failure = pickle.loads(done.stdout)  # noqa: S301 (nnpipe has written it)
        except subprocess.TimeoutExpired:
            failure = MirrorError(f"{mirror}: not done after {seconds:g} seconds")
        except (EOFError, pickle.UnpicklingError):
            reason = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            reason = reason.splitlines()[-1]
            raise DatasetError(f"the download of MNIST broke off: {reason}") from None
        if not failure:
            return
        if not isinstance(failure, DatasetError):
            raise failure
        failures.append(failure)
    reasons = "; ".join(map(str, failures))
    missing = all(isinstance(failure, MirrorError) for failure in failures)
    raise _unreachable(reasons) if missing else _not_official(reasons)


def _unreachable(reason: str) -> MirrorError:
    return MirrorError(f"MNIST could not be downloaded ({reason}); check the network")


def _not_official(reason: str) -> DatasetError:
    return DatasetError(
        f"what came for MNIST is not the official file ({reason}, cut off or an error page); "
        "nothing was kept, so try again",
        advice="mirror",
    )


def _is_official(path: Path) -> bool:
    try:
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False)
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
        if not _is_official(path):
            wrong = "is not the official file (wrong MD5)" if path.exists() else "is missing"
            raise DatasetError(f"{path}: {wrong}", advice="download")
        arrays.append(read_idx(path))
    training_images, training_labels, test_images, test_labels = arrays
    return (training_images, training_labels), (test_images, test_labels)


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file, gzipped or not: uint8 or int32, of the shape in its header.

    The header is two zeros, the type (see `IDX_TYPES`), the number of dimensions, and each
    dimension as a big-endian 32-bit integer.

    Raises:
        DatasetError: the file is cut off, or is not an IDX file of one of the types.
    """
    try:
        content = path.read_bytes()
        if content.startswith(GZIP):
            with gzip.open(path) as stream:
                content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise DatasetError(f"{path}: unpacks to more than {MOST_BYTES >> 20:,} MiB")
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: is not a whole gzip file ({error})") from error
    dimensions = int.from_bytes(content[3:4])
    start = 4 + 4 * dimensions
    kind = IDX_TYPES.get(content[:3])
    if kind is None or not dimensions or len(content) < start:
        raise DatasetError(
            f"{path}: does not begin as an IDX file of digits does (0x{content[:4].hex()}, "
            "expected 0x00000801 or 0x00000803)"
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    count = int(np.prod(shape, dtype=object)) * kind.itemsize
    if len(content) - start != count:
        raise DatasetError(
            f"{path}: holds {len(content) - start:,} bytes, and its header promises {count:,}"
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape)
