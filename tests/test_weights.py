import io
import json
import os
import socket
import tracemalloc
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from nnpipe import weights
from nnpipe.errors import OutputError, WeightsError
from nnpipe.network import Layer, Network


def test_what_is_saved_is_loaded(weights_file, network, metadata):
    model = weights.load(weights_file)
    assert model.metadata == metadata
    for (W, b), layer in zip(model.network.layers, network.layers, strict=True):
        assert (layer.W == W).all()
        assert (layer.b == b).all()


def test_thresholds_are_saved_and_loaded(tmp_path, network, metadata, golden):
    path = tmp_path / "w.npz"
    about = replace(
        metadata, rejection_threshold=0.25, rejection_thresholds={"0.0": 0.0, "0.01": 0.5}
    )
    weights.save(path, network, metadata=about, golden=golden)
    assert weights.load(path).metadata == about


def test_the_content_of_a_file_is_loaded_like_the_file(weights_file, metadata):
    content = weights_file.read_bytes()
    assert weights.load(content).metadata == metadata
    with pytest.raises(WeightsError, match=r"^those: is not a whole \.npz file"):
        weights.load(content[:-5], name="those")


def test_weights_are_printed_in_one_line(weights_file):
    assert repr(weights.load(weights_file)) == "<784-128-64-10, sgd on drawn, seed 0>"


def test_numpy_alone_reads_the_file(weights_file):
    """The format is plain: names, float32, W as (inputs, outputs), metadata a JSON string."""
    with np.load(weights_file, allow_pickle=False) as file:
        assert sorted(file) == ["W1", "W2", "W3", "b1", "b2", "b3", "metadata"]
        assert [file[f"W{i}"].shape for i in (1, 2, 3)] == [(784, 128), (128, 64), (64, 10)]
        assert {file[name].dtype for name in file if name != "metadata"} == {np.dtype("float32")}
        assert json.loads(str(file["metadata"]))["format_version"] == 1


def test_other_layer_sizes_are_saved_and_loaded(tmp_path, metadata):
    network = Network.initialise(np.random.default_rng(0), (6, 5, 5, 4, 3))
    path = tmp_path / "other.npz"
    weights.save(
        path, network, metadata=metadata, golden=np.arange(12, dtype=np.uint8).reshape(2, 6)
    )
    assert weights.load(path).network.sizes == (6, 5, 5, 4, 3)


def spoil(path, **changes):
    """Write the file anew with some arrays replaced, or removed where the change is None."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file}
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(path, **arrays)


def spoil_metadata(path, **changes):
    with np.load(path) as file:
        fields = json.loads(str(file["metadata"])) | changes
    fields = {name: value for name, value in fields.items() if value is not None}
    spoil(path, metadata=np.array(json.dumps(fields)))


def spoil_text(path, *, old, new):
    with np.load(path) as file:
        text = str(file["metadata"])
    assert old in text
    spoil(path, metadata=np.array(text.replace(old, new)))


def array(path, name):
    with np.load(path) as file:
        return file[name]


def changed(path, name, *, value):
    result = array(path, name).copy()
    result.flat[0] = value
    return result


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def with_member(path, name, *, content):
    """Replace one member of the zip with raw bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in (members | {name: content}).items():
            archive.writestr(member, data)


def lies(path):
    claiming(path, size=64 << 20, claim=100)


def twice(path):
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("W1.npy", b"another")


def many(path):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1000):
            archive.writestr(f"W{number}.npy", b"")


def packed(path, method):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("W1.npy", bytes(3 << 20))


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def loop(path):
    path.unlink()
    path.symlink_to(path)


