"""Whether the rules of promotion keep the champion from getting worse, in simulation.

    python benchmarks/promotion.py [--runs FOLDER] [--seeds N] [--data-dir DIR]

First it measures how networks that differ only in their seed differ: from the runs below FOLDER, or
from N that it trains (some two minutes each). Then it simulates candidates. *True* accuracy is that
on endless digits like the validation digits, half as they are and half redrawn as pictures.

One candidate: validation sets are drawn with replacement from the measured digits. Weights on the
digits make the candidate truly better or worse by a given number of points (exponential tilting:
Efron 1981, "Nonparametric standard errors and confidence intervals", section 7). The real rules
decide.

A year: 52 candidates, each judged on the *same* digits against the champion of that week. The luck
of a network on these digits is normal, with the measured variance, and stays with it.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from nnpipe import datasets, stages
from nnpipe.champions import rules
from nnpipe.classifier import Classifier
from nnpipe.evaluation.statistics import mcnemar
from nnpipe.runs import WEIGHTS_FILE, open_run
from nnpipe.settings import DATA, TrainRequest

TRIES, YEARS, WEEKS = 2000, 2000, 52
POINT = 0.01
LEAST_SPREAD = 0.05 * POINT
"""Smallest spread of the seeds' true accuracy that is simulated: it is hard to measure."""

Scores = tuple[np.ndarray, np.ndarray]
"""Which digits a network reads right, and its scores; see `rules.scores`."""


def measure(runs: list[Path], data: datasets.Dataset) -> list[Scores]:
    """Judge each run on the validation digits."""
    images, labels = data.validation
    pictures, rows = rules.present(images)
    found = []
    for run in runs:
        reader = Classifier.load(run / WEIGHTS_FILE)
        right = reader.logits(images).argmax(axis=1) == labels
        redrawn = reader.logits(pictures).argmax(axis=1) == labels[rows]
        found.append(rules.scores(right, redrawn, rows=rows))
    return found


def train(seeds: int, folder: Path, data_dir: Path) -> list[Path]:
    """Train networks that differ only in their seed."""
    runs = []
    for seed in range(seeds):
        request = TrainRequest(seed=seed, data_dir=data_dir)
        with open_run(folder, f"seed{seed}", label="") as run:
            stages.train(run, request)
        runs.append(run)
    return runs


def tilted(differences: np.ndarray, by: float) -> np.ndarray:
    """The probabilities of digits under which each column's mean is ``by``, (n, 2) → (n,)."""

    def log_sum(theta: np.ndarray) -> float:
        powers = (differences - by) @ theta
        return float(powers.max() + np.log(np.exp(powers - powers.max()).sum()))

    powers = (differences - by) @ minimize(log_sum, np.zeros(2)).x
    weights = np.exp(powers - powers.max())
    return weights / weights.sum()


def promoted(
    found: list[Scores], labels: np.ndarray, *, by: float, rng: np.random.Generator
) -> tuple[float, float]:
    """How often a candidate that is better by ``by`` is promoted: now, and by version 1.0.0."""
    pairs = list(itertools.permutations(found, 2))
    now = before = 0
    for number in range(TRIES):
        (right, score), (was_right, was) = pairs[number % len(pairs)]
        differences = np.stack([right.astype(float) - was_right, score - was], axis=1)
        drawn = rng.choice(len(labels), len(labels), p=tilted(differences, by))
        judged = rules.compare_scores(
            (right[drawn], score[drawn]), (was_right[drawn], was[drawn]), labels=labels[drawn]
        )
        now += all(rule.passed for rule in judged)
        gained = int((right[drawn] & ~was_right[drawn]).sum())
        lost = int((was_right[drawn] & ~right[drawn]).sum())
        before += not (lost > gained and mcnemar(gained, lost) < 0.05) and judged[2].passed
    return now / TRIES, before / TRIES


