"""The recipes: named settings of a training. They can be looked up without torch."""

import math
from dataclasses import dataclass, replace
from typing import Any

from nnpipe.epochs import Sgd
from nnpipe.settings import ADAPTED


@dataclass(frozen=True)
class Distortions:
    """Largest random distortions of a training digit; each amount is uniform in ± its maximum.

    Affine and elastic distortions help small networks on MNIST the most (Simard, Steinkraus & Platt
    2003, "Best Practices for Convolutional Neural Networks", section 2).
    """

    rotation: float = 9.0  # degrees
    shear: float = 0.15  # horizontal shift per height: slant
    scale: float = 0.1  # share, per axis
    shift: float = 1.0  # pixels
    elastic: float = 0.6  # pixels, standard deviation of the displacement
    elastic_grid: int = 7  # support points of the displacement per side
    pen: float = 0.12  # share by which edges move: outwards, or half as far inwards


@dataclass(frozen=True)
class Mixture:
    """Pictures that are added to each batch, as shares of its size; see `mixture`."""

    abroad: float = 0.4  # digits in the forms of other countries
    redrawn: float = 0.5  # training digits as `preprocess` would draw them
    strangers: float = 0.25  # letters and scribbles
    weight: float = 0.1  # of the strangers' loss, relative to the digits'


@dataclass(frozen=True)
class Distillation:
    """Learning from the softened answers of larger networks, the teachers, instead of labels.

    Such an answer also says which digits look similar, so it says more than a label (Hinton,
    Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2); see `teachers`.
    """

    teachers: int = 2
    width: int = 24  # channels of a teacher's first convolution
    epochs: int = 14  # of each teacher
    batch_size: int = 256  # of each teacher
    lr: float = 0.004  # of each teacher
    temperature: float = 3.0  # divides the logits of teachers and network before softmax
    rounds: int = 20  # epochs whose distorted digits and answers are stored and shown again later


@dataclass(frozen=True)
class Recipe:
    """Settings of a training with Adam (Kingma & Ba 2015)."""

    name: str
    epochs: int
    batch_size: int = 128
    lr: float = 0.001
    schedule: bool = False  # warm up, then fall along a cosine to `LAST` (Loshchilov & Hutter 2017)
    averaging: float = 0.0  # decay per step of a running mean of the weights, which is the result
    distortions: Distortions | None = None
    mixture: Mixture | None = None
    distillation: Distillation | None = None
    keep_last: bool = False  # the last epoch instead of the best, where validation data is missing

    def teacher(self, by: Distillation) -> "Recipe":
        """Return the recipe of each teacher.

        A teacher learns from labels and sees no strangers, so that it does not doubt digits that
        look a little strange.
        """
        return replace(
            self,
            name=f"{self.name}, teacher",
            epochs=by.epochs,
            batch_size=by.batch_size,
            lr=by.lr,
            mixture=self.mixture and replace(self.mixture, strangers=0.0),
            distillation=None,
        )


_CLASSIC = Recipe("classic", epochs=20, batch_size=512, lr=0.004, schedule=True)
_AUGMENTED = Recipe(
    "augmented",
    epochs=50,
    batch_size=256,
    lr=0.008,
    schedule=True,
    averaging=0.999,
    distortions=Distortions(),
    mixture=Mixture(),
)
_DISTILLED = replace(
    _AUGMENTED,
    name="distilled",
    epochs=300,
    lr=0.004,
    averaging=0.9995,
    distillation=Distillation(),
)
_ADAPTED = replace(_AUGMENTED, name=ADAPTED, epochs=4, lr=0.001, averaging=0.99)
RECIPES = {recipe.name: recipe for recipe in (_CLASSIC, _AUGMENTED, _DISTILLED)}

WARM_UP = 0.05
"""Share of all steps in which the learning rate rises from zero."""

LAST = 0.28
"""Final learning rate, as a share of the highest. Steps stay long enough for the mean of the
weights to lie in the middle of a wide valley (Izmailov et al. 2018, "Averaging Weights Leads to
Wider Optima and Better Generalization")."""


def recipe(name: str, **changes: Any) -> Recipe:
    """Look up a recipe, and replace settings by those changes that are not None.

    Raises:
        SettingError: a setting is out of its range.
    """
    changed = replace(
        (RECIPES | {ADAPTED: _ADAPTED})[name], **{k: v for k, v in changes.items() if v is not None}
    )
    Sgd(changed.epochs, changed.batch_size, changed.lr)  # raises if one is out of its range
    return changed


def schedule(progress: float) -> float:
    """Return the factor in [0, 1] of the learning rate at a share in [0, 1] of all steps."""
    if progress < WARM_UP:
        return progress / WARM_UP
    falling = 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))
    return LAST + (1 - LAST) * falling
