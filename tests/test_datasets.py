import gzip
import os
import shutil
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

from nnpipe import datasets
from nnpipe.datasets import drawn, mnist, strangers
from nnpipe.errors import DatasetError, MirrorError, MissingExtraError, OutputError, SettingError
from nnpipe.hints import HINTS
from nnpipe.settings import DownloadRequest

from .conftest import folder_of_mnist
from .mirror import serving

IMAGES = "train-images-idx3-ubyte.gz"


@pytest.fixture
def mirror(mnist_files):
    with serving(mnist_files) as mirror:
        yield mirror


@pytest.fixture(autouse=True)
def no_mirror_variable(monkeypatch):
    monkeypatch.delenv(mnist.MIRROR_VARIABLE, raising=False)


def left_behind(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() or ".download" in path.name]


# --- where the tests get MNIST -----------------------------------------------------------------


def test_tests_take_mnist_from_shared_else_from_data(tmp_path):
    """`make run` leaves it in data/; three files of the four are no data set."""
    shared, data = tmp_path / "shared" / "mnist", mnist.raw_folder(tmp_path / "data")
    assert folder_of_mnist(shared, data) is None
    for folder in (data, shared):
        folder.mkdir(parents=True)
        for name in mnist.MD5:
            assert folder_of_mnist(shared, data) != folder
            (folder / name).touch()
        assert folder_of_mnist(shared, data) == folder


# --- the download -----------------------------------------------------------------------------


def test_names_hashes_and_mirrors_are_torchvisions():
    torchvision_mnist = pytest.importorskip("torchvision.datasets").MNIST
    assert list(mnist.MD5.items()) == torchvision_mnist.resources
    assert list(mnist.MIRRORS) == torchvision_mnist.mirrors


@pytest.mark.slow
def test_the_official_files_are_fetched_once(mirror, tmp_path):
    mnist.fetch(tmp_path, mirror.url)
    assert sorted(left_behind(tmp_path)) == sorted(mnist.MD5)
    assert set(mirror.requests) == set(mnist.MD5)
    mirror.requests.clear()
    mnist.fetch(tmp_path, mirror.url)
    assert mirror.requests == []


@pytest.mark.slow
def test_torchvision_finds_the_files_where_it_looks_for_them(mnist_data, tmp_path):
    """Its own data set unpacks them without downloading anything."""
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    shutil.copytree(mnist_data / "MNIST", tmp_path / "MNIST")
    test = torchvision_datasets.MNIST(tmp_path, train=False, download=True)
    images, labels = mnist.read(mnist_data)[1]
    assert (test.data.numpy() == images).all()
    assert (test.targets.numpy() == labels).all()


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("error page", DatasetError, "is not the official file .*wrong MD5.*error page"),
        ("missing", MirrorError, "it answered 404 Not Found"),
        ("truncated", DatasetError, "is not the official file .*wrong MD5.*cut off"),
        ("corrupt", DatasetError, "is not the official file .*wrong MD5"),
        ("redirects in a circle", MirrorError, "it answered 302 |redirects in a circle"),
        ("no HTTP", MirrorError, "BadStatusLine"),
        ("silent", MirrorError, "timed out"),
        ("slow", MirrorError, "not done after 20 seconds"),
    ],
)
@pytest.mark.slow  # every download starts a process that imports torch
def test_a_bad_mirror_ends_in_one_sentence_and_leaves_nothing(
    mirror, mnist_files, tmp_path, mode, error, message
):
    mirror.mode = mode
    seconds = 20 if mode == "slow" else 300  # on a busy machine, importing torch takes long
    with pytest.raises(error, match=message) as caught:
        mnist.fetch(tmp_path, mirror.url, seconds=seconds, silence=1)
    assert type(caught.value) is error
    assert "train-images-idx3-ubyte.gz" in str(caught.value) or mode == "slow"
    assert caught.value.advice == "mirror"
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path) == []
    mnist.fetch(tmp_path, mnist_files.as_uri())  # a good one works afterwards


@pytest.mark.slow
def test_a_mirror_that_is_down_ends_in_one_sentence(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(MirrorError, match=r"Connection refused.*check the network"):
            mnist.fetch(tmp_path, url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///there/is/no/such/folder/",
        pytest.param("https://", marks=pytest.mark.slow),
    ],
)
def test_a_mirror_that_is_no_place_ends_in_one_sentence(tmp_path, url):
    with pytest.raises(MirrorError, match="could not be downloaded"):
        mnist.fetch(tmp_path, url)


@pytest.mark.parametrize("url", ["nonsense", "/a/folder", "ftp://example.org/"])
def test_a_mirror_that_is_no_url_is_one_sentence_and_no_reason_to_draw_digits(tmp_path, url):
    with pytest.raises(DatasetError, match=f"{url} is no mirror; expected https://"):
        datasets.prepare("auto", tmp_path, mirror=url)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["error page", "missing", "truncated"])
