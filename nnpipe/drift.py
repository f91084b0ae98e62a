"""Whether what was read is like the validation digits, or has drifted away from them.

Four features of a picture are looked at, and for each two histograms are compared: that of the
validation digits, which the weights file keeps, and that of a scoring run.

    labels       the most likely digit, of rejected pictures, too, so that no threshold moves it
    confidences  the calibrated probability of that digit
    rejections   1 if the picture is rejected, for whatever reason, and 0 if not
    ink          the mean of the 28×28 pixels that the network is shown, in [0, 1]
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

FEATURES = ("labels", "confidences", "rejections", "ink")

BINS = 10
"""So many bins, of as many validation digits each, are made of confidences and of ink. Where
equal values make edges fall together there are fewer, as where a third of all confidences is 1."""

LEAST = 0.1
"""No index up to this is past the limit, however many pictures there are. By custom, less than 0.1
is no change and more than 0.25 a large one (Siddiqi 2006, "Credit Risk Scorecards"). The lower one
is taken: the halves of MNIST's test digits, which are by different people, are at 0.07 at most, in
ink; when all are turned by 15°, which costs one and a half points of accuracy, confidences are at
0.21. Chance is kept out by the other part of the limit, and nothing is refused for drift: it is a
reason to look."""

Z = 3.0902323061678132
"""The 99.9 % quantile of the normal distribution."""

Values = Mapping[str, npt.NDArray[Any]]
"""For each feature its values, one for each picture, shape (n,)."""

Counts = dict[str, list[int]]
"""For each feature the number of pictures in each bin."""


@dataclass(frozen=True)
class Distribution:
    """A histogram. Its first and its last bin have no end, and an edge belongs to the bin above."""

    edges: list[float]  # between the bins, ascending
    counts: list[int]  # pictures in each bin, one more than there are edges

    def __post_init__(self) -> None:
        edges, counts = self.edges, self.counts
        if (
            len(counts) != len(edges) + 1
            or not all(isinstance(count, int) and 0 <= count < 2**53 for count in counts)
            or not any(counts)
            or not all(map(math.isfinite, edges))
            or not all(a < b for a, b in pairwise(edges))
        ):
            raise ValueError(f"a distribution has edges {edges} and counts {counts}")


Reference = dict[str, Distribution]
"""What the validation digits are like, for each feature."""


@dataclass(frozen=True)
class Feature:
    """How far the pictures of a run are from the validation digits in one feature."""

    name: str
    psi: float
    limit: float
    past: bool  # whether the index is past the limit
    n: int  # pictures of the run
    edges: list[float]  # of the bins, see `Distribution`
    counts: list[int]  # pictures of the run in each bin
    reference: list[int]  # validation digits in each bin


@dataclass(frozen=True)
class Drift:
    """How far the pictures of a run are from the validation digits."""

    features: list[Feature]
    past: bool  # whether one of them is past its limit

    def __str__(self) -> str:
        past = ", ".join(
            f"{feature.name} (PSI {feature.psi:.2f}, limit {feature.limit:.2f})"
            for feature in self.features
            if feature.past
        )
        return f"unlike the validation digits in {past}" if past else "none to be seen"


def describe(values: Values) -> Reference:
    """The distributions of validation digits, and with them the bins for all that is compared."""
    steps = np.arange(1, BINS) / BINS
    edges: dict[str, npt.NDArray[Any]] = {
        "labels": np.arange(1, 10),
        "rejections": np.ones(1),
        # Edges are values that occur: between two neighbours, rounding would decide.
        "confidences": np.unique(np.quantile(values["confidences"], steps, method="higher")),
        "ink": np.unique(np.quantile(values["ink"], steps, method="higher")),
    }
    return {
        name: Distribution(edges[name].tolist(), _histogram(values[name], edges[name]))
        for name in FEATURES
    }


def check(reference: Reference) -> None:
    """Raise `ValueError` unless the distributions are of all features and no others."""
    if reference.keys() != set(FEATURES):
        raise ValueError(f"the reference is of {', '.join(reference) or 'nothing'}")


def count(values: Values, reference: Reference) -> Counts:
    """How many pictures fall into each bin; counts of different pictures may be added."""
    return {name: _histogram(values[name], known.edges) for name, known in reference.items()}


def compare(reference: Reference, counts: Counts) -> Drift | None:
    """Compare the features that were counted with the reference; None if nothing was counted."""
    features = [_compare(name, reference[name], counts[name]) for name in counts]
    if not any(feature.n for feature in features):
        return None
    return Drift(features, any(feature.past for feature in features))


def _compare(name: str, known: Distribution, counts: list[int]) -> Feature:
    n = sum(counts)
    index, most = psi(known.counts, counts), limit(sum(known.counts), n, len(counts))
    return Feature(
        name, round(index, 6), round(most, 6), index > most, n, known.edges, counts, known.counts
    )


def psi(reference: Sequence[int], counts: Sequence[int]) -> float:
    """The population stability index, Σ (q − p) ln(q / p), of shares q in the bins and p before.

    An empty bin would make it infinite, so shares are smoothed. To the reference half a picture is
    added in each bin, which is what Jeffreys' prior adds. To the run as many are added in all, but
    in the proportions of the reference: a few pictures then speak for no drift, not for one towards
    even shares, which would be found wherever hardly any digit is rejected.

    Args:
        reference: pictures in each bin, shape (B,).
        counts: pictures of the run in each bin; may be none at all, which gives 0.
    """
    before = np.asarray(reference, np.float64) + 0.5
    p = before / before.sum()
    now = np.asarray(counts, np.float64) + p * (len(p) / 2)
    q = now / now.sum()
    return float(((q - p) * np.log(q / p)).sum())


def limit(m: int, n: int, bins: int) -> float:
    """What a population stability index exceeds only by a real and sizeable difference.

    Without any drift it is distributed about as χ²(B − 1) · (1/m + 1/n) (Yurdakul & Naranjo 2020,
    "Statistical properties of the population stability index", J. Risk Model Validation 14(4)). The
    limit is the 99.9 % quantile of that, or `LEAST` if that is more, as it is from some 300
    pictures on.

    Args:
        m: pictures of the reference.
        n: pictures of the run; at none the limit is infinite, which no index exceeds.
        bins: how many there are.
    """
    return max(LEAST, chi_square_quantile(bins - 1) * (1 / m + 1 / n)) if n else math.inf


def chi_square_quantile(freedom: int) -> float:
    """The 99.9 % quantile of χ² with so many degrees of freedom (Wilson & Hilferty 1931).

    It is too large by 3 % at one degree of freedom, by less at more; 0 at none.
    """
    spread = 2 / (9 * freedom) if freedom else 0.0
    return freedom * (1 - spread + Z * math.sqrt(spread)) ** 3


def _histogram(values: npt.NDArray[Any], edges: Sequence[float] | npt.NDArray[Any]) -> list[int]:
    places = np.searchsorted(np.asarray(edges, np.float64), values, side="right")
    found: list[int] = np.bincount(places, minlength=len(edges) + 1).tolist()
    return found
