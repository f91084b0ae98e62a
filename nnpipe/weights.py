"""The weights file, ``model_weights.npz``: its only reader and writer.

The file holds ``W1 b1 W2 b2 W3 b3``, float32, each ``W`` of shape (inputs, outputs), and
``metadata``, a JSON string that says where the weights come from. It also holds a few *golden*
inputs with their logits. Loading computes these logits again: a file that is damaged, transposed or
put together from two others is an error, never a wrong answer.
"""

import base64
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpipe import drift, records
from nnpipe.errors import WeightsError
from nnpipe.files import replacing, sha256
from nnpipe.network import Array, Layer, Network
from nnpipe.places import in_one_line

FORMAT_VERSION = 1
MAX_BYTES = records.MOST_BYTES
"""Largest weights file, and largest size of all its arrays together, in bytes. A zip that claims
more is a bomb or something else: no network of this kind is larger."""

MAX_METADATA = 16 * 1024 * 1024
"""Largest metadata, in bytes, four per character; those of nnpipe have some 70,000."""

MAX_LAYERS = 32
"""Most layers of a network; those of nnpipe have three."""

MAX_GOLDEN = 100
"""Most golden inputs; nnpipe writes ten."""

TEMPERATURES = (1e-3, 1e3)
"""Range of a temperature. `calibration.fit_temperature` searches 0.02…50."""

CENTRAL_HEADER = b"PK\1\2"
"""First bytes of each entry in a zip's list of members."""

GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a golden logit, as a share of the largest logit. BLAS libraries add in
different orders, which changes logits of size 20 by some 1e-5; a wrong weight changes them far
more."""


@dataclass(frozen=True)
class Origin:
    """The network that another one was adapted from."""

    network: str  # SHA-256 of its weights and biases
    engine: str  # and recipe: how the first one in the row was trained from scratch
    recipe: str


@dataclass(frozen=True)
class OwnData:
    """The pictures of one's own that a network has learned from as well."""

    checksum: str  # SHA-256
    pictures: int
    held_out: int  # of these
    # Accuracy on the validation digits below which it, and all that follow it, may hardly fall:
    # that of the last champion without pictures of one's own.
    floor: float


@dataclass(frozen=True)
class Metadata:
    """What a weights file says of itself. Accuracies are shares in [0, 1]; None: not measured."""

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
    own: OwnData | None = None
    origin: Origin | None = None  # None: it was trained from scratch
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    temperature: float = 1.0  # 1: probabilities as they were trained
    rejection_threshold: float | None = None  # None: no picture is rejected for its confidence
    # Share of validation digits that is rejected (as a key, "0.01") → the threshold for it.
    rejection_thresholds: dict[str, float] | None = None
    # Share of errors among what is read (as a key) → lowest confidence that keeps to it on the
    # validation digits; None: no confidence does.
    error_thresholds: dict[str, float | None] | None = None
    # What the validation digits are like, at the rejection threshold above; None: not measured.
    reference: drift.Reference | None = None
    format_version: int = FORMAT_VERSION


def digest_of(network: Network) -> str:
    """Return the SHA-256 of a network's weights and biases, whatever file they are in."""
    return sha256(b"".join(array.tobytes() for layer in network.layers for array in layer))


class Weights(NamedTuple):
    """A network, and what its file says about it."""

    network: Network
    metadata: Metadata

    def __repr__(self) -> str:
        """Describe them in one line, without the numbers."""
        about = self.metadata
        layers = "-".join(map(str, self.network.sizes))
        return f"<{layers}, {about.recipe} on {about.dataset}, seed {about.seed}>"


