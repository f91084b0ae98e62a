"""What happened to the pages of one shard, or of all shards."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nnpipe import records
from nnpipe.drift import Counts
from nnpipe.errors import ScoringError
from nnpipe.places import Place
from nnpipe.scoring.entries import name_of
from nnpipe.scoring.rows import AnyRow

MOST_NAMED = 5
"""How many of the slowest and of the largest pictures are named."""

REASONS = 100
"""How many different reasons are counted; every broken file may have its own."""


@dataclass
class Statistics:
    """What happened to the pages of a shard, or of all shards."""

    files: int = 0  # rows
    kept: int = 0  # rows of the earlier run
    gone: int = 0  # of these, rows of files that the source no longer has; counted nowhere else
    seconds: float = 0.0  # of all processes that scored, added up
    statuses: Counter[str] = field(default_factory=Counter)
    # Of rows that are "ok"; of numbers, how many digits they have.
    labels: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of all rows that have one
    slowest: list[tuple[float, str]] = field(default_factory=list)  # seconds, path
    # How well pages fit the form, in [0, 1], and their paths: the worst ones.
    alignments: list[tuple[float, str]] = field(default_factory=list)
    # Pixels, width, height, path.
    largest: list[tuple[int, int, int, str]] = field(default_factory=list)
    # Of all pictures that this run has read, even if an older nnpipe began it: versions that do
    # not count cannot load weights with a reference, so they cannot have scored a shard with them.
    histograms: Counts = field(default_factory=dict)
    sha256: str = ""  # of the shard's part
    candidates: str = ""  # SHA-256 of the shard's candidates, if the plan needs them

    @classmethod
    def of(cls, rows: Sequence[AnyRow], *, kept: int) -> "Statistics":
        """Count rows, of which ``kept`` were taken from the earlier run."""
        there = [row for row in rows if not row.gone]
        return cls(
            files=len(rows),
            kept=kept,
            gone=len(rows) - len(there),
            statuses=Counter(row.status for row in there),
            labels=Counter(_group(row.label) for row in there if row.label is not None),
            reasons=Counter(row.reason for row in there if row.reason),
            largest=[
                (row.width * row.height, row.width, row.height, name_of(row.path, row.page))
                for row in there
                if row.width and row.height
            ],
        )

    def add(self, other: "Statistics") -> None:
        """Add those of other files."""
        self.files += other.files
        self.kept += other.kept
        self.gone += other.gone
        self.seconds += other.seconds
        self.statuses.update(other.statuses)
        self.labels.update(other.labels)
        self.reasons.update(other.reasons)
        if len(self.reasons) > 10 * REASONS:
            self.reasons = Counter(dict(self.reasons.most_common(REASONS)))
        self.slowest = heapq.nlargest(MOST_NAMED, self.slowest + other.slowest)
        self.alignments = heapq.nsmallest(MOST_NAMED, self.alignments + other.alignments)
        self.largest = heapq.nlargest(MOST_NAMED, self.largest + other.largest)
        for name, new in other.histograms.items():
            old = self.histograms.get(name, [0] * len(new))
            self.histograms[name] = [a + b for a, b in zip(old, new, strict=True)]


def _group(label: int | str) -> str:
    """Return what rows are counted by: a digit, or how many digits a number has."""
    if isinstance(label, int):
        return str(label)
    digits = sum(map(str.isdigit, label))
    return f"{digits} digit{'s' if digits > 1 else ''}"


def load_statistics(path: Place) -> Statistics:
    """Read the statistics of a shard.

    Raises:
        ScoringError: the file is missing or damaged.
    """
    try:
        statistics: Statistics = records.load(Statistics, path, printable=False)
        return statistics
    except (OSError, ValueError) as error:
        why = "is missing or damaged; scoring again repairs it"
        raise ScoringError(f"{path}: {why}") from error
