"""Drift: how far the pictures of a scoring run are from the validation digits.

A picture has four features. For each, a histogram of the run is compared with the histogram of the
validation digits, which the weights file keeps.

    labels       the most likely digit; rejected pictures count, so that no threshold moves it
    confidences  the calibrated probability of that digit
    rejections   1 if the picture is rejected, for whatever reason, else 0
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
"""Bins of confidences and of ink, each with the same number of validation digits. There are fewer
where equal values make edges coincide, as when a third of all confidences is 1."""

LEAST = 0.1
"""Smallest limit of an index, however many pictures there are. By custom, less than 0.1 is no
change and more than 0.25 a large one (Siddiqi 2006, "Credit Risk Scorecards"). The two halves of
MNIST's test digits, by different people, are 0.07 apart at most, in ink. Turning all digits by 15°
costs 1.5 points of accuracy and moves confidences by 0.21. Drift is a reason to look: no picture is
refused for it."""

Z = 3.0902323061678132
"""The 99.9 % quantile of the normal distribution."""

Values = Mapping[str, npt.NDArray[Any]]
"""Feature → its value for each picture, shape (n,)."""

Counts = dict[str, list[int]]
"""Feature → the number of pictures in each bin."""


@dataclass(frozen=True)
class Distribution:
    """A histogram. The first and the last bin are open; an edge belongs to the bin above it."""

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
"""Feature → its distribution among the validation digits."""


@dataclass(frozen=True)
class Feature:
    """The drift of one feature."""

    name: str
    psi: float
    limit: float
    past: bool  # whether the index exceeds the limit
    n: int  # pictures of the run
    edges: list[float]  # of the bins, see `Distribution`
    counts: list[int]  # pictures of the run in each bin
    reference: list[int]  # validation digits in each bin


@dataclass(frozen=True)
class Drift:
    """How far the pictures of a run are from the validation digits."""

    features: list[Feature]
    past: bool  # whether one of them exceeds its limit

    def __str__(self) -> str:
        past = ", ".join(
            f"{feature.name} (PSI {feature.psi:.2f}, limit {feature.limit:.2f})"
            for feature in self.features
            if feature.past
        )
        return f"unlike the validation digits in {past}" if past else "none to be seen"


def describe(values: Values) -> Reference:
    """Return the distributions of validation digits; their bins serve for every comparison."""
    steps = np.arange(1, BINS) / BINS
    edges: dict[str, npt.NDArray[Any]] = {
        "labels": np.arange(1, 10),
        "rejections": np.ones(1),
        # Edges are values that occur: rounding decides about an edge between two values.
        "confidences": np.unique(np.quantile(values["confidences"], steps, method="higher")),
        "ink": np.unique(np.quantile(values["ink"], steps, method="higher")),
    }
    return {
        name: Distribution(edges[name].tolist(), _histogram(values[name], edges[name]))
        for name in FEATURES
    }


def count(values: Values, reference: Reference) -> Counts:
    """Count the pictures in each bin; counts of different pictures may be added."""
    return {name: _histogram(values[name], expected.edges) for name, expected in reference.items()}


def compare(reference: Reference, counts: Counts) -> Drift | None:
    """Compare the counts of a run with the reference; None if no picture was counted."""
    features = []
    for name, in_bins in counts.items():
        edges, expected = reference[name].edges, reference[name].counts
        n = sum(in_bins)
        index, most = psi(expected, in_bins), limit(sum(expected), n, bins=len(in_bins))
        past = index > most
        features.append(
            Feature(name, round(index, 6), round(most, 6), past, n, edges, in_bins, expected)
        )
    if not any(feature.n for feature in features):
        return None
    return Drift(features, any(feature.past for feature in features))


def psi(reference: Sequence[int], counts: Sequence[int]) -> float:
    """The population stability index, Σ (q − p) ln(q / p), of shares p before and q now.

    An empty bin would make it infinite, so both are smoothed. The reference gets half a picture in
    each bin, as Jeffreys' prior adds. The run gets as many in all, in the proportions of the
    reference: a few pictures alone are then no drift. Equal additions would look like a drift
    towards even shares wherever hardly any digit is rejected.

    Args:
        reference: pictures in each bin, shape (B,).
        counts: pictures of the run in each bin; without any, the index is 0.
    """
    before = np.asarray(reference, np.float64) + 0.5
    p = before / before.sum()
    now = np.asarray(counts, np.float64) + p * (len(p) / 2)
    q = now / now.sum()
    return float(((q - p) * np.log(q / p)).sum())


def limit(m: int, n: int, *, bins: int) -> float:
    """The limit of a population stability index: only a real and sizeable difference exceeds it.

    Without drift, the index is distributed about as χ²(B − 1) · (1/m + 1/n) (Yurdakul & Naranjo
    2020, "Statistical properties of the population stability index", J. Risk Model Validation
    14(4)). The limit is the 99.9 % quantile of that, but at least `LEAST`, which is larger from
    some 300 pictures on.

    Args:
        m: pictures of the reference.
        n: pictures of the run; without any, the limit is infinite.
        bins: their number, B.
    """
    return max(LEAST, chi_square_quantile(bins - 1) * (1 / m + 1 / n)) if n else math.inf


def chi_square_quantile(freedom: int) -> float:
    """The 99.9 % quantile of χ² (Wilson & Hilferty 1931).

    It is too large by 3 % at one degree of freedom, and by less at more; at none it is 0.
    """
    spread = 2 / (9 * freedom) if freedom else 0.0
    return freedom * (1 - spread + Z * math.sqrt(spread)) ** 3


def _histogram(values: npt.NDArray[Any], edges: Sequence[float] | npt.NDArray[Any]) -> list[int]:
    bins = np.searchsorted(np.asarray(edges, np.float64), values, side="right")
    return list(np.bincount(bins, minlength=len(edges) + 1).tolist())
