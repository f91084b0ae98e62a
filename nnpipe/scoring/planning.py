"""Making a plan, or resuming one: checks of the output, the listing, and the rows to keep."""

import heapq
import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import NamedTuple

from nnpipe import records
from nnpipe.classifier import Classifier, file_of
from nnpipe.errors import LostError, ScoringError, SettingError, WeightsError
from nnpipe.files import replacing, sha256
from nnpipe.forms.description import READING as FORM_READING
from nnpipe.forms.description import parse_form
from nnpipe.forms.loading import load_form
from nnpipe.numbers.constraints import ANY, Wanted, wanted
from nnpipe.places import Place, in_one_line
from nnpipe.preprocess import PREPROCESSING_VERSION
from nnpipe.scoring import manifest, once, wide, workbook
from nnpipe.scoring.entries import DROPPED, LITTER, WAITING, WAITS, Entry, Source, is_litter
from nnpipe.scoring.manifest import Line, place_of
from nnpipe.scoring.outputs import ELSEWHERE, Part, check_own, output_of, read_rows, wide_of
from nnpipe.scoring.paging import paged
from nnpipe.scoring.plan import (
    FORM,
    MANIFEST,
    VALID,
    WEIGHTS,
    Command,
    Plan,
    clear,
    hold,
    load_plan,
)
from nnpipe.scoring.rows import EXCEL, FOLDER, AnyRow, Row
from nnpipe.scoring.sources import open_source
from nnpipe.scoring.statistics import load_statistics
from nnpipe.scoring.summary import Finished, load_finished, summary_file, without_own
from nnpipe.settings import NumberRequest, ScoreRequest, WeightsRequest

log = logging.getLogger(__name__)

SHARD_FILES, SHARD_SIZE = 1024, 64 * 2**20
"""Limits of a shard: its files, and the bytes of all of them. A worker that dies loses at most one
shard."""

FEW_FILES, FEW_SHARDS = 32, 16
"""If there are fewer shards than `FEW_SHARDS`, they get smaller, down to `FEW_FILES` files, so that
all workers have some."""

MOST_SHARDS = 2000
"""If there are more shards than this, they get larger."""

MOST_SKIPPED_NAMED = 1000
"""How many of the things that get no row are named in the summary; all are counted."""


@contextmanager
def open_plan(request: ScoreRequest) -> Iterator[Plan]:
    """Resume or make the plan of a request, and lock its output; see `scoring.score`.

    Raises:
        ScoringError: the source cannot be listed, or it holds no files and the run is not
            incremental; the output has an unknown format, another process is scoring into it, it
            would replace a file that nnpipe did not write, or there is nothing to try again.
        SettingError: ``prune`` is set without ``incremental``, ``valid_once`` without ``valid``,
            ``wide`` without ``form``, or the options for numbers do not fit each other, or have
            another form.
        FormError: the form is missing or wrong.
        OutputError: the plan cannot be written.
        WeightsError: the weights are missing or damaged.
        MissingExtraError: a package is missing.
    """
    if request.prune and not request.incremental:
        raise SettingError("prune is set without incremental; only incremental runs keep rows")
    if request.out.endswith(EXCEL) and (request.incremental or request.retry_errors):
        raise SettingError(
            f"{request.out}: a workbook is not read again, so its rows cannot be kept; score into "
            ".csv, .jsonl or .parquet"
        )
    numbers = _numbers(request)
    form, fields = _form(request)
    out = output_of(request)
    state = out.with_name(f"{out.name}.nnpipe")
    file = file_of(WeightsRequest.pick(vars(request)))
    content, classifier = _read_weights(file, request.reject_rate)
    needed, threshold, version = {WEIGHTS: content}, classifier.threshold, ""
    if numbers or form:
        from nnpipe.numbers import prior, reading  # takes OpenCV

        threshold, version = reading.threshold_of(numbers or ANY), prior.version()
    if form:
        version += f"-form-{FORM_READING}"
    if numbers and numbers.valid:
        needed[VALID] = "\n".join(numbers.valid.numbers).encode()
    if form:
        needed[FORM] = form
    outputs = (out, state, summary_file(out), wide_of(out))
    opened = open_source(request.source, outputs, settle=request.settle)
    with opened as source, hold(state, request.out):
        command = Command(
            source=source.identity,
            out=str(out),
            weights=sha256(content),
            preprocessing=PREPROCESSING_VERSION,
            numbers=version,
            threshold=threshold,
            incremental=request.incremental,
            retry_errors=request.retry_errors,
            escape_formulas=request.escape_formulas,
            prune=request.prune,
            digits=request.digits,
            separators=request.separators,
            valid=sha256(needed[VALID]) if VALID in needed else None,
            check=request.check,
            between=request.between,
            valid_once=request.valid_once,
            form=sha256(form) if form else None,
            wide=request.wide and out.suffix != EXCEL,
        )
        old, finished = load_plan(state), load_finished(out)
        if finished and (request.incremental or request.retry_errors):
            _check_kind(finished.command, command)
        own = dict(old.own) if old else {}
        for name, digest in finished.sha256.items() if finished else ():
            own[name] = [*own.get(name, []), digest]
        hashes = check_own(out, own, wide=command.wide)
        old_wide = wide_of(out).name
        if not command.wide and old_wide in hashes:
            log.info("%s: is of an earlier run; add wide to write it again", old_wide)
        if finished and _long(finished.sha256, out) != _long(hashes, out):
            finished = None  # some of its files are missing
        is_of_finished = old is not None and finished is not None and finished.plan == old.id
        unfinished = old if old and not (old.finished or is_of_finished) else None
        if unfinished and unfinished.command == command and not unfinished.lost:
            done = len(unfinished.shards) - len(unfinished.undone())
            log.info("resuming: %s of %s shards are done", done, len(unfinished.shards))
            plan = replace(unfinished, own=own)
        else:
            earlier = _interrupted(unfinished, finished, command=command) if unfinished else None
            plan = _make(
                command,
                source,
                state=state,
                out=out,
                needed=needed,
                fields=fields,
                earlier=earlier
                or _earlier(finished, old if is_of_finished else None, command=command),
                own={name: [digest] for name, digest in hashes.items()},
            )
        try:
            yield plan
        except LostError as error:
            if not request.incremental:
                raise
            replace(plan, lost=True).save()  # files may leave an inbox at any time
            raise LostError(str(error), advice="relist") from error


