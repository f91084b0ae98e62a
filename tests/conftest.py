"""Fixtures for all tests: small data sets, a network with random weights, and the real MNIST."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from nnpipe import weights
from nnpipe.datasets import drawn, mnist, strangers
from nnpipe.network import Network
from nnpipe.preprocess import PREPROCESSING_VERSION

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("NNPIPE_SHARED", ROOT.parent / "shared"))


def copy_of_the_project(folder):
    """Copy the tracked files and the files that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def folder_of_mnist(*folders):
    """Return the first folder with the four official MNIST files, or None."""
    whole = (f for f in folders if all((f / name).is_file() for name in mnist.MD5))
    return next(whole, None)


@pytest.fixture(scope="session")
def mnist_files() -> Path:
    """The folder of the four official MNIST files, which tests only read."""
    folders = SHARED / "mnist", mnist.raw_folder(ROOT / "data")
    folder = folder_of_mnist(*folders)
    if not folder:
        pytest.skip("needs the official MNIST files in {} or {}".format(*folders))
    return folder


@pytest.fixture(scope="session")
def mnist_data(mnist_files, tmp_path_factory) -> Path:
    """A data folder with MNIST."""
    from nnpipe import datasets

    folder = tmp_path_factory.mktemp("data")
    datasets.prepare("mnist", folder, mirror=mnist_files.as_uri())
    return folder


@pytest.fixture(scope="session")
def digits():
    """300 drawn digits, to write into forms."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    images = drawn.draw(labels, rng)
    return type("Digits", (), {"images": images, "labels": labels})


@pytest.fixture(scope="session")
def small_dataset():
    """A data set of 2,000 + 500 + 500 drawn digits."""
    from nnpipe.datasets import Dataset, Digits

    rng = np.random.default_rng(0)

    def digits(n):
        labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
        return Digits(drawn.draw(labels, rng), labels)

    return Dataset("drawn", "0" * 64, digits(2000), digits(500), digits(500))


@pytest.fixture(scope="session")
def pools_drawn():
    """Pools that an earlier test has drawn, by their inputs."""
    return {}


@pytest.fixture
def small_pools(monkeypatch, pools_drawn):
    """Make the mixture of a training small, and draw it once: the full one takes a while."""
    from nnpipe.torch_training import mixture, train

    def draw_once(digits, *, seed, device):
        key = digits.images.tobytes(), digits.labels.tobytes(), seed, device
        if key not in pools_drawn:
            pools_drawn[key] = mixture.draw_pools(digits, seed=seed, device=device)
        return pools_drawn[key]

    monkeypatch.setattr(train, "draw_pools", draw_once)
    for name in ("ABROAD", "REDRAWN", "STRANGERS"):
        monkeypatch.setattr(mixture, name, 300)
    monkeypatch.setattr(strangers, "scribbles", partial(strangers.scribbles, count=300))


@pytest.fixture
def rounding_processor(monkeypatch):
    """Round the factors of products to bfloat16 wherever PyTorch's settings allow it."""
    import torch
    from torch.nn import functional

    linear, convolve = functional.linear, functional.conv2d

    def rounded(*tensors):
        return [tensor.bfloat16().to(tensor.dtype) for tensor in tensors]

    def fast_linear(images, weight, bias=None):
        if torch.get_float32_matmul_precision() != "highest":
            images, weight = rounded(images, weight)
        return linear(images, weight, bias)

    def fast_convolve(images, weight, *options):
        if torch.backends.cudnn.allow_tf32:
            images, weight = rounded(images, weight)
        return convolve(images, weight, *options)

    monkeypatch.setattr(functional, "linear", fast_linear)
    monkeypatch.setattr(functional, "conv2d", fast_convolve)


@pytest.fixture
def metadata():
    """The metadata of a weights file."""
    return weights.Metadata(
        layer_sizes=(784, 128, 64, 10),
        preprocessing_version=PREPROCESSING_VERSION,
        dataset="drawn",
        dataset_checksum="0" * 64,
        recipe="sgd",
        seed=0,
        engine="numpy",
        created="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture
def golden() -> np.ndarray:
    """Ten drawn digits as rows of pixels."""
    return drawn.draw(np.arange(10), np.random.default_rng(0)).reshape(10, -1)


@pytest.fixture
def network() -> Network:
    """A network with random weights."""
    return Network.initialise(np.random.default_rng(0))


@pytest.fixture
def weights_file(tmp_path, network, metadata, golden) -> Path:
    """A weights file of `network`."""
    path = tmp_path / "model_weights.npz"
    weights.save(path, network, metadata=metadata, golden=golden)
    return path
