"""How a run went: the statistics of its shards, and the summary of all, which is kept as JSON."""

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from nnpipe.drift import Counts, Drift, compare
from nnpipe.files import remove, write_json
from nnpipe.runs import now
from nnpipe.scoring.plan import MANIFEST, PLAN, WEIGHTS, Plan, summary_file
from nnpipe.scoring.rows import Row
from nnpipe.scoring.sinks import assemble, size_of
from nnpipe.scoring.sources import LITTER

NAMED = 5
"""So many of the slowest and of the largest pictures are named."""

REASONS = 100
"""So many different reasons are counted; every broken file may have one of its own."""


@dataclass
class Statistics:
    """What happened to the files of a shard, or of all shards."""

    files: int = 0
    kept: int = 0  # rows of the run before
    seconds: float = 0.0  # in the processes that scored, added up
    statuses: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)  # of rows that are "ok"
    reasons: Counter[str] = field(default_factory=Counter)  # of all rows that have one
    slowest: list[tuple[float, str]] = field(default_factory=list)  # seconds, path
    # Pixels, width, height, path.
    largest: list[tuple[int, int, int, str]] = field(default_factory=list)
    # Of what was read in this run and is no error. It is never of a part of that: weights with a
    # reference are only read, and so a plan with them is only begun, by versions that count.
    histograms: Counts = field(default_factory=dict)

    def count(self, rows: Sequence[Row], kept: int) -> None:
        """Take in rows, so many of which were kept from the run before."""
        self.files += len(rows)
        self.kept += kept
        self.statuses.update(row.status for row in rows)
        self.labels.update(str(row.label) for row in rows if row.label is not None)
        self._add_reasons(row.reason for row in rows if row.reason)
        self.name_largest(
            (row.width * row.height, row.width, row.height, row.path)
            for row in rows
            if row.width and row.height
        )

    def add(self, other: "Statistics") -> None:
        """Take in those of other files."""
        self.files += other.files
        self.kept += other.kept
        self.seconds += other.seconds
        self.statuses.update(other.statuses)
        self.labels.update(other.labels)
        self._add_reasons(other.reasons)
        self.name_slowest(other.slowest)
        self.name_largest(other.largest)
        self.add_histograms(other.histograms)

    def add_histograms(self, counts: Counts) -> None:
        """Take in how many pictures fall into each bin."""
        for name, new in counts.items():
            old = self.histograms.get(name, [0] * len(new))
            self.histograms[name] = [a + b for a, b in zip(old, new, strict=True)]

    def name_slowest(self, slowest: Iterable[tuple[float, str]]) -> None:
        """Take in seconds and paths of pictures."""
        self.slowest = heapq.nlargest(NAMED, chain(self.slowest, slowest))

    def name_largest(self, largest: Iterable[tuple[int, int, int, str]]) -> None:
        """Take in pixels, width, height and paths of pictures."""
        self.largest = heapq.nlargest(NAMED, chain(self.largest, largest))

    def _add_reasons(self, reasons: Iterable[str] | Mapping[str, int]) -> None:
        self.reasons.update(reasons)
        if len(self.reasons) > 10 * REASONS:
            self.reasons = Counter(dict(self.reasons.most_common(REASONS)))


