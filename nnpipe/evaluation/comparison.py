"""Comparison of two networks on the same pictures."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Comparison:
    """How many pictures the new and the old network read right."""

    both_right: int
    gained: int  # only the new one
    lost: int  # only the old one
    both_wrong: int
    p_value: float  # of the exact McNemar test


def compare(new: npt.NDArray[np.bool_], old: npt.NDArray[np.bool_]) -> Comparison:
    """Compare two masks of the pictures that are read right, shape (n,) each."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return Comparison(
        both_right=int((new & old).sum()),
        gained=gained,
        lost=lost,
        both_wrong=int((~new & ~old).sum()),
        p_value=mcnemar(gained, lost),
    )


def mcnemar(gained: int, lost: int) -> float:
    """Return the p-value of the exact two-sided McNemar test.

    Source: McNemar 1947; exact: Agresti 2002, section 10.1.1. Only pictures on which the networks
    differ count. If both are equally good, each of those is gained or lost with probability ½.
    """
    n, fewer = gained + lost, min(gained, lost)
    if n - fewer - fewer <= 1:  # every outcome is at least as extreme
        return 1.0
    # 2ⁿ overflows a float, so terms are computed as logarithms.
    log_terms = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_terms)))
