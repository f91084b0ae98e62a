"""Letters and scribbles in the style of the drawn digits, to learn what is not a digit.

Letters that many people write like a digit are left out: b B D g I l o O p P q s S y Y z Z.
"""

import numpy as np

from nnpipe.datasets.drawn import FORMS, Hand, compile_forms


def letters() -> Hand:
    """Return a hand that writes letters for label 0."""
    return compile_forms([[(1.0, form) for form in FORMS["letters"].values()]], stretch=0.3)


def scribbles(rng: np.random.Generator, *, count: int = 3000) -> Hand:
    """Return a hand with ``count`` scribbles: one to three strokes between random places."""

    def stroke(fewest: int) -> str:
        places = rng.choice(25, rng.integers(fewest, 6), replace=False)  # on a grid of 5 × 5
        sharp = rng.random(len(places)) < 0.3
        return " ".join(
            f"{25 * (place % 5)},{25 * (place // 5)}{'!' if corner else ''}"
            for place, corner in zip(places, sharp, strict=True)
        )

    strokes = rng.choice([1, 2, 3], count, p=[0.3, 0.45, 0.25])
    # A single straight stroke would be a 1.
    forms = [" | ".join(stroke(3 if n == 1 else 2) for _ in range(n)) for n in strokes]
    return compile_forms([[(1.0, form) for form in forms]])