def years(
    covariance: np.ndarray, *, spread: float, start: float, step: float | None, old: bool, seed: int
) -> np.ndarray:
    """The champion's true accuracy after a year, less that at its start, for each of `YEARS`.

    Args:
        covariance: of the differences of two networks' accuracies, (2, 2): as they are, and score.
        spread: standard deviation of the true accuracy of candidates.
        start: true accuracy of the first champion, less the mean of the candidates.
        step: if given, each candidate is truly better by this than the champion of its week.
        old: judge by the rule of version 1.0.0.
        seed: of all chance.
    """
    rng = np.random.default_rng(seed)
    error = np.sqrt(np.diag(covariance))
    true = np.full(YEARS, start)
    luck = rng.multivariate_normal([0, 0], covariance / 2, YEARS)
    for _ in range(WEEKS):
        theirs = true + step if step is not None else rng.normal(0, spread, YEARS)
        their_luck = rng.multivariate_normal([0, 0], covariance / 2, YEARS)
        seen = (theirs - true)[:, None] + their_luck - luck
        better = (seen[:, 0] >= 0) & (seen[:, 1] > error[1])
        if old:
            better = seen[:, 0] > -1.96 * error[0]
        true = np.where(better, theirs, true)
        luck = np.where(better[:, None], their_luck, luck)
    return true - start


def main() -> None:
    """Measure, simulate, and print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, help="folder of trained runs, of one recipe")
    parser.add_argument("--seeds", type=int, default=6, help="networks to train otherwise")
    parser.add_argument("--data-dir", type=Path, default=DATA)
    options = parser.parse_args()
    data = datasets.load("mnist", options.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        runs = (
            sorted(path.parent for path in options.runs.glob(f"*/{WEIGHTS_FILE}"))
            if options.runs
            else train(options.seeds, Path(folder), options.data_dir)
        )
        found = measure(runs, data)
    labels = data.validation.labels
    differences = [
        np.stack([a[0].astype(float) - b[0], a[1] - b[1]])
        for a, b in itertools.combinations(found, 2)
    ]
    covariance = np.mean([np.cov(d) for d in differences], axis=0) / len(labels)
    accuracies = np.array([score.mean() for _, score in found])
    # What the seeds differ by beyond luck.
    spread = float(np.sqrt(max(0, accuracies.var(ddof=1) - covariance[1, 1] / 2)))
    as_they_are = np.array([right.mean() for right, _ in found])
    print(
        f"{len(found)} networks that differ in their seed, {len(labels):,} validation digits: "
        f"{as_they_are.mean():.2%} right as they are (standard deviation "
        f"{as_they_are.std(ddof=1) / POINT:.2f} points), {accuracies.mean():.2%} with the redrawn "
        f"({accuracies.std(ddof=1) / POINT:.2f}). Standard error of the difference of two: "
        f"{np.sqrt(covariance[0, 0]) / POINT:.2f} and {np.sqrt(covariance[1, 1]) / POINT:.2f} "
        f"points. Spread of the true accuracy: {spread / POINT:.2f} points (simulated: "
        f"{max(spread, LEAST_SPREAD) / POINT:.2f}).\n"
    )
    spread = max(spread, LEAST_SPREAD)
    print("| the candidate is truly better by | promoted | by 1.0.0's rule |\n| --- | --- | --- |")
    rng = np.random.default_rng(0)
    for points in (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3):
        now, before = promoted(found, labels, by=points * POINT, rng=rng)
        print(f"| {points:+.1f} points | {now:.1%} | {before:.1%} |")
    print(
        f"\n| {WEEKS} weeks of candidates | champion's true accuracy, points: mean (5 % to 95 %) "
        "| by the rule of 1.0.0 |\n| --- | --- | --- |"
    )
    for name, start, step in (
        ("of the same recipe", 0.0, None),
        ("of the same recipe; the first champion is better than 97 % of them", 2 * spread, None),
        ("of a recipe 0.1 points worse", 0.1 * POINT, None),
        ("of a recipe 0.2 points worse", 0.2 * POINT, None),
        ("each 0.1 points worse than the champion of its week", 0.0, -0.1 * POINT),
        ("each 0.2 points worse than the champion of its week", 0.0, -0.2 * POINT),
        ("each 0.3 points worse than the champion of its week", 0.0, -0.3 * POINT),
    ):
        cells = []
        for old in (False, True):
            change = (
                years(covariance, spread=spread, start=start, step=step, old=old, seed=1) / POINT
            )
            low, high = np.percentile(change, [5, 95])
            cells.append(f"{change.mean():+.2f} ({low:+.2f} to {high:+.2f})")
        print(f"| {name} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