def test_the_next_mirror_is_asked_when_the_first_fails(mnist_files, tmp_path, monkeypatch, mode):
    with serving(mnist_files) as bad, serving(mnist_files) as good:
        bad.mode = mode
        monkeypatch.setattr(mnist, "MIRRORS", (bad.url, good.url))
        mnist.fetch(tmp_path)
    assert sorted(left_behind(tmp_path)) == sorted(mnist.MD5)


def test_a_file_mirror_with_a_damaged_file_is_refused(mnist_files, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(mnist_files, source)
    (source / IMAGES).chmod(0o644)
    (source / IMAGES).write_bytes(b"damaged")
    with pytest.raises(
        DatasetError, match=r"is not the official file \(.*: 7 bytes with the wrong MD5"
    ):
        mnist.fetch(tmp_path / "data", source.as_uri())
    assert left_behind(tmp_path / "data") == []


def test_the_variable_names_a_mirror(mnist_files, tmp_path, monkeypatch):
    monkeypatch.setenv(mnist.MIRROR_VARIABLE, mnist_files.as_uri())
    mnist.fetch(tmp_path)
    assert sorted(left_behind(tmp_path)) == sorted(mnist.MD5)


def test_a_damaged_file_is_fetched_again(mnist_files, tmp_path):
    mnist.fetch(tmp_path, mnist_files.as_uri())
    path = mnist.raw_folder(tmp_path) / IMAGES
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="wrong MD5"):
        mnist.read(tmp_path)
    mnist.fetch(tmp_path, mnist_files.as_uri())
    mnist.read(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_in_one_sentence(mirror, small_disk, mnist_files):
    for url in (mirror.url, mnist_files.as_uri()):
        with pytest.raises(
            OutputError, match=r"No space left on device.*; free some space or name another place"
        ):
            mnist.fetch(small_disk, url)
        assert left_behind(small_disk) == []
    with pytest.raises(OutputError, match="No space left on device"):
        datasets.load_drawn(small_disk)
    assert left_behind(small_disk) == []


def test_a_data_folder_that_cannot_be_made_ends_in_one_sentence(tmp_path, mnist_files):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OutputError, match="could not be written"):
        mnist.fetch(tmp_path / "data", mnist_files.as_uri())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise ModuleNotFoundError(name='torchvision')",
            r"pip install '\.\[train\]' in nnpipe's folder",
        ),
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "torchvision does not fit the installed torch.*nms does not exist.*from one index",
        ),
    ],
)
def test_a_torchvision_that_cannot_be_imported_ends_in_one_sentence(
    mirror, tmp_path, monkeypatch, code, message
):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=message):
        mnist.fetch(tmp_path / "data", mirror.url)


# --- auto, names and reading --------------------------------------------------------------------


@pytest.fixture
def quick_drawing(monkeypatch):
    monkeypatch.setattr(datasets, "DRAWN_TRAINING", 600)
    monkeypatch.setattr(datasets, "DRAWN_TEST", 100)
    monkeypatch.setattr(datasets, "VALIDATION", 50)


def test_auto_goes_on_with_drawn_digits_and_says_so_loudly(tmp_path, caplog, quick_drawing):
    assert datasets.prepare("auto", tmp_path, mirror="file:///nowhere/") == "drawn"
    assert "NOT MNIST" in caplog.text
    assert datasets.load("drawn", tmp_path).name == "drawn"


@pytest.mark.slow
def test_auto_does_not_forgive_a_wrong_file(mirror, tmp_path):
    mirror.mode = "error page"
    with pytest.raises(DatasetError, match="is not the official file"):
        datasets.prepare("auto", tmp_path, mirror=mirror.url)


def test_mnist_does_not_turn_into_drawn_digits(tmp_path):
    with pytest.raises(MirrorError, match="MNIST could not be downloaded") as caught:
        datasets.prepare("mnist", tmp_path, mirror="file:///nowhere/")
    assert "drawn" in HINTS[caught.value.advice].command_line
    assert left_behind(tmp_path) == []


def test_an_unknown_name_is_refused(tmp_path):
    """Names come out of files as well."""
    with pytest.raises(DatasetError, match="no data set 'emnist'; expected mnist, drawn or"):
        datasets.load("emnist", tmp_path)
    with pytest.raises(SettingError, match="dataset is 'emnist', expected auto, mnist, drawn"):
        DownloadRequest(dataset="emnist")


def test_a_missing_data_set_says_how_to_get_it(tmp_path):
    with pytest.raises(DatasetError, match=r"is missing$") as caught:
        datasets.load("mnist", tmp_path)
    assert "nnpipe download" in HINTS[caught.value.advice].command_line


def idx(dimensions, data, magic=b"\0\0\x08"):
    header = magic + bytes([len(dimensions)]) + struct.pack(f">{len(dimensions)}I", *dimensions)
    return gzip.compress(header + data, mtime=0)  # the same in each process


