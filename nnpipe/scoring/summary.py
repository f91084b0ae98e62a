"""The end of a run: the output is put together, and the summary of the run is written as JSON.

By these summaries, a later run knows what nnpipe wrote: see `load_finished` and `without_own`.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nnpipe import records
from nnpipe.drift import Counts, Drift, compare
from nnpipe.errors import ScoringError
from nnpipe.files import replacing, sha256_of, write_json
from nnpipe.places import Place
from nnpipe.runs import now
from nnpipe.scoring import outputs
from nnpipe.scoring.entries import DROPPED, LITTER, WAITING, Content, Entry, Skip, Source
from nnpipe.scoring.once import settled
from nnpipe.scoring.plan import MALFORMED, OURS, PLAN, Command, Plan, clear
from nnpipe.scoring.rows import SUFFIXES
from nnpipe.scoring.statistics import REASONS, Statistics, load_statistics

SUFFIX = ".summary.json"
"""What the name of a summary adds to that of its output."""

WRITTEN_BY_NNPIPE = "written by nnpipe"
"""The reason in the summary for files in a source that nnpipe has written."""

MATCHES = 0.9
"""How well a page fits its form, at least, to be of no interest."""

OUTPUTS = (*SUFFIXES, outputs.SUCCESS, SUFFIX)
"""What the names of outputs and of their summaries end with."""


@dataclass(frozen=True)
class Summary:
    """How a run went, as ``<out>.summary.json`` says it."""

    run: str  # its id
    model: str  # SHA-256 of the weights
    files: int  # rows of the output, each for a page or a field: scored, kept and gone
    scored: int  # rows of files that this run has read
    kept: int  # rows of the earlier run
    gone: int  # rows of the earlier run whose files are gone; the next three do not count them
    statuses: dict[str, int]  # rows per status
    labels: dict[str, int]  # rows per label; of numbers, rows per number of digits
    reasons: dict[str, int]  # rows per reason, the most frequent first
    skipped: dict[str, int]  # kind → number of things of that kind that have no row
    skipped_named: dict[str, str]  # path → kind, for the first of these
    slowest: list[dict[str, Any]]  # seconds, path
    alignments: list[dict[str, Any]]  # of the pages that fit the form worst: alignment, path
    largest: list[dict[str, Any]]  # width, height, path
    seconds: float  # since the run was last started or resumed
    rate: float  # rows per second since then
    process_seconds: float  # spent on the shards, by all processes, since the run was first started
    # Of the pictures that this run has read; None if there are none, or if the weights have no
    # reference.
    drift: Drift | None = None

    @property
    def complete(self) -> bool:
        """Whether every file was read as a digit, or as a number.

        Litter, nnpipe's own files, files that are gone and those that wait do not count.
        """
        uncounted = {DROPPED, LITTER, WAITING, WRITTEN_BY_NNPIPE}
        here = self.files - self.gone
        return self.statuses.get("ok", 0) == here and self.skipped.keys() <= uncounted

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, most: int = 5) -> list[str]:
        """Return the summary for people: rows, refusals with their reasons, and slow pictures."""
        counts = ", ".join(f"{n:,} {status}" for status, n in sorted(self.statuses.items()))
        if self.scored < self.files or not self.files:
            others = (("kept", self.kept), ("gone", self.gone))
            changes = [f"{self.scored:,} new", *(f"{n:,} {what}" for what, n in others if n)]
            counts += f"{'; ' if counts else ''}{', '.join(changes)}"
        labels = "  ".join(f"{label}: {n:,}" for label, n in self.labels.items())
        rows = "row" if self.files == 1 else "rows"
        lines = [f"{self.files:,} {rows} ({counts}), {self.rate:,.0f} a second"]
        lines += [f"  {labels}"] if labels else []
        lines += [f"  drift: {self.drift}"] if self.drift and self.drift.past else []
        lines += [f"  {n:,} × {reason}" for reason, n in list(self.reasons.items())[:most]]
        if (n := len(self.reasons) - most) > 0:
            lines.append(f"  and {n:,} other {'reason' if n == 1 else 'reasons'}")
        for kind, n in self.skipped.items():
            lines += [f"  {'waiting' if kind == WAITING else 'no row'}: {n:,} × {kind}"]
        named = list(self.skipped_named.items())[:most]
        lines += [f"    {path} ({kind})" for path, kind in named]
        lines += [f"    and {n:,} more"] if (n := sum(self.skipped.values()) - len(named)) else []
        slowest, largest = self.slowest[:1], self.largest[:1]
        worst = [page for page in self.alignments[:1] if page["alignment"] < MATCHES]
        lines += ["  slowest: {path} ({seconds:.2f} s)".format(**picture) for picture in slowest]
        lines += [
            "  worst match with the form: {path} ({alignment:.0%})".format(**a) for a in worst
        ]
        lines += ["  largest: {path} ({width} × {height})".format(**picture) for picture in largest]
        return lines


@dataclass(frozen=True)
class Finished:
    """A finished run, as the summary of its output records it."""

    plan: str
    command: Command
    files: int
    skipped: dict[str, int]
    skipped_named: dict[str, str]
    sha256: dict[str, str]  # of each file of the output, by name


def summary_file(out: Place) -> Place:
    """Return the file of an output's summary."""
    return out.with_name(out.name + SUFFIX)