def _long(hashes: Mapping[str, str], out: Place) -> dict[str, str]:
    """Leave out the hash of the wide table, which an earlier run may have written."""
    return {name: digest for name, digest in hashes.items() if name != wide_of(out).name}


def _form(request: ScoreRequest) -> tuple[bytes | None, list[str]]:
    """Return the form of a request as `Plan` keeps it, and the names of its fields."""
    if request.wide and not request.form:
        raise SettingError("wide is set without form; its columns are the fields of the form")
    if not request.form:
        return None, []
    for name in ("digits", "valid", "check", "between", "separators", "valid_once"):
        if getattr(request, name):
            raise SettingError(f"{name} is set with form; set it for each field, in the form")
    if request.reject_rate is not None:
        raise SettingError("reject_rate is set with form; it is for single digits only")
    if request.wide and Path(request.out).suffix == FOLDER:
        raise SettingError("wide is set, and the output is a folder; name a file")
    content = load_form(request.form)
    return content, [field.name for field in parse_form(content).fields]


def _numbers(request: ScoreRequest) -> Wanted | None:
    """Return what numbers a request looks for; None if it reads single digits, or a form."""
    if request.form:
        return None
    if request.valid_once and request.valid is None:
        raise SettingError(
            "valid_once is set without valid, the numbers that exist", advice="valid"
        )
    if request.valid_once and request.separators:
        raise SettingError("separators are set with valid_once, which assigns digits alone")
    for name in ("incremental", "retry_errors"):
        if request.valid_once and getattr(request, name):
            raise SettingError(f"valid_once is set with {name}, but needs all pictures at once")
    options = NumberRequest.pick(vars(request)).options()
    if options is None:
        return None
    if request.reject_rate is not None:
        raise SettingError("reject_rate is set with digits; it is for single digits only")
    if request.valid_once:
        once.solver()  # it is missing before hours of work, not after them
    return wanted(**options)


def _check_kind(old: Command, new: Command) -> None:
    """Check that a table that is continued has rows of the same kind."""
    if old.kind is not new.kind:
        digits, numbers = "single digits", "numbers"
        has, gets = (digits, numbers) if old.kind is Row else (numbers, digits)
        raise ScoringError(f"{new.out}: holds {has}, so {gets} cannot be added; {ELSEWHERE}")


