"""The weights file, ``model_weights.npz``: its only reader and writer.

The file holds ``W1 b1 W2 b2 W3 b3``, float32, each ``W`` of shape (inputs, outputs), and
``metadata``, one JSON string that says where the weights come from. It also holds a few *golden*
inputs with their logits. Loading computes them anew, so that a file that is damaged, transposed or
put together from two others is an error that says so, never a wrong answer.
"""

import base64
import io
import json
import zipfile
import zlib
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpipe import drift, records
from nnpipe.errors import WeightsError
from nnpipe.files import replacing
from nnpipe.network import Array, Layer, Network
from nnpipe.places import in_one_line

FORMAT_VERSION = 1
MAX_BYTES = 256 * 1024 * 1024
"""Most bytes of a weights file, and of all its arrays together. No network of this kind is larger;
a zip that claims more is a bomb or something else."""

MAX_METADATA = 16 * 1024 * 1024
"""Most bytes of the metadata, at four a character; those of nnpipe have some 70,000."""

MAX_LAYERS = 32

MAX_GOLDEN = 100
"""Most golden inputs; nnpipe writes ten."""

TEMPERATURES = (1e-3, 1e3)
"""Range of a temperature. `calibration.fit_temperature` searches 0.02…50."""

CENTRAL_HEADER = b"PK\1\2"
"""What each entry in a zip's list of members begins with."""

GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a golden logit: BLAS libraries add in different orders (some 1e-5 for
logits of size 20), while a wrong weight changes logits by far more."""


@dataclass(frozen=True)
class Metadata:
    """What a weights file says of itself. Accuracies are shares in [0, 1]; None is not measured."""

    layer_sizes: tuple[int, ...]
    preprocessing_version: int
    dataset: str
    dataset_checksum: str
    recipe: str
    seed: int
    engine: str
    created: str  # ISO 8601, UTC
    git_commit: str | None = None
    parameters: dict[str, Any] | None = None  # of the training: epochs, learning rate, …
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    temperature: float = 1.0  # 1: probabilities as they were trained
    rejection_threshold: float | None = None  # None: nothing is rejected for its confidence
    # Others to choose from: share of validation digits (as a key, "0.01") → its threshold.
    rejection_thresholds: dict[str, float] | None = None
    # Share of errors allowed among what is read (as a key) → lowest confidence, on validation
    # digits; None: they could not be kept to that share.
    error_thresholds: dict[str, float | None] | None = None
    # What the validation digits are like, at the rejection threshold above; None: not measured.
    reference: drift.Reference | None = None
    format_version: int = FORMAT_VERSION


class Weights(NamedTuple):
    """A network, and what its file says about it."""

    network: Network
    metadata: Metadata


def save(path: Path, network: Network, *, metadata: Metadata, golden: Array) -> None:
    """Write a weights file, whole or not at all.

    Args:
        path: where to; its folder is made if need be.
        network: float32 weights.
        metadata: its ``layer_sizes`` and ``format_version`` are set from the network.
        golden: uint8 pixels, shape (a few, inputs), kept with the logits they give.

    Raises:
        WeightsError: a weight is not finite or not float32, or `load` would refuse the metadata;
            nothing is written.
        OutputError: the file cannot be written; what stood there before is untouched.
    """
    _check_arrays(path, network)
    metadata = replace(metadata, layer_sizes=network.sizes, format_version=FORMAT_VERSION)
    content = asdict(metadata) | {
        "golden_inputs": [base64.b64encode(row.tobytes()).decode() for row in golden],
        "golden_logits": network.logits(_scaled(golden)).tolist(),
    }
    text = np.array(json.dumps(content))
    _parse_metadata(path, text)
    arrays = {
        f"{kind}{number}": array
        for number, layer in enumerate(network.layers, start=1)
        for kind, array in zip("Wb", layer, strict=True)
    }
    with replacing(path) as stream:
        np.savez(stream, allow_pickle=False, metadata=text, **arrays)


def load(path: Path) -> Weights:
    """Read a weights file and check all of it.

    Raises:
        WeightsError: the file is missing, no weights file, damaged, from a newer version, or does
            not compute what it computed when it was written.
    """
    arrays = _read_arrays(path)
    content = _parse_metadata(path, arrays.pop("metadata", None))
    network = _assemble(path, arrays, content.metadata.layer_sizes)
    _check_arrays(path, network)
    _check_golden(path, network, content)
    return Weights(network, content.metadata)


class _Content(NamedTuple):
    metadata: Metadata
    golden: Array  # uint8 (n, inputs)
    logits: Array  # float64 (n, outputs)


def _read_arrays(path: Path) -> dict[str, Array]:
    """Read every array of the zip, trusting neither its sizes nor its headers."""
    try:
        content = records.read_bytes(path, MAX_BYTES)
        # The list of members is counted before it is read: it takes memory for each of them.
        if content.count(CENTRAL_HEADER) > 2 * MAX_LAYERS + 1:
            raise zipfile.BadZipFile(f"it holds more than {2 * MAX_LAYERS + 1} files")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if any(name.endswith("/data.pkl") for name in members):
                raise WeightsError(
                    f"{path}: is a PyTorch model, not a weights file; turn its run into one with "
                    f"'nnpipe export {path.parent}'"
                )
            if len(members) < len(archive.infolist()):
                raise zipfile.BadZipFile("it holds two files of one name")
            if sum(member.file_size for member in members.values()) > MAX_BYTES:
                raise WeightsError(
                    f"{path}: claims to unpack to more than {MAX_BYTES >> 20} MiB, "
                    "so it is no weights file"
                )
            return {
                name.removesuffix(".npy"): _read_array(path, archive, member)
                for name, member in members.items()
            }
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: there is no such weights file; train one with 'nnpipe train' and export it "
            "with 'nnpipe export'"
        ) from None
    except IsADirectoryError:
        raise WeightsError(
            f"{path}: is a folder; name the weights file in it, as {path}/model_weights.npz"
        ) from None
    except OSError as error:
        raise WeightsError(
            f"{path}: could not be read ({error.strerror or error}); name a weights file"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: is not a whole .npz file ({in_one_line(error)}); copy or export it again"
        ) from error


def _read_array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Others unpack whole blocks, whatever was asked for.
        raise zipfile.BadZipFile(f"compression method {member.compress_type} is not read")
    with archive.open(member) as packed:
        # One byte more than it claims, and a member that holds more fails its checksum.
        stream = io.BytesIO(packed.read(member.file_size + 1))
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, transposed, dtype = read_header(stream)
        # A header may claim any shape: memory is taken for the data that are there, and no more.
        array = np.frombuffer(stream.read(), dtype).reshape(shape, order="F" if transposed else "C")
        return array.copy(order="K")
    except (ValueError, KeyError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise WeightsError(
            f"{path}: {in_one_line(member.filename)} is not a plain NumPy array "
            f"({in_one_line(error)}); it is damaged or was not written by nnpipe"
        ) from error


def _parse_metadata(path: Path, array: Array | None) -> _Content:
    if array is None or array.dtype.kind != "U" or array.ndim:
        raise WeightsError(
            f"{path}: holds no 'metadata' string, so it was not written by nnpipe; "
            "make one with 'nnpipe export'"
        )
    try:
        if array.nbytes > MAX_METADATA:
            raise ValueError(f"it has more than {MAX_METADATA >> 20} MiB")
        fields = records.parse(str(array))
        if not isinstance(fields, dict) or "format_version" not in fields:
            raise ValueError("it names no format version")
        if (version := fields["format_version"]) != FORMAT_VERSION:
            raise WeightsError(
                f"{path}: has format version {in_one_line(repr(version))[:40]}, and this nnpipe "
                f"reads {FORMAT_VERSION}; install the nnpipe that wrote it, or export it again"
            )
        golden, logits = fields.pop("golden_inputs", None), fields.pop("golden_logits", None)
        metadata: Metadata = records.build(Metadata, fields, name="it")
        _check_ranges(metadata)
        if not isinstance(golden, list) or not 1 <= len(golden) <= MAX_GOLDEN:
            raise ValueError(f"no golden inputs, or more than {MAX_GOLDEN}")
        return _Content(
            metadata,
            np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in golden]),
            np.array(records.build(list[list[float]], logits, name="golden_logits"), np.float64),
        )
    except (ValueError, TypeError) as error:
        reason = in_one_line(error)[:300]
        raise WeightsError(
            f"{path}: its metadata cannot be understood ({reason}); export it again"
        ) from error


def _check_ranges(metadata: Metadata) -> None:
    sizes = metadata.layer_sizes
    if not 2 <= len(sizes) <= MAX_LAYERS + 1 or min(sizes) < 1:
        raise ValueError(f"the layers are {sizes}")
    if not TEMPERATURES[0] <= metadata.temperature <= TEMPERATURES[1]:
        raise ValueError(f"the temperature is {metadata.temperature}")
    shares: list[float | None] = [metadata.validation_accuracy, metadata.test_accuracy]
    shares.append(metadata.rejection_threshold)
    for kept in (metadata.rejection_thresholds or {}, metadata.error_thresholds or {}):
        shares += [*map(float, kept), *kept.values()]
    for share in shares:
        if not 0 <= (share or 0) <= 1:
            raise ValueError(f"an accuracy, a threshold, or its rate, is {share}")
    if metadata.reference is not None:
        drift.check(metadata.reference)


def _assemble(path: Path, arrays: dict[str, Array], sizes: tuple[int, ...]) -> Network:
    """Build the network, checking that exactly the expected arrays are there."""
    expected: dict[str, tuple[int, ...]] = {}
    for number, (m, n) in enumerate(pairwise(sizes), start=1):
        expected |= {f"W{number}": (m, n), f"b{number}": (n,)}
    if missing := expected.keys() - arrays.keys():
        raise WeightsError(f"{path}: lacks {', '.join(sorted(missing))}")
    if extra := arrays.keys() - expected.keys():
        raise WeightsError(f"{path}: holds unknown arrays: {', '.join(sorted(extra))}")
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise WeightsError(
                f"{path}: {name} has shape {arrays[name].shape}, expected {shape}; "
                "W is (inputs, outputs), the transpose of PyTorch's"
            )
    return Network(tuple(Layer(arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(1, len(sizes))))


def _check_arrays(path: Path, network: Network) -> None:
    for number, layer in enumerate(network.layers, start=1):
        for kind, array in zip("Wb", layer, strict=True):
            if array.dtype != np.float32:
                raise WeightsError(f"{path}: {kind}{number} is {array.dtype}, expected float32")
            if not np.isfinite(array).all():
                raise WeightsError(
                    f"{path}: {kind}{number} holds NaN or infinity, so its training went wrong "
                    "or the file is damaged; train or export it again"
                )


def _check_golden(path: Path, network: Network, content: _Content) -> None:
    outputs = (len(content.golden), network.sizes[-1])
    if content.golden.shape[1] != network.sizes[0] or content.logits.shape != outputs:
        raise WeightsError(f"{path}: its golden inputs do not fit the network")
    with np.errstate(over="ignore", invalid="ignore"):
        difference = float(np.abs(network.logits(_scaled(content.golden)) - content.logits).max())
    # Written so that NaN is a failure too.
    if not difference <= GOLDEN_TOLERANCE * max(1.0, float(np.abs(content.logits).max())):
        raise WeightsError(
            f"{path}: does not compute what it did when it was written (its golden logits differ "
            f"by {difference:.3g}): weights are changed, mixed up or transposed; export it again"
        )


def _scaled(pixels: Array) -> Array:
    return pixels.astype(np.float32) / 255
