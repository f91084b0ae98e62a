import subprocess
import sys

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from nnpipe.datasets import redrawn
from nnpipe.errors import DatasetError
from nnpipe.preprocess import as_inputs
from nnpipe.preprocess.mnist_like import look_like_mnist

from .conftest import ROOT
from .work import end


@pytest.fixture(scope="module")
def again(small_dataset):
    return redrawn.redraw(small_dataset.training.images[:300], np.random.default_rng(0))


@pytest.fixture(scope="module")
def neighbours(small_dataset):
    """The digits that are not redrawn."""
    digits = small_dataset.training
    return KNeighborsClassifier(3).fit(as_inputs(digits.images[300:]), digits.labels[300:])


def test_redrawn_digits_are_the_same_digits_and_pass_the_preprocessing(
    small_dataset, again, neighbours
):
    """Their neighbours among the originals mostly have the same label."""
    digits = small_dataset.training
    assert look_like_mnist(again.digits.astype(np.float32)).mean() > 0.95
    assert neighbours.score(as_inputs(again.digits), digits.labels[again.rows]) > 0.65
    assert not (again.digits == digits.images[again.rows]).all(axis=(1, 2)).any()


def test_each_row_is_that_of_its_original(small_dataset, again):
    """Most originals have a row. A digit is more like its own original than like another one."""
    images = small_dataset.training.images
    assert len(np.unique(again.rows)) > 0.65 * 300
    assert (np.diff(again.rows) >= 0).all()
    own, other = (
        np.array(list(map(redrawn.difference, images[rows], again.digits)))
        for rows in (again.rows, np.roll(again.rows, 50))
    )
    assert own.max() < 0.75
    assert (own < other).mean() > 0.95


def test_strangers_are_less_like_digits_than_what_is_redrawn(again, neighbours):
    """They look like MNIST's pictures in all but their shape."""
    assert len(again.strangers) > 50
    assert look_like_mnist(again.strangers.astype(np.float32)).mean() > 0.9
    away, away_strangers = (
        np.median(neighbours.kneighbors(as_inputs(pixels), 1)[0])
        for pixels in (again.digits, again.strangers)
    )
    assert away_strangers > 1.2 * away


def test_many_processes_redraw_what_one_does(small_dataset, monkeypatch):
    images = small_dataset.training.images[:20]
    expected = redrawn.redraw(images, np.random.default_rng(0))
    monkeypatch.setattr(redrawn, "BATCH", 7)
    found = redrawn.redraw(images, np.random.default_rng(0))
    for parts in zip(found, expected, strict=True):
        np.testing.assert_array_equal(*parts)


@pytest.mark.slow
def test_a_process_that_ends_is_one_sentence(small_dataset, monkeypatch):
    monkeypatch.setattr(redrawn, "BATCH", 7)
    monkeypatch.setattr(redrawn, "_redraw", end)
    with pytest.raises(DatasetError, match="a process that redraws digits has ended"):
        redrawn.redraw(small_dataset.training.images[:20], np.random.default_rng(0))


@pytest.mark.slow
def test_a_script_needs_no_guard_to_redraw(tmp_path):
    """No process runs the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import numpy as np
from nnpipe.datasets import drawn, redrawn
redrawn.BATCH = 7
rng = np.random.default_rng(0)
print(redrawn.redraw(drawn.draw(np.arange(20) % 10, rng), rng).digits.shape[1:])
"""
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "(28, 28)\n", done.stderr