def _read_weights(file: Path, reject_rate: float | None) -> tuple[bytes, Classifier]:
    """Read a weights file only once, because a promotion may replace it at any time."""
    try:
        content = records.read_bytes(file)
        return content, Classifier.load(content, reject_rate)
    except (OSError, WeightsError):
        Classifier.load(file, reject_rate)  # raises an error that names the file
        raise


class _Earlier(NamedTuple):
    """A finished run whose rows may be kept."""

    finished: Finished
    # Its plan, if that was kept and its rows are still valid. The manifest has the stamps of the
    # files. Without stamps, only rows of files that are gone can be kept.
    plan: Plan | None

    @property
    def files(self) -> int:
        """The number of rows."""
        return self.finished.files

    def is_incremental(self, out: Place) -> bool:
        """Return True if an incremental run wrote the table; version 1 counts, too."""
        row = next(read_rows(out), None)
        return bool(row and row.model) or (self.plan is not None and self.plan.lasting)

    def lines(self, out: Place) -> Iterator[Line]:
        """Yield its files and rows."""
        command = self.finished.command
        rows = read_rows(out, escape_formulas=command.escape_formulas)
        rows = (row._replace(model=row.model or command.weights) for row in rows)
        if self.plan is None:
            yield from _by_page(rows)
            return
        plan = self.plan
        entries = (line.entry for shard in plan.shards for line in plan.lines(shard))
        for entry, line in zip_longest(entries, _by_page(rows)):
            if entry is None or line is None or place_of(Line(entry)) != place_of(line):
                raise ScoringError(f"{out}: does not fit the state of its run; {ELSEWHERE}")
            yield Line(entry, line.rows)


def _by_page(rows: Iterable[AnyRow]) -> Iterator[Line]:
    """Group the rows of each page."""
    for (path, page), some in groupby(rows, key=lambda row: (row.path, row.page)):
        yield Line(Entry(path, page=page), tuple(some))


class _Interrupted(NamedTuple):
    """An incremental run that was not finished, whose rows may be kept."""

    plan: Plan
    stamped: bool  # whether its rows are still valid, so that the stamps of the files count
    table: _Earlier | None  # the run before, whose table has rows of files that it did not read

    @property
    def files(self) -> int:
        """The number of files."""
        return self.plan.files

    def lines(self, out: Place) -> Iterator[Line]:
        """Yield the files that have a row: the one that it has read or kept, or an older one."""
        table = self.table.lines(out) if self.table else iter(())
        both = heapq.merge(self._lines(), table, key=place_of)
        yield from (next(same) for _, same in groupby(both, key=place_of))

    def _lines(self) -> Iterator[Line]:
        undone = set(self.plan.undone())
        for shard in self.plan.shards:
            lines = self.plan.lines(shard)
            if shard not in undone:
                digest = load_statistics(self.plan.statistics(shard)).sha256
                some = self.plan.rows(Part(self.plan.part(shard), digest))
                pages = zip(lines, _by_page(some), strict=True)
                lines = [Line(line.entry, page.rows) for line, page in pages]
            for entry, rows in lines:
                if rows:
                    known = entry if self.stamped else entry._replace(stamp="", size=0)
                    yield Line(known, rows)


def _interrupted(plan: Plan, finished: Finished | None, *, command: Command) -> _Interrupted | None:
    """Return a run that was not finished if another command may keep its rows."""
    old = plan.command
    same = old.source == command.source and old.kind is command.kind
    if not (command.incremental and plan.lasting and plan.run and same):
        return None
    if why := plan.command.changes(command):
        log.info("every file is scored: %s", ", ".join(why))
    table = (
        _Earlier(finished, None)
        if finished and finished.command.source == plan.command.source
        else None
    )
    return _Interrupted(plan, not why, table)


def _earlier(finished: Finished | None, plan: Plan | None, *, command: Command) -> _Earlier | None:
    """Return the earlier run if this one may keep its rows, if only those of files that are gone.

    Raises:
        ScoringError: there is no row to try again.
    """
    if not command.incremental and not command.retry_errors:
        return None
    why = finished.command.changes(command) if finished else ["there is no table of an earlier run"]
    if finished and command.incremental and not (plan or why):
        what = "left no records" if finished.command.incremental else "was not incremental"
        why = [f"the run before {what}, so it is not known which files have changed"]
    if finished and not why:
        return _Earlier(finished, plan)
    if not command.incremental:
        raise ScoringError(f"{command.out}: {', '.join(why)}", advice="retry_errors")
    log.info("every file is scored: %s", ", ".join(why))
    if finished and finished.command.source == command.source:
        return _Earlier(finished, None)
    return None