def save(path: Path, network: Network, *, metadata: Metadata, golden: Array) -> None:
    """Write a weights file, whole or not at all.

    Args:
        path: the file; its folder is made if need be.
        network: float32 weights.
        metadata: ``layer_sizes`` and ``format_version`` are set from the network.
        golden: uint8 pixels, shape (a few, inputs), kept with the logits they give.

    Raises:
        WeightsError: a weight is not finite or not float32, or `load` would refuse the metadata;
            nothing is written.
        OutputError: the file cannot be written; what stood there before is untouched.
    """
    metadata = replace(metadata, layer_sizes=network.sizes, format_version=FORMAT_VERSION)
    arrays = {
        f"{kind}{number}": array
        for number, layer in enumerate(network.layers, start=1)
        for kind, array in zip("Wb", layer, strict=True)
    }
    with _naming(path):
        _assemble(arrays, network.sizes)
        content = asdict(metadata) | {
            "golden_inputs": [base64.b64encode(row.tobytes()).decode() for row in golden],
            "golden_logits": network.logits(_scaled(golden)).tolist(),
        }
        text = np.array(json.dumps(content))
        _parse_metadata(text)
    with replacing(path) as stream:
        np.savez(stream, allow_pickle=False, metadata=text, **arrays)


def load(source: Path | bytes, *, name: str = "the weights") -> Weights:
    """Read a weights file and check all of it.

    Args:
        source: the file, or its content.
        name: what an error calls the content.

    Raises:
        WeightsError: the file is missing, no weights file, damaged, from a newer version, or does
            not compute what it computed when it was written.
    """
    if isinstance(source, bytes):
        content = source
    else:
        content, name = _read(source), str(source)
    with _naming(name):
        arrays = _unpack(content)
        metadata, golden, logits = _parse_metadata(arrays.pop("metadata", None))
        network = _assemble(arrays, metadata.layer_sizes)
        _check_golden(network, golden, logits=logits)
    return Weights(network, metadata)


@contextmanager
def _naming(name: object) -> Iterator[None]:
    """Turn a ValueError about weights into a WeightsError that names them."""
    try:
        yield
    except ValueError as error:
        raise WeightsError(f"{name}: {in_one_line(error)}", advice="export") from error


def _read(path: Path) -> bytes:
    try:
        return records.read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such weights file", advice="train") from None
    except IsADirectoryError:
        raise WeightsError(f"{path}: is a folder; name the weights file in it") from None
    except OSError as error:
        why = error.strerror or error
        raise WeightsError(f"{path}: could not be read ({why}); name a weights file") from error


def _unpack(content: bytes) -> dict[str, Array]:
    """Unpack every array of the zip, trusting neither its sizes nor its headers."""
    if b"/data.pkl" in content:  # the name of a member
        raise ValueError("is a PyTorch model, not weights")
    try:
        # The list of members is counted before it is read: it takes memory for each of them.
        if content.count(CENTRAL_HEADER) > 2 * MAX_LAYERS + 1:
            raise zipfile.BadZipFile(f"it holds more than {2 * MAX_LAYERS + 1} files")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) < len(members):
                raise zipfile.BadZipFile("it holds two files of one name")
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise zipfile.BadZipFile(f"it claims to unpack to more than {MAX_BYTES >> 20} MiB")
            return {
                member.filename.removesuffix(".npy"): _unpack_array(archive, member)
                for member in members
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise ValueError(f"is not a whole .npz file ({in_one_line(error)})") from error


def _unpack_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Others unpack whole blocks, however few bytes are read.
        raise zipfile.BadZipFile(f"compression method {member.compress_type} is not read")
    with archive.open(member) as packed:
        # One byte more than it claims, so that a member that holds more fails its checksum.
        stream = io.BytesIO(packed.read(member.file_size + 1))
    try:
        return np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"{member.filename} is not a plain NumPy array: {error}") from error


