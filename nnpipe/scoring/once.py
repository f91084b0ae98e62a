"""Each number on at most one picture: all pictures of a run are given their numbers jointly.

Picture i shows its candidate j with probability pᵢⱼ, and none of its candidates with probability
nᵢ = 1 − Σⱼ pᵢⱼ. Each picture is given a candidate or none, no two pictures the same, so that the
product of the probabilities is as large as possible. With the costs −log p this is the linear
assignment problem (Kuhn 1955, "The Hungarian Method for the Assignment Problem"). SciPy solves it
for sparse costs (Jonker and Volgenant 1987, "A Shortest Augmenting Path Algorithm for Dense and
Sparse Linear Assignment Problems").

"None" counts at most as much as the threshold of reading. Otherwise a picture with the candidates
0.4 and "none" 0.6, which is read if it is alone, would never be given a number.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from nnpipe.errors import needs
from nnpipe.files import replacing, sha256_of
from nnpipe.numbers.constraints import NOT_POSSIBLE
from nnpipe.scoring.entries import name_of
from nnpipe.scoring.outputs import Part
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.rows import NumberRow
from nnpipe.scoring.statistics import Statistics, load_statistics

LEAST = 1e-6
"""Least probability that a picture shows none of its candidates."""

SEEN = 0.05
"""Least probability of a number, of the picture alone, that the picture gets: what is left when
others have the likely ones is no answer."""

UNITS = 1e6
"""Steps of the costs per unit of the logarithm. Costs are whole numbers, so that their sums are
exact, and the last bits of a probability, which differ between processors, decide nothing."""

Candidates = Sequence[tuple[str, float]]
"""The numbers that a picture may show, with their probabilities, the most probable first."""


def solver() -> Any:
    """Return the package of SciPy that is needed.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    with needs("numbers", "giving each number to one picture"):
        import scipy.sparse.csgraph
    return scipy.sparse


def assign(pictures: Iterable[tuple[str, Candidates]], *, most_none: float = 1.0) -> dict[str, str]:
    """Give each number to at most one picture; see the top of this module.

    Args:
        pictures: their names and candidates; each is looked at only once.
        most_none: limit of what "none" counts, in (0, 1].

    Returns:
        The picture of each number that was given to one.
    """
    names, columns = list[str](), dict[str, int]()
    shares, indices, counts = array("d"), array("i"), array("i")
    for name, candidates in pictures:
        names.append(name)
        counts.append(len(candidates))
        for label, share in candidates:
            indices.append(columns.setdefault(label, len(columns)))
            shares.append(share)
    n, m = len(names), len(columns)
    p, owners = np.array(shares), np.repeat(np.arange(n), counts)
    none = np.clip(1 - np.bincount(owners, p, n), LEAST, most_none)
    better = p >= none[owners]  # the others are in no best assignment
    # Column m + i stands for "none" of picture i. It costs a step more, so that a tie is a number.
    costs = 1 + np.rint(-UNITS * np.log(np.concatenate([p[better], none])))
    costs[-n:] += 1
    rows = np.concatenate([owners[better], np.arange(n)])
    columns_of_costs = np.concatenate([np.array(indices)[better], np.arange(m, m + n)])
    sparse = solver()
    matrix = sparse.csr_array((costs, (rows, columns_of_costs)), shape=(n, m + n))
    _, given = sparse.csgraph.min_weight_full_bipartite_matching(matrix)
    labels = list(columns)
    return {labels[j]: names[i] for i, j in enumerate(given.tolist()) if j < m}


def settle(
    row: NumberRow, candidates: Candidates, *, given: dict[str, str], threshold: float
) -> NumberRow:
    """Return the row of a picture after its candidates were given to this and other pictures.

    Its confidence is the probability of its number among "none" and those candidates that no other
    picture has.

    Args:
        row: what was read from the picture alone.
        candidates: of the picture.
        given: the picture of each number; see `assign`.
        threshold: confidence below which a number is rejected.
    """
    name, first = name_of(row.path, row.page), candidates[0][0] if candidates else ""
    own = next((label for label, _ in candidates if given.get(label) == name), "")
    left = [c for c in candidates if given.get(c[0], name) == name]
    if len(left) == len(candidates) and own in (first, ""):
        return row
    left.sort(key=lambda candidate: candidate[0] != own)
    none = max(1 - sum(share for _, share in candidates), LEAST)
    total = none + sum(share for _, share in left)
    (_, share), (second, second_share), *_ = [*left, ("", 0.0), ("", 0.0)]
    is_read = own != "" and share / total >= threshold and share >= SEEN
    if row.status != "ok" and not is_read:
        return row
    reasons = [reason for reason in row.reason.split("; ") if reason not in ("", NOT_POSSIBLE)]
    if own != first and first in given:
        reasons.insert(0, f"{first} was given to {given[first]}")
    row = row._replace(confidence=round(share / total, 6), reason="; ".join(reasons))
    if not is_read:  # what it seems to show is its first number, as for all that are rejected
        row = row._replace(status="rejected", label=None, digits=None)
        return row._replace(second=first, second_confidence=round(candidates[0][1], 6))
    if own != first or row.status != "ok":  # the boxes are those of another number, or missing
        row = row._replace(status="ok", label=own, digits=None)
    return row._replace(
        second=second or None, second_confidence=round(second_share / total, 6) if second else None
    )


def dump(pictures: Iterable[tuple[str, Candidates]]) -> bytes:
    """Write pictures as `settled` reads them."""
    return json.dumps(list(pictures), separators=(",", ":")).encode()


def settled(plan: Plan) -> Iterator[tuple[Statistics, Part]]:
    """Give each number to at most one picture of a plan, and yield each shard's new rows.

    Memory holds the probabilities and the names of all pictures, and the rows of one shard.

    Raises:
        ScoringError: a part is damaged.
        OutputError: the rows cannot be written.
    """

    def pictures(shard: int) -> list[tuple[str, Candidates]]:
        digest = load_statistics(plan.statistics(shard)).candidates
        content = Part(plan.candidates(shard), digest).content()
        return cast("list[tuple[str, Candidates]]", json.loads(content))

    threshold = plan.command.threshold
    every = (picture for shard in plan.shards for picture in pictures(shard))
    given = assign(every, most_none=threshold)
    for shard in plan.shards:
        old = load_statistics(plan.statistics(shard))
        pairs = zip(plan.rows(Part(plan.part(shard), old.sha256)), pictures(shard), strict=True)
        rows = [
            settle(cast(NumberRow, row), candidates, given=given, threshold=threshold)
            for row, (_, candidates) in pairs
        ]
        with replacing(plan.part(shard, once=True), scratch=plan.folder) as stream:
            plan.format.write(stream, [rows])
            part = Part(plan.part(shard, once=True), sha256_of(stream))
        new = Statistics.of(rows, kept=0)
        yield replace(new, seconds=old.seconds, slowest=old.slowest), part
