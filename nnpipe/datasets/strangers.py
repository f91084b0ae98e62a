"""What is no digit, drawn as the drawn digits are: letters and random strokes, to train against.

Letters that many write like a digit (b B D g I l o O p P q s S y Y z Z) are not among them.
"""

import numpy as np

from nnpipe.datasets.drawn import Hand, compile_forms

# In the notation of `drawn.FORMS`, every letter once or in the two ways it is written.
LETTERS = (
    "0,100 20,50 38,0! 58,50 76,100 | 14,64 36,63 62,64",  # A
    "70,14 48,0 14,16 0,50 14,86 46,100 72,86",  # C
    "66,0 33,0 0,0! 0,50 0,100! 34,100 68,100 | 0,48 26,48 54,48",  # E
    "66,0 33,0 0,0! 0,50 0,100 | 0,46 26,46 54,46",  # F
    "70,14 46,0 12,14 0,50 14,88 46,100 72,84! 72,54! 44,54",  # G
    "0,0 0,50 0,100 | 66,0 66,50 66,100 | 0,50 33,50 66,50",  # H
    "54,0 54,40 52,80 34,100 8,96 0,76",  # J
    "20,0 44,0 74,0 | 50,0 50,50 46,86 24,100 4,84",  # J with a hat
    "0,0 0,50 0,100 | 60,0 30,26 2,52! 32,76 64,100",  # K
    "0,0 0,50 0,100! 30,100 60,100",  # L
    "0,100 4,50 8,0! 24,34 42,66! 60,34 76,0! 80,50 84,100",  # M
    "0,100 0,50 0,0! 32,50 66,100! 66,50 66,0",  # N
    "44,0 10,16 0,52 16,90 46,98 74,78 78,34 44,0 | 46,66 64,84 82,104",  # Q
    "0,100 0,50 0,0! 36,0 58,24 36,48 2,50! 30,74 62,100",  # R
    "0,0 36,0 74,0 | 37,0 37,50 37,100",  # T
    "0,0 0,50 8,88 34,100 60,88 68,50 68,0",  # U
    "0,0 18,50 36,100! 54,50 72,0",  # V
    "0,0 12,50 24,100! 36,66 48,30! 62,66 74,100! 86,50 98,0",  # W
    "0,0 33,50 66,100 | 66,0 33,50 0,100",  # X
    "50,6 24,0 2,30 4,80 24,98 48,70 54,4! 54,50 62,100",  # a of one round and a stem
    "8,20 30,2 50,16 52,60 54,100 | 52,48 22,48 2,72 16,98 52,82",  # a of two storeys
    "64,16 36,0 6,24 4,74 34,100 66,84",  # c
    "52,56 24,44 2,66 10,96 36,98 54,70! 56,30 56,0! 56,50 60,100",  # d
    "4,52 36,50 64,44 48,6 18,6 2,44 16,90 46,98 70,82",  # e
    "56,8 36,0 24,20 24,60 24,100 | 2,42 24,41 50,40",  # f
    "0,0 0,50 0,100! 4,64 30,42 52,56 54,100",  # h
    "10,30 10,64 10,100 | 10,2 11,4 10,7",  # i
    "40,26 40,60 36,90 8,98 | 40,0 41,2 40,5",  # j
    "0,0 0,50 0,100 | 44,38 24,54 2,68! 24,82 48,100",  # k
    "0,4 2,50 2,100! 6,40 24,4 40,30 40,100! 46,40 66,4 84,30 86,100",  # m
    "0,2 2,50 2,100! 8,40 36,2 62,20 66,60 66,100",  # n
    "0,2 2,50 2,100! 6,40 30,6 56,10",  # r
    "20,0 20,50 24,88 44,100 60,88 | 0,30 22,29 48,28",  # t
    "0,0 2,50 12,90 38,94 60,60 66,0! 66,50 72,100",  # u
    "0,0 18,50 34,100! 52,50 68,0",  # v
    "0,0 8,60 22,100 40,66 46,20! 54,70 72,100 88,56 90,0",  # w
    "0,4 16,0 40,50 62,100 78,94 | 70,0 36,50 0,100",  # x
)


def letters() -> Hand:
    """The hand that writes letters; all have label 0."""
    return compile_forms({0: [(1.0, form) for form in LETTERS]}, stretch=0.3)


def scribbles(rng: np.random.Generator, count: int = 3000) -> Hand:
    """A hand that knows ``count`` scribbles: one to three strokes between random places."""

    def stroke(fewest: int) -> str:
        places = rng.choice(25, rng.integers(fewest, 6), replace=False)  # of a grid of 5 × 5
        sharp = rng.random(len(places)) < 0.3
        return " ".join(
            f"{25 * (place % 5)},{25 * (place // 5)}{'!' if corner else ''}"
            for place, corner in zip(places, sharp, strict=True)
        )

    strokes = rng.choice([1, 2, 3], count, p=[0.3, 0.45, 0.25])
    # One straight stroke alone would be a 1.
    forms = [" | ".join(stroke(3 if n == 1 else 2) for _ in range(n)) for n in strokes]
    return compile_forms({0: [(1.0, form) for form in forms]})
