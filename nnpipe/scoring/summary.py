"""The end of a run: the output is put together, and the summary of all is kept as JSON."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from nnpipe.drift import Counts, Drift, compare
from nnpipe.errors import ScoringError
from nnpipe.files import write_json
from nnpipe.runs import now
from nnpipe.scoring.plan import (
    MANIFEST,
    OWN,
    PLAN,
    WEIGHTS,
    Plan,
    check_own,
    clear,
    load_summary,
    summary_file,
)
from nnpipe.scoring.sinks import Part, assemble, size_of
from nnpipe.scoring.sources import LITTER
from nnpipe.scoring.statistics import REASONS, Statistics, load_statistics


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
        """Whether every file was read as a digit; litter and nnpipe's own files do not count."""
        return self.statuses.get("ok", 0) == self.files and self.skipped.keys() <= {LITTER, OWN}

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


def finish(plan: Plan, *, rows: int, seconds: float) -> Summary:
    """Put the output of a plan together when all its shards are done, and write the summary.

    Args:
        plan: the plan.
        rows: how many were made since the command was last given.
        seconds: how long ago that is.

    Raises:
        OutputError: one of the two cannot be written; then the same command goes on from here.
        ScoringError: what was done is damaged, or the output would replace a file of somebody's.
    """
    total, parts = Statistics(), []
    try:
        for shard in plan.shards:
            one = load_statistics(plan.statistics(shard))
            total.add(one)
            parts.append(Part(plan.part(shard), one.sha256))
        whole = total.files == plan.files
    except ValueError:  # histograms of different lengths
        whole = False
    if not whole:
        raise ScoringError(f"{plan.state}: is damaged; move it away to start again")
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
    hashes: dict[str, str] = {}

    def announce(new: dict[str, str]) -> None:
        load_summary(plan.out)  # both may have been changed since the plan was made
        check_own(plan.out, plan.own)
        hashes.update(new)
        own = {name: [*plan.own.get(name, []), new[name]] for name in new}
        replace(plan, own=plan.own | own).save()
        # While there is no summary, the output is not finished, whatever it holds.
        summary_file(plan.out).unlink(missing_ok=True)

    assemble(plan.out, parts, plan.folder, announce)
    about = {
        "plan": plan.id,
        "finished": now(),
        "command": asdict(plan.command),
        "bytes": size_of(plan.out),
        "sha256": hashes,
    }
    write_json(summary_file(plan.out), about | asdict(summary), plan.folder)
    if plan.lasting:
        replace(plan, finished=True).save()
        clear(plan.state, but=(f"{plan.id}/{MANIFEST}", f"{plan.id}/{WEIGHTS}"))
    else:
        (plan.state / PLAN).unlink()  # what else there is goes when the plan is closed
    return summary


def _drift(plan: Plan, histograms: Counts) -> Drift | None:
    """Compare with the validation digits what was read."""
    if not histograms:
        return None
    metadata = plan.classifier().weights.metadata
    if plan.command.threshold != (metadata.rejection_threshold or 0.0):
        # Another threshold rejects other digits, of the validation digits, too.
        histograms = {name: counts for name, counts in histograms.items() if name != "rejections"}
    return compare(metadata.reference or {}, histograms)
