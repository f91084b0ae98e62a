"""The recipes: what a training is made of, named. No torch is needed to look one up."""

import math
from dataclasses import dataclass, replace
from typing import Any

from nnpipe.epochs import check_settings
from nnpipe.errors import TrainingError


@dataclass(frozen=True)
class Distortions:
    """How far a training digit may be bent, each time anew; every amount is drawn evenly from ±.

    Affine and elastic distortions are what brought small networks furthest on MNIST (Simard,
    Steinkraus & Platt 2003, "Best Practices for Convolutional Neural Networks", section 2).
    """

    rotation: float = 9.0  # degrees
    shear: float = 0.15  # horizontal shift per height: slant
    scale: float = 0.1  # per axis, as a share
    shift: float = 1.0  # pixels
    elastic: float = 0.6  # pixels, standard deviation of the displacement
    elastic_grid: int = 7  # waves of the displacement: this many support points per side
    pen: float = 0.12  # how far edges go towards their neighbours: thicker, or half as far thinner


@dataclass(frozen=True)
class Mixture:
    """What is added to each batch, as shares of it; see `mixture`."""

    abroad: float = 0.3  # digits in the forms of other countries
    redrawn: float = 0.25  # training digits as `preprocess` would draw them
    strangers: float = 0.25  # what is no digit: letters and scribbles
    weight: float = 0.1  # of the strangers' loss beside the digits'


@dataclass(frozen=True)
class Distillation:
    """Learning from the softened answers of larger networks, the teachers, instead of labels: how
    alike two digits look says more than which one is right (Hinton, Vinyals & Dean 2015,
    "Distilling the Knowledge in a Neural Network", section 2); see `teachers`.
    """

    teachers: int = 2
    width: int = 24  # channels of a teacher's first convolution
    epochs: int = 14  # of each teacher
    batch_size: int = 256  # of each teacher
    lr: float = 0.004  # of each teacher
    temperature: float = 3.0  # by which logits are divided before softmax, the teachers' and ours
    rounds: int = 20  # of bent digits whose answers are kept; in later epochs they come again


@dataclass(frozen=True)
class Recipe:
    """How to train: Adam (Kingma & Ba 2015) with these settings."""

    name: str
    epochs: int
    batch_size: int = 128
    lr: float = 0.001
    schedule: bool = False  # warm up, then fall along a cosine to `LAST` (Loshchilov & Hutter 2017)
    averaging: float = 0.0  # decay, per step, of a running mean of the weights that is kept instead
    distortions: Distortions | None = None
    mixture: Mixture | None = None
    distillation: Distillation | None = None
    keep_last: bool = False  # epoch, not the best on validation: when no digits are left for that

    @property
    def teacher(self) -> "Recipe":
        """How each teacher is trained: on the same pictures and their labels, but on no strangers,
        lest it be in doubt about a digit that looks a little strange.
        """
        by = self.distillation
        if not by:
            raise ValueError(f"recipe '{self.name}' has no teachers")
        return Recipe(
            f"{self.name}, teacher",
            by.epochs,
            by.batch_size,
            by.lr,
            schedule=True,
            averaging=self.averaging,
            distortions=self.distortions,
            mixture=replace(self.mixture, strangers=0.0) if self.mixture else None,
            keep_last=self.keep_last,
        )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("classic", epochs=20, batch_size=512, lr=0.004, schedule=True),
        Recipe(
            "augmented",
            epochs=50,
            batch_size=256,
            lr=0.008,
            schedule=True,
            averaging=0.999,
            distortions=Distortions(),
            mixture=Mixture(),
        ),
        Recipe(
            "distilled",
            epochs=300,
            batch_size=256,
            lr=0.004,
            schedule=True,
            averaging=0.9995,
            distortions=Distortions(),
            mixture=Mixture(),
            distillation=Distillation(),
        ),
    )
}
WARM_UP = 0.05
"""The share of all steps in which the learning rate rises from zero."""
LAST = 0.28
"""Where the learning rate ends, as a share of its height: steps that stay long enough for the mean
of the weights to lie in the middle of a wide valley (Izmailov et al. 2018, "Averaging Weights Leads
to Wider Optima and Better Generalization")."""


def recipe(name: str, **changes: Any) -> Recipe:
    """Look a recipe up; settings that are not None replace its own.

    Raises:
        TrainingError: there is no such recipe, or a setting is out of its range.
    """
    if name not in RECIPES:
        raise TrainingError(f"there is no recipe '{name}'; choose {', '.join(RECIPES)}")
    chosen = replace(RECIPES[name], **{k: v for k, v in changes.items() if v is not None})
    check_settings(epochs=chosen.epochs, batch_size=chosen.batch_size, lr=chosen.lr)
    return chosen


def schedule(progress: float) -> float:
    """The learning rate's factor in [0, 1] at a share ``progress`` in [0, 1] of all steps."""
    if progress < WARM_UP:
        return progress / WARM_UP
    falling = 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))
    return LAST + (1 - LAST) * falling
