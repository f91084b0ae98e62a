"""What the network says of the pieces of a picture → the number, and how probable it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.numbers.constraints import NOT_POSSIBLE, NOT_SURE, Wanted
from nnpipe.numbers.pieces import Lattice
from nnpipe.numbers.prior import Prior, weigh
from nnpipe.numbers.search import UNKNOWN, Found, Graph, locate, search, unknown_share
from nnpipe.numbers.ways import PreparedNumber

THRESHOLD, THRESHOLD_OF_SOME = 0.1, 0.2
"""Probability of a number below which it is rejected; the second where only some numbers are
possible, so that no other number is bent into one of them."""

CANDIDATES = 20
"""Most probable numbers whose probabilities are compared, or kept for a check across fields."""


class Digit(NamedTuple):
    """A digit of a number, and its place on the picture."""

    digit: int
    probability: float  # in [0, 1], of the network, for this piece alone
    left: float  # of the box around its ink, in pixels of the picture
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Number:
    """What was read from a picture of a number."""

    status: Literal["ok", "doubtful", "rejected", "error"]
    label: str | None = None  # its digits, such as "007"; None unless the status is "ok"
    confidence: float | None = None  # of the whole number, to six digits; None for an error
    # The second most probable number; if the first is rejected, what the picture seems to show.
    second: str | None = None
    second_confidence: float | None = None
    reason: str = ""  # why it is rejected or an error; or a note about one that was read
    width: int | None = None  # of the picture, in its own pixels, upright; None for an error
    height: int | None = None
    digits: tuple[Digit, ...] = field(default=(), repr=False)
    # Under a constraint, or if they are asked for, the numbers that fit, with their probabilities,
    # the most probable first.
    candidates: tuple[tuple[str, float], ...] = field(default=(), repr=False)

    @property
    def shown(self) -> dict[str, Any]:
        """The fields that people see: all but the candidates."""
        return {name: value for name, value in vars(self).items() if name != "candidates"}


def read_number(
    prepared: PreparedNumber,
    probabilities: Sequence[npt.NDArray[np.float64]],
    *,
    wanted: Wanted,
    keep: bool = False,
) -> Number:
    """Read a number.

    Args:
        prepared: the picture.
        probabilities: of the pieces of each lattice, (E, 10).
        wanted: the numbers that are possible.
        keep: keep the candidates of a free number, too.
    """
    width, height = prepared.width, prepared.height
    if prepared.refusal:
        reason = prepared.refusal
        return Number("rejected", confidence=0.0, reason=reason, width=width, height=height)
    prior = Prior.load(cells=prepared.cells > 0)
    pairs = zip(prepared.lattices, probabilities, strict=True)
    weights = [weigh(one, p, prior=prior) for one, p in pairs]
    graph = Graph.of(prepared.lattices, weights)
    numbers = _most_probable(graph, wanted, free=CANDIDATES if keep else 2)
    first, second, refusal = _choose(graph, wanted, numbers=numbers)
    way, pieces = locate(prepared.lattices, weights, label=first.label)
    lattice = prepared.lattices[way]
    digits = []
    for sign, piece in zip(first.label, pieces, strict=True):
        box = lattice.boxes[piece].round(1).tolist()
        if sign == UNKNOWN:
            refusal = f"no digit at {box[0]:.0f} to {box[2]:.0f} pixels from the left"
        else:
            share = round(float(probabilities[way][piece, int(sign)]), 6)
            digits.append(Digit(int(sign), share, *box))
    label = _spelled(first.label, pieces, lattice=lattice, separators=wanted.separators)
    return Number(
        status="rejected" if refusal else "ok",
        label=None if refusal else label,
        confidence=round(first.share, 6),
        second=second.label or None,
        second_confidence=round(second.share, 6) if second.label else None,
        reason="; ".join(filter(None, (refusal, prepared.note))),
        digits=() if refusal else tuple(digits),
        candidates=()
        if wanted.is_free and not keep
        else tuple(Found(n.label, round(n.share, 6)) for n in numbers if UNKNOWN not in n.label),
        width=width,
        height=height,
    )


def _spelled(label: str, pieces: list[int], *, lattice: Lattice, separators: str) -> str:
    """Put separators between the digits whose parts between them look like one."""
    text = label[:1]
    for sign, before, piece in zip(label[1:], pieces, pieces[1:], strict=False):
        between = lattice.separators[lattice.last[before] : lattice.first[piece]]
        text += next((one for one in between if one and one in separators), "") + sign
    return text


NONE = Found("", 0.0)


def _most_probable(graph: Graph, wanted: Wanted, *, free: int) -> list[Found]:
    """Return the most probable numbers, ``free`` ones; under a constraint, those that fit."""
    if wanted.is_free:
        return list(islice(search(graph, wanted), free))
    return _compared(list(islice(search(graph, wanted), CANDIDATES)), wanted)


def threshold_of(wanted: Wanted) -> float:
    """Return the probability below which a number is rejected."""
    return THRESHOLD if wanted.is_free else THRESHOLD_OF_SOME


def _choose(graph: Graph, wanted: Wanted, *, numbers: list[Found]) -> tuple[Found, Found, str]:
    """Return the most probable number, the second, and why the first is refused, or "".

    If it is refused, the second is what the picture seems to show. A number with an unknown sign is
    the first if it is more probable that there is such a sign than that the number is right.
    """
    first, second, *_ = [*numbers, NONE, NONE]
    if first.share >= threshold_of(wanted):
        if wanted.is_free and unknown_share(graph) > first.share:
            some = islice(search(graph, wanted), CANDIDATES)
            return next((n for n in some if UNKNOWN in n.label), first), first, ""
        return first, second, ""
    if wanted.is_free and wanted.length_odds == 1:
        return first, first, NOT_SURE
    return first, next(search(graph), NONE), NOT_POSSIBLE


def _compared(numbers: list[Found], wanted: Wanted) -> list[Found]:
    """Return the probabilities of numbers that fit, given how probable it is that one fits."""
    weighed = [Found(n.label, n.share * wanted.odds(n.label)) for n in numbers]
    others = max(1 - sum(n.share for n in numbers), 0)
    total = others + sum(n.share for n in weighed)
    shares = [Found(n.label, n.share / total) for n in weighed] if total else []
    return sorted(shares, key=lambda n: -n.share)
