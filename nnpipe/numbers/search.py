"""The lattices of a picture → the most probable numbers.

A *path* reads a line: it is a sequence of pieces, each as a digit, and of parts that are passed
over. Each cut is two nodes, one after a piece and one after a part that was passed over, since it
costs more to read a stroke on one side of a cut only. The weight of a number is the sum over all
paths that spell it, and its probability is its share of the sum over all paths. Both sums are the
forward algorithm (Rabiner 1989, "A Tutorial on Hidden Markov Models", section III.A), here as
products with matrices over the nodes. With S the weights of passing over, C = (I − S)⁻¹ sums over
any number of parts passed over, and with T(d) the weights of the pieces as digit d, a row of
weights e after a prefix becomes e C T(d) after one more digit.

The numbers are found in the order of their weight by a best-first search over prefixes, as for
connectionist temporal classification (Graves et al. 2006, "Connectionist Temporal Classification",
section 3.2): the weight of all numbers that begin with a prefix is an upper bound for each of them.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.numbers.constraints import ANY, MOST_DIGITS, Wanted
from nnpipe.numbers.pieces import Lattice
from nnpipe.numbers.prior import Weights

MOST = 3000
"""Prefixes that are looked at."""

NEGLIGIBLE = 1e-9
"""Share of all paths below which the numbers with a prefix are not looked for."""

UNKNOWN = "?"
SIGNS = "0123456789" + UNKNOWN
"""What a piece may be."""

Array = npt.NDArray[np.float64]


class Found(NamedTuple):
    """A number, and its share of the weight of all paths."""

    label: str
    share: float


class Graph(NamedTuple):
    """All lattices of a picture as one, with N nodes."""

    signs: Array  # (11, N, N): weights from cut to cut, for each sign
    passed: Array  # (N, N): of passing over a part
    start: Array  # (N,)
    end: Array  # (N,)

    @classmethod
    def of(cls, lattices: Sequence[Lattice], weights: Iterable[Weights]) -> "Graph":
        """Join lattices side by side."""
        n = sum(2 * (one.parts + 1) for one in lattices)
        graph = cls(np.zeros((len(SIGNS), n, n)), np.zeros((n, n)), np.zeros(n), np.zeros(n))
        at = 0
        for one, weight in zip(lattices, weights, strict=True):
            first, last = at + 2 * one.first, at + 2 * one.last
            graph.signs[:, first, last] = weight.digits.T
            graph.signs[:, first + 1, last] = weight.digits.T * weight.torn[one.first]
            cut = at + 2 * np.arange(one.parts)
            graph.passed[cut, cut + 3] = weight.passed * weight.torn[:-1]
            graph.passed[cut + 1, cut + 3] = weight.passed
            graph.start[at] = weight.way
            at += 2 * (one.parts + 1)
            graph.end[at - 2 : at] = 1
        return graph


def search(graph: Graph, wanted: Wanted = ANY) -> Iterator[Found]:
    """Find numbers that fit, the most probable first; ``?`` stands for something unknown.

    Shares are of all paths, those that spell other numbers, or none, among them. Paths with another
    number of digits than is wanted count less, by `Wanted.length_odds`.
    """
    pass_over = np.linalg.inv(np.eye(len(graph.start)) - graph.passed)
    step = pass_over @ graph.signs.sum(axis=0)
    # rest[k]: the weight of all ways on from each cut with exactly k more digits.
    rest = [pass_over @ graph.end]
    while len(rest) <= MOST_DIGITS and rest[-1].any():
        rest.append(step @ rest[-1])
    beyond = [np.zeros_like(graph.end) for _ in range(wanted.most + 1)]
    for k in range(wanted.most + 1):
        for more in range(max(wanted.fewest - k, 0), min(wanted.most - k, len(rest) - 1) + 1):
            beyond[k] += rest[more]
    fits = float(graph.start @ beyond[0])
    total = fits + max(float(graph.start @ sum(rest)) - fits, 0) / wanted.length_odds
    heap: list[tuple[float, str, Array | None]] = [(-total, "", graph.start)]
    for _ in range(MOST):
        if not heap or total <= 0:
            return
        weight, prefix, row = heapq.heappop(heap)
        if row is None:
            yield Found(prefix, -weight / total)
            continue
        row = row @ pass_over
        k = len(prefix)
        if wanted.fewest <= k and wanted.accepts(prefix):
            heapq.heappush(heap, (-float(row @ graph.end), prefix, None))
        if k == wanted.most:
            continue
        for sign, after in zip(SIGNS, row @ graph.signs, strict=True):
            bound = float(after @ beyond[k + 1])
            if bound > NEGLIGIBLE * total and wanted.may_begin(prefix + sign):
                heapq.heappush(heap, (-bound, prefix + sign, after))


def unknown_share(graph: Graph) -> float:
    """Return the probability that some piece is no digit."""
    pass_over = np.linalg.inv(np.eye(len(graph.start)) - graph.passed)

    def total(signs: Array) -> float:
        """Sum over all paths of these signs: the start times (I − C T)⁻¹ C times the end."""
        rest = np.eye(len(graph.start)) - pass_over @ signs.sum(axis=0)
        return float(graph.start @ np.linalg.solve(rest, pass_over @ graph.end))

    every = total(graph.signs)
    return 1 - total(graph.signs[: len(SIGNS) - 1]) / every if every else 0.0


def locate(
    lattices: Sequence[Lattice], weights: Sequence[Weights], *, label: str
) -> tuple[int, list[int]]:
    """Return the most probable path that spells a number (Viterbi 1967): lattice and pieces."""
    best = 0.0, 0, list[int]()
    for way, (one, weight) in enumerate(zip(lattices, weights, strict=True)):
        score, pieces = _path(one, weight, label=label)
        best = max(best, (score * weight.way, way, pieces))
    return best[1:]


def _path(one: Lattice, weight: Weights, *, label: str) -> tuple[float, list[int]]:
    """Return the weight and the pieces of the most probable path that spells a label."""
    signs = [SIGNS.index(sign) for sign in label]
    leaving: list[list[int]] = [[] for _ in range(one.parts)]
    for edge, first in enumerate(one.first.tolist()):
        leaving[first].append(edge)
    # By cut, whether the part before it was passed over, and digits so far.
    best = np.zeros((one.parts + 1, 2, len(label) + 1))
    best[0, 0, 0] = 1
    before: dict[tuple[int, int, int], tuple[int, int, int, int]] = {}
    for at in range(one.parts):
        for over, k in np.argwhere(best[at]).tolist():
            here = best[at, over, k]
            torn = weight.torn[at]
            steps = [(at + 1, 1, k, -1, here * weight.passed[at] * (1 if over else torn))]
            if k < len(label):
                steps += [
                    (
                        int(one.last[edge]),
                        0,
                        k + 1,
                        edge,
                        here * weight.digits[edge, signs[k]] * (torn if over else 1),
                    )
                    for edge in leaving[at]
                ]
            for cut, passed, count, edge, score in steps:
                if score > best[cut, passed, count]:
                    best[cut, passed, count] = score
                    before[cut, passed, count] = (at, over, k, edge)
    over = int(best[-1, :, -1].argmax())
    node, pieces = (one.parts, over, len(label)), list[int]()
    while node in before:
        *earlier, edge = before[node]
        node = (earlier[0], earlier[1], earlier[2])
        pieces += [edge] if edge >= 0 else []
    return float(best[-1, over, -1]), pieces[::-1]
