"""Two networks on the same pictures."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Comparison:
    """How many pictures each of the two reads right."""

    both_right: int
    gained: int  # only the new one
    lost: int  # only the old one
    both_wrong: int
    p_value: float  # how likely a difference like this is if both are equally good


def compare(new: npt.NDArray[np.bool_], old: npt.NDArray[np.bool_]) -> Comparison:
    """Compare which pictures were read right, shape (n,) each."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return Comparison(
        both_right=int((new & old).sum()),
        gained=gained,
        lost=lost,
        both_wrong=int((~new & ~old).sum()),
        p_value=mcnemar(gained, lost),
    )


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided McNemar test (McNemar 1947; exact: Agresti 2002, section 10.1.1).

    Only the pictures on which both differ tell anything. If both are equally good, each of those
    is as likely gained as lost, so the smaller number is what a fair coin would have given.
    """
    n, fewer = gained + lost, min(gained, lost)
    if n - fewer - fewer <= 1:  # half of all outcomes are on either side
        return 1.0
    # The logarithm of each term, since 2ⁿ soon has more digits than a float.
    log_terms = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_terms)))
