"""What the champion chooses to see of a picture."""

from functools import cache
from typing import NamedTuple

from nnpipe.classifier import Classifier
from nnpipe.preprocess import Picture, Pixels
from nnpipe.preprocess import prepare as prepare_ways


class Seen(NamedTuple):
    """The chosen way to understand a picture."""

    pixels: Pixels  # (28, 28), as the network sees them
    refusal: str  # why it is not one digit; empty if it may be one
    width: int  # of the picture, upright
    height: int
    note: str


champion = cache(Classifier.load)


def prepare(picture: Picture) -> Seen:
    """Prepare a picture, and choose one of its candidates.

    Raises:
        PictureError: it cannot be read as a picture.
    """
    prepared = prepare_ways(picture)
    (judgement,) = champion().judge([prepared])
    chosen = prepared.candidates[judgement.chosen]
    return Seen(chosen.pixels, chosen.refusal, prepared.width, prepared.height, prepared.note)