def _make(
    command: Command,
    source: Source,
    *,
    state: Place,
    out: Place,
    needed: Mapping[str, bytes],
    fields: list[str],
    earlier: _Earlier | _Interrupted | None,
    own: dict[str, list[str]],
) -> Plan:
    """Write the manifest of a new plan, and then the plan, which takes the old one's place.

    The files that all shards need are written as well.
    """
    plan_id = secrets.token_hex(4)
    # Files are listed again unless only errors are tried again.
    relist = command.incremental or not earlier
    of_table = isinstance(earlier, _Earlier) and earlier.is_incremental(out)
    lasting = command.incremental or of_table
    skipped, named = Counter[str](), dict[str, str]()
    if isinstance(earlier, _Earlier) and not relist:
        skipped, named = Counter(earlier.finished.skipped), earlier.finished.skipped_named

    def skip(path: str, why: str) -> None:
        why = LITTER if not source.named and is_litter(path) else why
        skipped[why] += 1
        if len(named) < MOST_SKIPPED_NAMED:
            named[path] = why

    def again() -> Iterator[Entry]:
        """Yield the pages of the earlier run, and all that unreadable files have by now."""
        for line in earlier.lines(out) if earlier else ():
            yield line.entry
            if line.entry.page == 1 and any(row.status == "error" for row in line.rows):
                unread.append(line.entry)
        yield from paged(source.reader, unread)

    unread, waiting = list[Entry](), set[str]()

    def entries() -> Iterator[Entry]:
        listed = paged(source.reader, without_own(source, skip)) if relist else again()
        for entry in listed:
            if entry.stamp == WAITS:
                waiting.add(entry.path)
            # Versions up to 1.0.0 have scored litter. It is left out of their rows as well.
            if source.named or not is_litter(entry.path):
                yield entry
            else:
                skip(entry.path, LITTER)

    def usable(entry: Entry, before: Line) -> bool:
        old, rows = before
        if not rows or not relist:
            return bool(rows) and all(row.gone or row.status != "error" for row in rows)
        if rows[0].sha256 is None and entry.size:  # it could not be read
            return False
        is_retried = command.retry_errors and any(row.status == "error" for row in rows)
        return entry.stamp == old.stamp != "" and not is_retried

    def lines(listed: Iterator[Entry]) -> Iterator[Line]:
        for entry, before in manifest.join(listed, earlier.lines(out) if earlier else iter(())):
            old, rows = before
            if entry and entry.stamp != WAITS:
                some = rows if usable(entry, before) else ()
                yield Line(entry, tuple(r._replace(gone=r.gone and not relist) for r in some))
                continue
            waits = old.path in waiting  # a file that waits is listed once, whatever its pages
            if entry:
                skip(entry.path, WAITING)
            elif command.prune and not waits:
                skip(old.path, DROPPED)
                continue
            elif is_litter(old.path) and not source.named:
                continue
            if rows:
                yield Line(old, tuple(row._replace(gone=not waits) for row in rows))

    with manifest.in_order(entries()) as listing:
        files = max(listing.files, earlier.files if earlier else 0)
        least = min(SHARD_FILES, max(FEW_FILES, files // FEW_SHARDS))
        with replacing(state / plan_id / MANIFEST) as stream:
            layout = manifest.write(
                stream,
                lines(listing.entries),
                files=max(least, 2 * files // MOST_SHARDS),
                size=max(SHARD_SIZE, 2 * listing.size // MOST_SHARDS),
                rows=len(fields) or 1,
            )
    if out.suffix == EXCEL:
        workbook.check_limits(sum(layout.row_counts), len(wide.columns(fields)))
    if not layout.counts and not lasting:
        why = f"is {WAITING}" if skipped[WAITING] else "holds no files to score"
        raise ScoringError(f"{in_one_line(source.identity)}: {why}")
    for name, content in needed.items():
        with replacing(state / plan_id / name) as stream:
            stream.write(content)
    plan = Plan(
        state=state,
        out=out,
        id=plan_id,
        command=command,
        reader=source.reader,
        lasting=lasting,
        fields=fields,
        skipped=dict(skipped),
        skipped_named=named,
        own=own,
        run=f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{plan_id}",
        **layout._asdict(),
    )
    plan.save()
    clear(state, but=plan_id)
    return plan