def socket_at(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def spoil_golden(path, value):
    with np.load(path) as file:
        logits = json.loads(str(file["metadata"]))["golden_logits"]
    logits[0][0] = value
    spoil_metadata(path, golden_logits=logits)


def nested(depth):
    return json.loads("[" * depth + "]" * depth)


def truncate(path, n):
    path.write_bytes(path.read_bytes()[:n])


def pickled(path):
    np.savez(path, W1=np.array([{"a": 1}], dtype=object))


def claiming(path, *, size, claim):
    """Write a member of zeros, of which the list of members claims another size; both in bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W1.npy", bytes(size))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = claim.to_bytes(4, "little")
    path.write_bytes(content)


def bomb(path):
    claiming(path, size=100, claim=weights.MAX_BYTES + 1)


def encrypted(path):
    """Set the flag that says a member is encrypted, in both places where a zip keeps it."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)


SPOILT = {
    "a missing array": (lambda p: spoil(p, b2=None), "lacks b2"),
    "an unknown array": (lambda p: spoil(p, W9=np.zeros(3)), "unknown arrays: W9"),
    "PyTorch's layout": (
        lambda p: spoil(p, W1=array(p, "W1").T),
        r"W1 has shape \(128, 784\), expected \(784, 128\); .*transpose of PyTorch",
    ),
    "a bias of the wrong length": (lambda p: spoil(p, b1=np.zeros(64, "f4")), "b1 has shape"),
    "float64": (lambda p: spoil(p, W2=array(p, "W2").astype("f8")), "W2 is float64"),
    "NaN": (lambda p: spoil(p, W3=changed(p, "W3", value=np.nan)), "W3 holds NaN or infinity"),
    "infinity": (
        lambda p: spoil(p, b3=changed(p, "b3", value=-np.inf)),
        "b3 holds NaN or infinity",
    ),
    "one changed weight": (
        lambda p: spoil(p, b1=changed(p, "b1", value=5)),
        "does not compute what it did when it was written",
    ),
    "a pickle": (pickled, "W1.npy is not a plain NumPy array"),
    "a cut-off zip": (lambda p: truncate(p, 300_000), "is not a whole .npz file"),
    "an empty file": (lambda p: truncate(p, 0), "is not a whole .npz file"),
    "text": (lambda p: p.write_text("W1 = 0"), "is not a whole .npz file"),
    "an encrypted zip": (encrypted, "is not a whole .npz file"),
    "a zip bomb": (bomb, "claims to unpack to more than 256 MiB"),
    "a member that claims to be small": (lies, "is not a whole .npz file"),
    "two members of one name": (twice, "two files of one name"),
    "a thousand members": (many, "more than 65 files"),
    "bzip2": (lambda p: packed(p, zipfile.ZIP_BZIP2), "compression method 12 is not read"),
    "LZMA": (lambda p: packed(p, zipfile.ZIP_LZMA), "compression method 14 is not read"),
    "a pipe": (pipe, "could not be read .is a pipe or a device, expected a file"),
    "a socket": (socket_at, "could not be read"),
    "a link to itself": (loop, "could not be read"),
    "a device": (lambda p: (p.unlink(), p.symlink_to("/dev/zero")), "is a pipe or a device"),
    "more bytes than any weights have": (
        lambda p: os.truncate(p, weights.MAX_BYTES + 1),
        "has more than 268,435,456 bytes",
    ),
    "infinite golden logits": (lambda p: spoil_golden(p, float("inf")), "Infinity is not JSON"),
    "golden logits that are NaN": (lambda p: spoil_golden(p, float("nan")), "NaN is not JSON"),
    "huge golden logits": (lambda p: spoil_golden(p, 1e300), "golden_logits is 1e.300, expected"),
    "large golden logits": (lambda p: spoil_golden(p, 1e18), "does not compute what it did"),
    "golden logits in words": (lambda p: spoil_golden(p, "1"), "golden_logits is '1', expected"),
    "too many golden inputs": (
        lambda p: spoil_metadata(p, golden_inputs=["AAAA"] * 101),
        "no golden inputs, or more than 100",
    ),
    "an accuracy in words": (
        lambda p: spoil_metadata(p, test_accuracy="good"),
        "test_accuracy is 'good', expected float",
    ),
    "an accuracy above 1": (
        lambda p: spoil_metadata(p, validation_accuracy=98.5),
        "an accuracy, a threshold, or its rate, is 98.5",
    ),
    "an accuracy that is NaN": (
        lambda p: spoil_metadata(p, test_accuracy=float("nan")),
        "NaN is not JSON",
    ),
    "a threshold that is infinite": (
        lambda p: spoil_text(
            p, old='"rejection_threshold": null', new='"rejection_threshold": 1e999'
        ),
        "rejection_threshold is inf, expected float",
    ),
    "a temperature near zero": (
        lambda p: spoil_metadata(p, temperature=1e-300),
        "the temperature is 1e-300",
    ),
    "a seed in words": (lambda p: spoil_metadata(p, seed="0"), "seed is '0', expected int"),
    "a seed that is true": (lambda p: spoil_metadata(p, seed=True), "seed is True, expected int"),
    "a seed without end": (
        lambda p: spoil_text(p, old='"seed": 0', new='"seed": 1e999'),
        "seed is inf, expected int",
    ),
    "a recipe that is a number": (lambda p: spoil_metadata(p, recipe=7), "recipe is 7, expected"),
    "a lone surrogate": (
        lambda p: spoil_metadata(p, recipe="a\ud800"),
        "recipe is 'a.ud800', expected str",
    ),
    "a control character": (
        lambda p: spoil_metadata(p, dataset="\x1b[2J"),
        "dataset is '.x1b.2J', expected str",
    ),
    "a control character in parameters": (
        lambda p: spoil_metadata(p, parameters={"a\n": 1}),
        "a key of parameters is 'a.n', expected str",
    ),
    "parameters nested deep": (
        lambda p: spoil_metadata(p, parameters={"a": nested(300)}),
        "is nested too deep",
    ),
    "a text without end": (
        lambda p: spoil_metadata(p, recipe="a" * 100_000),
        "recipe is 'aaa.*aaa', expected str",
    ),
    "metadata of 20 MiB": (
        lambda p: spoil(p, metadata=np.array(" " * (5 << 20))),
        "more than 16 MiB",
    ),
    "an unknown field": (lambda p: spoil_metadata(p, x=1), "has the unknown field 'x'"),
    "a reference in a list": (lambda p: spoil_metadata(p, reference=[1]), "reference is .1.,"),
    "a reference of one feature": (
        lambda p: spoil_metadata(p, reference={"ink": {"edges": [0.5], "counts": [1, 1]}}),
        "the reference is of ink",
    ),
    "a reference in words": (
        lambda p: spoil_metadata(p, reference={"ink": {"edges": ["a"], "counts": [1, 1]}}),
        "edges is 'a', expected float",
    ),
    "an array whose header claims terabytes": (
        lambda p: with_member(
            p,
            "W1.npy",
            content=npy(
                b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
            ),
        ),
        "W1.npy is not a plain NumPy array",
    ),
    "a member that is no array": (
        lambda p: with_member(p, "W1.npy", content=b"hello"),
        "W1.npy is not a plain NumPy array",
    ),
    "a header that is no header": (
        lambda p: with_member(p, "W1.npy", content=npy(b"import os")),
        "W1.npy is not a plain NumPy array",
    ),
    "no metadata": (lambda p: spoil(p, metadata=None), "holds no 'metadata' string"),
    "metadata that is no JSON": (
        lambda p: spoil(p, metadata=np.array("{")),
        "metadata cannot be understood",
    ),
    "metadata that is a list": (
        lambda p: spoil(p, metadata=np.array("[]")),
        "metadata cannot be understood",
    ),
    "a newer format": (
        lambda p: spoil_metadata(p, format_version=2),
        "has format version 2, and this nnpipe reads 1",
    ),
    "no format": (lambda p: spoil_metadata(p, format_version=None), "cannot be understood"),
    "a field missing": (lambda p: spoil_metadata(p, recipe=None), "cannot be understood.*recipe"),
    "a temperature of zero": (lambda p: spoil_metadata(p, temperature=0), "the temperature is 0"),
    "a temperature in words": (lambda p: spoil_metadata(p, temperature="warm"), "understood"),
    "a threshold above 1": (
        lambda p: spoil_metadata(p, rejection_threshold=1.5),
        "a threshold, or its rate, is 1.5",
    ),
    "thresholds that are no numbers": (
        lambda p: spoil_metadata(p, rejection_thresholds={"0.01": "high"}),
        "cannot be understood",
    ),
    "thresholds at no rate": (
        lambda p: spoil_metadata(p, rejection_thresholds={"often": 0.5}),
        "cannot be understood",
    ),
    "thresholds in a list": (
        lambda p: spoil_metadata(p, rejection_thresholds=[0.5]),
        "cannot be understood",
    ),
    "no golden inputs": (lambda p: spoil_metadata(p, golden_inputs=[]), "no golden inputs"),
    "golden inputs of another size": (
        lambda p: spoil_metadata(p, golden_inputs=["AAAA"] * 10),
        "golden inputs do not fit the network",
    ),
    "layer sizes of another network": (
        lambda p: spoil_metadata(p, layer_sizes=[784, 64, 64, 10]),
        "has shape",
    ),
    "layer sizes without end": (
        lambda p: spoil_metadata(p, layer_sizes=[float("inf")]),
        "cannot be understood",
    ),
    "metadata nested too deep": (
        lambda p: spoil(p, metadata=np.array("[" * 100_000)),
        "cannot be understood",
    ),
    "layer sizes that are no numbers": (
        lambda p: spoil_metadata(p, layer_sizes=["many"]),
        "cannot be understood",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_file_is_an_error_that_says_what_is_wrong(weights_file, how):
    spoiler, message = SPOILT[how]
    spoiler(weights_file)
    with pytest.raises(WeightsError, match=message) as caught:
        weights.load(weights_file)
    assert str(weights_file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["a member that claims to be small", "bzip2"])
def test_a_bomb_takes_little_memory(weights_file, how):
    """What is unpacked is bounded by what the list of members claims, and that by a limit."""
    SPOILT[how][0](weights_file)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError):
            weights.load(weights_file)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["pytorch_model.pth", "weights.npz"])
def test_a_pytorch_model_as_weights_is_an_error_that_advises_to_export(tmp_path, network, name):
    """Whatever it is called."""
    from nnpipe.torch_training.model import save_model, to_state_dict

    save_model(tmp_path / name, to_state_dict(network))
    with pytest.raises(WeightsError, match=f"{name}: is a PyTorch model, not weights") as caught:
        weights.load(tmp_path / name)
    assert caught.value.advice == "export"


def test_what_could_not_be_loaded_is_not_saved(tmp_path, network, metadata, golden):
    for wrong in (
        {"seed": "0"},
        {"temperature": 0.0},
        {"recipe": "a\x00"},
        {"test_accuracy": 98.0},
    ):
        with pytest.raises(WeightsError, match="cannot be understood"):
            weights.save(
                tmp_path / "w.npz", network, metadata=replace(metadata, **wrong), golden=golden
            )
    assert list(tmp_path.iterdir()) == []


def test_a_transposed_square_layer_is_caught_by_its_golden_logits(tmp_path, metadata):
    """Its shape is right; only what it computes tells."""
    network = Network.initialise(np.random.default_rng(0), (6, 6, 6))
    path = tmp_path / "square.npz"
    weights.save(
        path, network, metadata=metadata, golden=np.arange(12, dtype=np.uint8).reshape(2, 6)
    )
    weights.load(path)
    spoil(path, W1=array(path, "W1").T)
    with pytest.raises(WeightsError, match="transposed"):
        weights.load(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_byte_flipped_is_an_error_or_changes_nothing(tmp_path, metadata, save):
    """Bit rot anywhere, in a small file of each kind: the zip's own checksums, the checks of the
    headers or the golden logits notice."""
    network = Network.initialise(np.random.default_rng(0), (4, 3, 2))
    path = tmp_path / "small.npz"
    weights.save(
        path, network, metadata=metadata, golden=np.arange(8, dtype=np.uint8).reshape(2, 4)
    )
    with np.load(path) as file:
        arrays = dict(file)
    save(path, **arrays)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            model = weights.load(path)
        except WeightsError:
            continue
        for layer, kept in zip(model.network.layers, network.layers, strict=True):
            assert (layer.W == kept.W).all()
            assert (layer.b == kept.b).all()


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.npz: there is no such weights file$") as caught:
        weights.load(tmp_path / "none.npz")
    assert caught.value.advice == "train"
    with pytest.raises(WeightsError, match="is a folder; name the weights file in it"):
        weights.load(tmp_path)


def test_nothing_unfinished_is_written(tmp_path, network, metadata, golden):
    W, b = network.layers[0]
    broken = Network((Layer(W * np.float32(np.nan), b), *network.layers[1:]))
    path = tmp_path / "model_weights.npz"
    with pytest.raises(WeightsError, match="W1 holds NaN"):
        weights.save(path, broken, metadata=metadata, golden=golden)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(weights_file, network, metadata, golden, monkeypatch):
    """The disk fills up in the middle: the old file stays whole and nothing else is left."""
    before = weights_file.read_bytes()

    def fills_up(stream, **arrays):
        stream.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fills_up)
    with pytest.raises(OutputError, match="No space left on device"):
        weights.save(weights_file, network, metadata=replace(metadata, seed=1), golden=golden)
    assert weights_file.read_bytes() == before
    assert list(weights_file.parent.iterdir()) == [weights_file]


def test_a_compressed_file_is_read_too(weights_file, network):
    with np.load(weights_file) as file:
        arrays = dict(file)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    weights_file.write_bytes(stream.getvalue())
    assert (weights.load(weights_file).network.layers[0].W == network.layers[0].W).all()