def load_statistics(path: Path) -> Statistics:
    """Read what `write_json` wrote of a shard's statistics."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Statistics(
        **content | {k: Counter(content[k]) for k in ("statuses", "labels", "reasons")}
    )


@dataclass(frozen=True)
class Summary:
    """How a run went, as it stands in ``<out>.summary.json``."""

    files: int  # rows of the output
    scored: int  # of these, what this run has read
    statuses: dict[str, int]  # rows per status
    labels: dict[str, int]  # rows per label
    reasons: dict[str, int]  # rows per reason, the most frequent first
    skipped: dict[str, int]  # what is no file and has no row, per kind
    skipped_named: dict[str, str]  # the first of it
    slowest: list[dict[str, Any]]  # seconds, path
    largest: list[dict[str, Any]]  # width, height, path
    seconds: float  # since the command was last given
    rate: float  # rows a second since then
    process_seconds: float  # spent on the shards, by all processes, however often it was given
    # Of what this run has read; None if that is nothing, or if the weights have no reference.
    drift: Drift | None = None

    @property
    def complete(self) -> bool:
        """Whether every file was read as a digit; hidden files and litter do not count."""
        return self.statuses.get("ok", 0) == self.files and self.skipped.keys() <= {LITTER}

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, most: int = 5) -> list[str]:
        """The summary for people: what was read, what not and why, and what took long."""
        statuses = ", ".join(f"{n:,} {status}" for status, n in sorted(self.statuses.items()))
        kept = f", {self.files - self.scored:,} kept" if self.scored < self.files else ""
        labels = "  ".join(f"{label}: {n:,}" for label, n in self.labels.items())
        told = [f"{self.files:,} rows ({statuses}{kept}), {self.rate:,.0f} a second"]
        told += [f"  {labels}"] if labels else []
        if self.drift and self.drift.past:
            told.append(f"  drift: {self.drift}")
        told += [f"  {n:,} × {reason}" for reason, n in list(self.reasons.items())[:most]]
        told += [f"  no row: {n:,} × {kind}" for kind, n in self.skipped.items()]
        for path, kind in list(self.skipped_named.items())[:most]:
            told.append(f"    {path} ({kind})")
        if self.slowest:
            told.append("  slowest: {path} ({seconds:.2f} s)".format(**self.slowest[0]))
        if self.largest:
            told.append("  largest: {path} ({width} × {height})".format(**self.largest[0]))
        return told


def finish(plan: Plan, rows: int, seconds: float) -> Summary:
    """Put the output of a plan together when all its shards are done, and write the summary.

    Args:
        plan: the plan.
        rows: how many were made since the command was last given.
        seconds: how long ago that is.

    Raises:
        OutputError: one of the two cannot be written; then the same command goes on from here.
    """
    total = Statistics()
    for shard in plan.shards:
        total.add(load_statistics(plan.statistics(shard)))
    summary = Summary(
        files=total.files,
        scored=total.files - total.kept,
        statuses=dict(sorted(total.statuses.items())),
        labels=dict(sorted(total.labels.items())),
        reasons=dict(total.reasons.most_common(REASONS)),
        skipped=plan.skipped,
        skipped_named=plan.skipped_named,
        slowest=[{"seconds": round(s, 4), "path": path} for s, path in total.slowest],
        largest=[{"width": w, "height": h, "path": path} for _, w, h, path in total.largest],
        seconds=round(seconds, 3),
        rate=round(rows / max(seconds, 1e-9), 1),
        process_seconds=round(total.seconds, 3),
        drift=_drift(plan, total.histograms),
    )
    # While there is no summary, the output is not finished, whatever it holds.
    summary_file(plan.out).unlink(missing_ok=True)
    assemble(plan.out, [plan.part(shard) for shard in plan.shards], plan.folder)
    about = {
        "plan": plan.id,
        "finished": now(),
        "command": asdict(plan.command),
        "bytes": size_of(plan.out),
    }
    write_json(summary_file(plan.out), about | asdict(summary), plan.folder)
    if plan.lasting:
        replace(plan, finished=True).save()
        for path in plan.folder.iterdir():
            if path.name not in (MANIFEST, WEIGHTS):
                remove(path)
    else:
        (plan.state / PLAN).unlink()  # what else there is goes when the plan is closed
    return summary


def _drift(plan: Plan, histograms: Counts) -> Drift | None:
    """Compare with the validation digits what was read."""
    if not histograms:
        return None
    metadata = plan.classifier().model.metadata
    if plan.command.threshold != (metadata.rejection_threshold or 0.0):
        # Another threshold rejects other digits, of the validation digits, too.
        histograms = {name: counts for name, counts in histograms.items() if name != "rejections"}
    return compare(metadata.reference or {}, histograms)
