"""How a picture was understood, drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from nnpipe import explain
from nnpipe.classifier import Judgement
from nnpipe.errors import PictureError

from .make_samples import SAMPLES
from .seen import champion


@pytest.mark.parametrize("name", ["6-photo.jpg", "6-mnist-like.png", "no-digit-several.png"])
def test_each_way_has_a_row_and_the_chosen_one_is_marked(name):
    stages = explain.collect_stages(SAMPLES / name)
    candidates = stages.prepared.candidates
    (judgement,) = champion().judge([stages.prepared])
    row = explain.TILE + explain.CAPTION + explain.MARGIN
    for chosen in range(len(candidates)):
        drawn = explain.draw_stages(stages, Judgement(chosen, judgement.probabilities))
        levels = np.asarray(Image.open(io.BytesIO(drawn)))
        assert len(levels) == len(candidates) * row + explain.MARGIN
        marked = [bool((levels[y : y + row] == explain.CHOSEN).mean() > 0.02)
                  for y in range(0, len(levels) - explain.MARGIN, row)]  # fmt: skip
        # If there is one way alone, there is nothing to mark.
        assert marked == [len(candidates) > 1 and line == chosen for line in range(len(marked))]


def test_the_pictures_are_the_brightness_and_the_ink_of_each_way():
    stages = explain.collect_stages(SAMPLES / "6-photo.jpg")
    assert len(stages.pictures) == 1 + len(stages.prepared.candidates)
    assert {max(image.size) for image in stages.pictures} == {explain.TILE}
    # A picture like MNIST's is shown as it is.
    assert len(explain.collect_stages(SAMPLES / "6-mnist-like.png").pictures) == 1


def test_a_picture_that_cannot_be_read_is_not_explained():
    with pytest.raises(PictureError):
        explain.collect_stages(SAMPLES / "broken-text.png")
