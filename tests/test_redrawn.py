import subprocess
import sys

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from nnpipe.datasets import redrawn
from nnpipe.errors import DatasetError
from nnpipe.preprocess import as_inputs
from nnpipe.preprocess.drawing import look_like_mnist

from .conftest import ROOT
from .work import end


def test_redrawn_digits_are_the_same_digits_and_pass_the_preprocessing(small_dataset):
    """Their neighbours among the originals mostly have the same label."""
    rng = np.random.default_rng(0)
    digits = small_dataset.training
    found = redrawn.redraw_all(digits.images[:300], rng)
    assert look_like_mnist(found.astype(np.float32)).mean() > 0.95
    near = KNeighborsClassifier(3).fit(as_inputs(digits.images[300:]), digits.labels[300:])
    assert near.score(as_inputs(found), digits.labels[:300]) > 0.7
    assert not (found == digits.images[:300]).all(axis=(1, 2)).any()


def test_many_processes_redraw_what_one_does(small_dataset, monkeypatch):
    images = small_dataset.training.images[:20]
    expected = redrawn.redraw_all(images, np.random.default_rng(0))
    monkeypatch.setattr(redrawn, "BATCH", 7)
    assert np.array_equal(redrawn.redraw_all(images, np.random.default_rng(0)), expected)


@pytest.mark.slow
def test_a_process_that_ends_is_one_sentence(small_dataset, monkeypatch):
    monkeypatch.setattr(redrawn, "BATCH", 7)
    monkeypatch.setattr(redrawn, "_redraw", end)
    with pytest.raises(DatasetError, match="a process that redraws digits has ended"):
        redrawn.redraw_all(small_dataset.training.images[:20], np.random.default_rng(0))


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
print(redrawn.redraw_all(drawn.draw(np.arange(20) % 10, rng), rng).shape)
"""
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "(20, 28, 28)\n", done.stderr