def load_finished(out: Place) -> Finished | None:
    """Read which run wrote an output; return None if the output or its summary is missing.

    Raises:
        ScoringError: another file is in the place of the summary.
    """
    file = summary_file(out)
    try:
        content = records.parse(records.read_bytes(file, links=False).decode())
        if "sha256" not in content:  # version 1.0.0 recorded the size alone
            hashes = outputs.hashes_of(out)
            same = content["bytes"] == outputs.bytes_of(out)
            content["sha256"] = hashes if same else dict.fromkeys(hashes, "")
        content = {field.name: content[field.name] for field in fields(Finished)}
        finished: Finished = records.build(Finished, content, printable=False)
        return finished if out.exists() else None
    except FileNotFoundError:
        return None
    except MALFORMED as error:
        why = f"is not a summary that nnpipe wrote; {outputs.ELSEWHERE}"
        raise ScoringError(f"{file}: {why}") from error


def finish(plan: Plan, *, rows: int, seconds: float) -> Summary:
    """Put the output of a plan together when all its shards are done, and write the summary.

    Args:
        plan: the plan.
        rows: pages read since the run was last started or resumed.
        seconds: time since then.

    Raises:
        OutputError: the output or the summary cannot be written; the run can be resumed.
        ScoringError: the plan is damaged, or the output would replace a file that nnpipe did not
            write.
    """
    total, parts = Statistics(), []
    try:
        for one, part in (settled if plan.command.valid_once else _done)(plan):
            total.add(one)
            parts.append(part)
        if not parts:  # a table without rows
            with replacing(plan.part(0), scratch=plan.folder) as stream:
                plan.format.write(stream, ())
                parts.append(outputs.Part(plan.part(0), sha256_of(stream)))
        is_whole = total.files == sum(plan.row_counts)
    except ValueError:  # histograms of different lengths
        is_whole = False
    if not is_whole:
        raise ScoringError(f"{plan.state}: is damaged; move it away to start again")
    summary = Summary(
        run=plan.run,
        model=plan.command.weights,
        files=total.files,
        scored=total.files - total.kept,
        kept=total.kept - total.gone,
        gone=total.gone,
        statuses=dict(sorted(total.statuses.items())),
        labels=dict(sorted(total.labels.items(), key=lambda item: (len(item[0]), item[0]))),
        reasons=dict(total.reasons.most_common(REASONS)),
        skipped=plan.skipped,
        skipped_named=plan.skipped_named,
        slowest=[{"seconds": round(s, 4), "path": path} for s, path in total.slowest],
        alignments=[{"alignment": round(a, 3), "path": path} for a, path in total.alignments],
        largest=[{"width": w, "height": h, "path": path} for _, w, h, path in total.largest],
        seconds=round(seconds, 3),
        rate=round(rows * total.files / max(plan.files * seconds, 1e-9), 1),
        process_seconds=round(total.seconds, 3),
        drift=_drift(plan, total.histograms),
    )
    hashes: dict[str, str] = {}

    def announce(new: dict[str, str]) -> None:
        load_finished(plan.out)  # both may have been changed since the plan was made
        outputs.check_own(plan.out, plan.own, wide=plan.command.wide)
        hashes.update(new)
        other = outputs.wide_of(plan.out).name
        if other not in new and other in plan.own:  # an earlier run wrote it
            hashes[other] = plan.own[other][-1]
        own = {name: [*plan.own.get(name, []), new[name]] for name in new}
        replace(plan, own=plan.own | own).save()
        # While there is no summary, the output is not finished, whatever it holds.
        summary_file(plan.out).unlink(missing_ok=True)

    outputs.assemble(plan.out, parts, plan=plan, announce=announce)
    about = {
        "plan": plan.id,
        "finished": now(),
        "command": asdict(plan.command),
        "bytes": outputs.bytes_of(plan.out),
        "sha256": hashes,
    }
    write_json(summary_file(plan.out), about | asdict(summary), scratch=plan.folder)
    if plan.lasting:
        replace(plan, finished=True).save()
        clear(plan.state, but=plan.id)
    else:
        (plan.state / PLAN).unlink()  # the rest goes when the plan is closed
    return summary