def test_an_idx_file_has_the_shape_of_its_header(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(idx((2, 3), bytes(range(6))))
    assert mnist.read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx((2, 3), bytes(6), b"\0\0\x0d"), "does not begin as an IDX file"),
        (idx((2, 3), bytes(6), b"PNG"), "does not begin as an IDX file"),
        (idx((), b""), "does not begin as an IDX file"),
        (gzip.compress(b"", mtime=0), "does not begin as an IDX file"),
        (gzip.compress(b"\0\0\x08\x03\0\0", mtime=0), "does not begin as an IDX file"),
        (idx((2, 3), bytes(5)), "holds 5 bytes, and its header promises 6"),
        (idx((2, 3), bytes(7)), "holds 7 bytes, and its header promises 6"),
        (idx((2**32 - 1,) * 3, b""), "its header promises 79,228,162,"),
        (idx((2, 3), bytes(6))[:-4], "is not a whole gzip file"),
        (b"<html>", "does not begin as an IDX file"),
    ],
)
def test_a_wrong_idx_file_ends_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        mnist.read_idx(path)
    assert str(path) in str(caught.value)


# --- the split ------------------------------------------------------------------------------------


def test_mnist_is_split_the_same_way_for_ever(mnist_data):
    """55,000 + 5,000 + 10,000; the split's checksum is written down, so that it cannot drift."""
    data = datasets.load("mnist", mnist_data)
    assert [len(part.labels) for part in (data.training, data.validation, data.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    assert (
        datasets.sha256(data.validation.labels.tobytes() + data.validation.images.tobytes())[:16]
        == "71076b367e93eaf9"
    )


def test_the_split_is_stratified_and_loses_nothing(mnist_data):
    (_, labels), _ = mnist.read(mnist_data)
    held_out = datasets.validation_indices(labels)
    assert len(np.unique(held_out)) == 5_000
    counts = np.bincount(labels[held_out])
    assert np.abs(counts - np.bincount(labels) / 12).max() < 1


# --- drawn digits ---------------------------------------------------------------------------------


def test_drawn_digits_look_like_mnist_to_the_preprocessing():
    """Fitted into 20×20, centred by mass: so they pass unchanged, as MNIST's do."""
    from nnpipe.preprocess.mnist_like import look_like_mnist

    images = drawn.draw(np.arange(1000) % 10, np.random.default_rng(0))
    assert images.shape == (1000, 28, 28)
    assert images.dtype == np.uint8
    assert look_like_mnist(images.astype(np.float32)).mean() > 0.95


def test_the_same_seed_draws_the_same_digits():
    first, again, other = (
        drawn.draw(np.arange(50) % 10, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_no_two_drawn_digits_are_alike():
    images = drawn.draw(np.full(500, 3), np.random.default_rng(0))
    assert len({image.tobytes() for image in images}) == 500


def test_drawn_digits_are_drawn_once(tmp_path, quick_drawing):
    datasets.load_drawn(tmp_path)
    (path,) = (tmp_path / "drawn").iterdir()
    written = path.stat().st_mtime_ns
    training, test = datasets.load_drawn(tmp_path)
    assert path.stat().st_mtime_ns == written
    assert (len(training.labels), len(test.labels)) == (600, 100)
    assert np.bincount(training.labels).tolist() == [60] * 10


def test_a_damaged_drawing_says_what_to_do(tmp_path, quick_drawing):
    datasets.load_drawn(tmp_path)
    (path,) = (tmp_path / "drawn").iterdir()
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DatasetError, match=r"is damaged .*remove it to draw it again"):
        datasets.load_drawn(tmp_path)


def drawn_by(hand, label, n=300):
    return drawn.draw(np.full(n, label), np.random.default_rng(0), hand=hand)


def test_abroad_some_digits_are_written_otherwise():
    """A bar through the 7 makes its middle wider; one through the 0 fills its middle."""
    rows, middle = np.s_[:, 12:18], np.s_[:, 11:17, 11:17]
    assert drawn_by(drawn.ABROAD, 7)[rows].mean() > 1.1 * drawn_by(drawn.AMERICAN, 7)[rows].mean()
    assert (
        drawn_by(drawn.ABROAD, 0)[middle].mean() > 1.1 * drawn_by(drawn.AMERICAN, 0)[middle].mean()
    )


def test_letters_and_scribbles_look_like_mnist_and_each_is_another():
    """So that nothing but their shape tells a network that they are no digits."""
    from nnpipe.preprocess.mnist_like import look_like_mnist

    rng = np.random.default_rng(0)
    for hand in (strangers.letters(), strangers.scribbles(rng, count=100)):
        images = drawn_by(hand, 0)
        assert len({image.tobytes() for image in images}) == 300
        assert look_like_mnist(images.astype(np.float32)).mean() > 0.9


@pytest.mark.parametrize("labels", [[10], [-1]])
def test_only_digits_are_drawn(labels):
    with pytest.raises(ValueError, match="0 to 9"):
        drawn.draw(np.array(labels), np.random.default_rng(0))


def test_the_download_keeps_torch_out_of_this_process(mnist_files, tmp_path):
    code = (
        "import sys; from pathlib import Path; from nnpipe import datasets; "
        f"datasets.prepare('mnist', Path({str(tmp_path)!r}), mirror={mnist_files.as_uri()!r}); "
        "assert not {'torch', 'torchvision'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
