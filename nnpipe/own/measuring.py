"""What learning from own pictures brought: before and after, and what more of them would bring.

The pictures that are held out are few. So the learning curve comes from cross-validation: of the
pictures to learn from, each is read by a network that was adapted without its group.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from nnpipe.adaptation import Replay, Settings, adapt
from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits
from nnpipe.evaluation.statistics import Estimate, wilson
from nnpipe.network import Network
from nnpipe.own.pictures import Mask, OwnPictures
from nnpipe.own.splitting import Groups, group
from nnpipe.training import Examples

FOLDS = 3
"""Parts of the cross-validation."""

STEPS = (1 / 2, 1.0)
"""Shares of the pictures of the other folds that the points of the curve are learned from."""

LEAST = 3
"""Pictures from which a network is adapted at all."""


MORE = 50
"""Pictures more, of which the forecast speaks."""

AT_START = 10
"""Pictures of a hand that the network before counts as having seen."""

FASTEST = -0.5
"""Power of the number of pictures by which errors fall at most, in a forecast: a curve of few
points may fall faster by chance."""

NAMED = 10
"""Writers that the lines for people name."""

HARDLY = 0.001
"""Gain of accuracy below which more pictures are said to bring hardly anything."""


@dataclass(frozen=True)
class Group:
    """How some pictures are read before and after."""

    name: str
    pictures: int
    before: Estimate  # share that is read right
    after: Estimate

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.pictures:,}): {_range(self.before)} before, "
            f"{_range(self.after)} now"
        )


@dataclass(frozen=True)
class Point:
    """A point of the learning curve."""

    pictures: int  # to learn from
    others: int  # of the same collection, to read
    accuracy: Estimate  # on these


@dataclass(frozen=True)
class OwnReport:
    """What learning from own pictures brought: the content of ``own.json`` of a run."""

    shared: Group  # the validation digits of the data set
    held_out: list[Group]  # all own pictures that were held out, and those of each writer
    curve: list[Point]  # empty if the network was trained from scratch
    expected: Estimate | None  # accuracy with `MORE` pictures more; None if it cannot be said
    suspects: list[str]  # files whose label may be wrong

    def lines(self) -> Iterator[str]:
        """Yield sentences, for people."""
        yield str(self.shared)
        yield from map(str, self.held_out[: 1 + NAMED])
        if (more := len(self.held_out) - 1 - NAMED) > 0:
            yield f"and {more:,} other writers, who are read better"
        if len(self.curve) > 1:
            first, *learned = self.curve
            points = (f"{p.accuracy.value:.1%} after {p.pictures:,}" for p in learned)
            yield (
                f"learning curve, on {first.others:,} own pictures, each read by networks that did "
                f"not learn from it: {first.accuracy.value:.1%} before, {', '.join(points)}"
            )
        if self.expected is not None:
            yield self.outlook

    @property
    def outlook(self) -> str:
        """What more pictures would bring, as a sentence."""
        if self.expected is None:
            return ""
        if self.expected.value < self.curve[-1].accuracy.value + HARDLY:
            return f"by this curve, {MORE} more pictures would bring hardly anything"
        return f"by this curve, expect {_range(self.expected)} with {MORE} more pictures"


def _range(share: Estimate) -> str:
    return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def compare_digits(name: str, digits: Digits, *, before: Classifier, after: Classifier) -> Group:
    """Return how the digits of a data set are read before and after."""
    was_right, right = (
        one.logits(digits.images).argmax(axis=1) == digits.labels for one in (before, after)
    )
    return Group(name, len(right), _share(was_right), _share(right))


def compare_held_out(own: OwnPictures, *, before: Classifier, after: Classifier) -> list[Group]:
    """Return how the held-out pictures are read: all of them, and those of each writer.

    The writers are in the order of how well they are read now, the worst one first.
    """
    held = own.some(own.held_out)
    was_right, right = held.judged(before)[0], held.judged(after)[0]

    def of(name: str, some: Mask) -> Group:
        return Group(name, int(some.sum()), _share(was_right[some]), _share(right[some]))

    if not len(held):
        return []
    writers = [w for w in np.unique(held.writers).tolist() if w]
    by_writer = [of(f"of these, by {writer}", held.writers == writer) for writer in writers]
    return [
        of("own pictures that were held out", np.ones(len(held), bool)),
        *sorted(by_writer, key=lambda group: group.after.value),
    ]


def _share(right: Mask) -> Estimate:
    return wilson(int(right.sum()), len(right))


def learning_curve(
    own: OwnPictures,
    reader: Classifier,
    *,
    known: Mask,
    replay: Replay,
    validation: Examples,
    settings: Settings | None = None,
    on_step: Callable[[int, int], None] = lambda done, of: None,
) -> list[Point]:
    """Return how well others are read after learning from some pictures; the first is from none.

    Args:
        own: the collection; what is held out takes no part.
        reader: the network before.
        known: whether it has learned from each picture. These are always learned from, and never
            read.
        replay: see `adaptation.adapt`.
        validation: see `adaptation.adapt`.
        settings: see `adaptation.adapt`.
        on_step: called after each of the networks.
    """
    earlier = own.some(~own.held_out & known).training
    some = own.some(~own.held_out & ~known)
    if len(some) < LEAST:
        return []
    groups = group(some.training.images, writers=some.writers, keys=some.keys)
    points = [Point(0, len(some), _share(some.judged(reader)[0]))]
    for number, share in enumerate(STEPS):
        right, counts = np.zeros(len(some), bool), []
        for fold, (rows, others) in enumerate(_folds(groups, share=share)):
            counts.append(int(others.sum()))
            if counts[-1] < LEAST:
                return points
            learned = Digits(
                np.concatenate([earlier.images, some.training.images[others]]),
                np.concatenate([earlier.labels, some.training.labels[others]]),
            )
            network, _ = adapt(
                reader.weights.network,
                learned,
                replay=replay,
                validation=validation,
                settings=settings,
                seed=fold,
            )
            right[rows] = some.some(rows).judged(_with(reader, network))[0]
            on_step(number * FOLDS + fold + 1, len(STEPS) * FOLDS)
        points.append(Point(round(np.mean(counts)), len(some), _share(right)))
    return points


def _folds(groups: Groups, *, share: float) -> Iterator[tuple[Mask, Mask]]:
    """Yield the pictures of each fold, and those to learn from: a share of all others."""
    numbers = np.random.RandomState(0).permutation(np.unique(groups))
    for fold in range(FOLDS):
        others = np.delete(numbers, np.s_[fold::FOLDS])
        yield (
            np.isin(groups, numbers[fold::FOLDS]),
            np.isin(groups, others[: round(share * len(others))]),
        )


def _with(reader: Classifier, network: Network) -> Classifier:
    return replace(reader, weights=reader.weights._replace(network=network))


def forecast(points: list[Point]) -> Estimate | None:
    """Return the accuracy to expect with `MORE` pictures more; None if it cannot be said.

    Errors fall as a power of the number of pictures (Cortes et al. 1993, "Learning Curves:
    Asymptotic Values and Rate of Convergence"), to which `AT_START` are added for what the network
    could read before. The interval is that of the last point, moved.
    """
    if len(points) < 3:
        return None
    last = points[-1]
    if last.accuracy.value <= points[0].accuracy.value:
        return last.accuracy  # it did not help so far
    # Half an error more, so that none is not taken for never.
    errors = [1 - p.accuracy.value + 0.5 / p.others for p in points]
    counts = np.array([AT_START + p.pictures for p in points])
    rate = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    left = (1 + MORE / counts[-1]) ** np.clip(rate, FASTEST, 0.0)
    value, low, high = (
        float(1 - (1 - share) * left)
        for share in (last.accuracy.value, last.accuracy.low, last.accuracy.high)
    )
    return Estimate(value, low, high)