def _done(plan: Plan) -> Iterator[tuple[Statistics, outputs.Part]]:
    """Yield the statistics and the rows of each shard."""
    for shard in plan.shards:
        one = load_statistics(plan.statistics(shard))
        yield one, outputs.Part(plan.part(shard), one.sha256)


def _drift(plan: Plan, histograms: Counts) -> Drift | None:
    """Compare the pictures that were read with the validation digits."""
    if not histograms:
        return None
    metadata = plan.classifier().weights.metadata
    if plan.command.threshold != (metadata.rejection_threshold or 0.0):
        # The reference counts rejections at the threshold of the weights, not at this one.
        histograms = {name: counts for name, counts in histograms.items() if name != "rejections"}
    return compare(metadata.reference or {}, histograms)


def without_own(source: Source, skip: Skip) -> Iterator[Entry]:
    """Yield the files of a source except those that nnpipe wrote, which are skipped."""
    tables: list[Entry] = []
    for entry in source.entries(skip):
        if re.search(rf"\.nnpipe/({OURS.pattern})$", entry.path):
            skip(entry.path, WRITTEN_BY_NNPIPE)
        elif entry.path.endswith(OUTPUTS):
            tables.append(entry)
        else:
            yield entry
    summaries = [entry for entry in tables if entry.path.endswith(SUFFIX)]
    contents = zip(summaries, source.reader.read(summaries), strict=True)
    written = {entry.path.removesuffix(SUFFIX) for entry, text in contents if _is_summary(text)}
    for entry in tables:
        folder, _, name = entry.path.rpartition("/")
        table = entry.path.removesuffix(SUFFIX)
        is_wide = re.sub(rf"{outputs.WIDE}(\.\w+)$", r"\1", table) in written
        if table in written or is_wide or (folder in written and outputs.is_part(name)):
            skip(entry.path, WRITTEN_BY_NNPIPE)
        else:
            yield entry


def _is_summary(content: Content) -> bool:
    with suppress(*MALFORMED, RecursionError):
        command = json.loads(content)["command"]  # type: ignore[arg-type]
        return bool(records.build(Command, command, printable=False))
    return False