def _parse_metadata(array: Array | None) -> tuple[Metadata, Array, Array]:
    """Parse the metadata string.

    Returns:
        The metadata; the golden inputs, uint8 (n, inputs); their logits, float64 (n, outputs).
    """
    if array is None or array.dtype.kind != "U" or array.ndim:
        raise ValueError("holds no 'metadata' string, so it was not written by nnpipe")
    try:
        if array.nbytes > MAX_METADATA:
            raise ValueError(f"it has more than {MAX_METADATA >> 20} MiB")
        fields = records.parse(str(array))
        if not isinstance(fields, dict) or "format_version" not in fields:
            raise ValueError("it names no format version")
        if (version := fields["format_version"]) != FORMAT_VERSION:
            raise ValueError(
                f"it has format version {version!r:.40}, and this nnpipe reads {FORMAT_VERSION}"
            )
        golden, logits = fields.pop("golden_inputs", None), fields.pop("golden_logits", None)
        metadata: Metadata = records.build(Metadata, fields, name="it")
        _check_ranges(metadata)
        if not isinstance(golden, list) or not 1 <= len(golden) <= MAX_GOLDEN:
            raise ValueError(f"no golden inputs, or more than {MAX_GOLDEN}")
        return (
            metadata,
            np.stack([np.frombuffer(base64.b64decode(text), np.uint8) for text in golden]),
            np.array(records.build(list[list[float]], logits, name="golden_logits"), np.float64),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"its metadata cannot be understood ({in_one_line(error)[:300]})"
        ) from error


def _check_ranges(metadata: Metadata) -> None:
    sizes = metadata.layer_sizes
    if not 2 <= len(sizes) <= MAX_LAYERS + 1 or min(sizes) < 1:
        raise ValueError(f"the layers are {sizes}")
    if not TEMPERATURES[0] <= metadata.temperature <= TEMPERATURES[1]:
        raise ValueError(f"the temperature is {metadata.temperature}")
    shares: list[float | None] = [metadata.validation_accuracy, metadata.test_accuracy]
    shares.append(metadata.rejection_threshold)
    for thresholds in (metadata.rejection_thresholds or {}, metadata.error_thresholds or {}):
        shares += [*map(float, thresholds), *thresholds.values()]
    for share in shares:
        if not 0 <= (share or 0) <= 1:
            raise ValueError(f"an accuracy, a threshold, or its rate, is {share}")
    reference = metadata.reference
    if reference is not None and reference.keys() != set(drift.FEATURES):
        raise ValueError(f"the reference is of {', '.join(reference) or 'nothing'}")


def _assemble(arrays: dict[str, Array], sizes: tuple[int, ...]) -> Network:
    """Build a network, checking that exactly its arrays are there, and each of them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (m, n) in enumerate(pairwise(sizes), start=1):
        shapes |= {f"W{number}": (m, n), f"b{number}": (n,)}
    if missing := shapes.keys() - arrays.keys():
        raise ValueError(f"lacks {', '.join(sorted(missing))}")
    if extra := arrays.keys() - shapes.keys():
        raise ValueError(f"holds unknown arrays: {', '.join(sorted(extra))}")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {shape}; "
                "W is (inputs, outputs), the transpose of PyTorch's"
            )
        if array.dtype != np.float32:
            raise ValueError(f"{name} is {array.dtype}, expected float32")
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} holds NaN or infinity: the training went wrong or the file is damaged"
            )
    return Network(tuple(Layer(arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(1, len(sizes))))


def _check_golden(network: Network, golden: Array, *, logits: Array) -> None:
    if (golden.shape[1], logits.shape) != (network.sizes[0], (len(golden), network.sizes[-1])):
        raise ValueError("its golden inputs do not fit the network")
    with np.errstate(over="ignore", invalid="ignore"):
        difference = float(np.abs(network.logits(_scaled(golden)) - logits).max())
    # Written so that NaN fails, too.
    if not difference <= GOLDEN_TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise ValueError(
            "does not compute what it did when it was written (its golden logits differ by "
            f"{difference:.3g}): weights are changed, mixed up or transposed"
        )


def _scaled(pixels: Array) -> Array:
    return pixels.astype(np.float32) / 255
