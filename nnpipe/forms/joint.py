"""The joint probabilities of fields under checks.

A check says that two sums of fields are equal. The reader gives each field a few numbers with
probabilities, or "something else". If a check holds, a combination counts more, by the odds that
people add up right; if it fails, it counts less; if one of its fields is something else, the check
says nothing. The posterior of a number is the share of all combinations that have it.

There are up to 20ⁿ combinations, but few sums. The forward–backward algorithm (Rabiner 1989, "A
Tutorial on Hidden Markov Models", section III.A) runs over the fields. A state is the difference
between both sides of each check, as far as its fields are added. Where there are too many states,
the least probable ones are left out.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ADDS_UP = 0.95
"""Share of checks that hold on paper; people miscount, too."""

CHANCE = 0.05
"""Share of the combinations with a wrong sum that agree by chance."""

LEAST = 1e-4
"""Probability of a number below which it is no alternative."""

WORK = 20_000
"""Differences that are computed for one field, at most; this limits the number of states."""

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Step(NamedTuple):
    """The states before a field, S of them, and where each of its K choices leads."""

    forward: Array  # (S,): weight of all ways to each state
    weights: Array  # (S, K): of each choice
    after: npt.NDArray[np.intp]  # (S, K): the next state


def marginals(every: list[dict[str, float]], *, signs: Ints, involved: Bools) -> list[Array]:
    """Return the posteriors of each field's choices; the last choice is something else.

    Args:
        every: the numbers of each of n fields, with their probabilities.
        signs: (n, C): how often a field is added to the difference of each equation.
        involved: (n, C): whether it belongs to the equation.
    """
    n, columns = signs.shape
    last = n - 1 - involved[::-1].argmax(axis=0)  # the field after which an equation is complete
    keys = np.random.default_rng(0).integers(2**63, size=2 * columns, dtype=np.uint64) | 1
    differences, unknown = np.zeros((1, columns), np.int64), np.zeros((1, columns), np.bool_)
    forward = np.ones(1)
    steps = []
    for k, choices in enumerate(every):
        values = np.array([*map(int, choices), 0], np.int64)
        shares = np.array([*choices.values(), max(1 - sum(choices.values()), LEAST)])
        is_else = np.arange(len(values)) == len(choices)
        after = differences[:, None] + values[:, None] * signs[k]
        lost = unknown[:, None] | (is_else[:, None] & involved[k])
        after[lost] = 0
        done = last == k
        holds = np.where(after[..., done] == 0, ADDS_UP / CHANCE, 1 - ADDS_UP)
        factor = np.where(lost[..., done], 1.0, holds).prod(axis=2)
        after[..., done], lost[..., done] = 0, False
        weights = shares * factor
        # Equal states become one. Their hash is linear, and wraps around.
        rows = np.concatenate([after.view(np.uint64), lost.astype(np.uint64)], axis=2)
        _, index, place = np.unique(rows @ keys, return_index=True, return_inverse=True)
        place = place.reshape(weights.shape)
        sums = np.bincount(place.ravel(), (forward[:, None] * weights).ravel())
        following = len(every[k + 1]) + 1 if k + 1 < n else 1
        most = max(WORK // (columns * following), 50)
        if len(sums) > most:
            kept = np.sort(np.argpartition(-sums, most)[:most])
            new = np.full(len(sums), -1)
            new[kept] = np.arange(most)
            place, sums, index = new[place], sums[kept], index[kept]
            weights = np.where(place < 0, 0, weights)
        steps.append(Step(forward, weights, place))
        differences = after.reshape(-1, columns)[index]
        unknown = lost.reshape(-1, columns)[index]
        forward = sums / sums.sum()
    backward = np.ones(1)
    results = []
    for step in steps[::-1]:
        onward = step.weights * backward[step.after]
        share = step.forward @ onward
        results.append(share / share.sum())
        backward = onward.sum(axis=1)
        backward /= backward.max()
    return results[::-1]
