"""The shards of a plan: worker processes read the files, write the rows, and record how it went."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, groupby, repeat
from typing import TYPE_CHECKING, NamedTuple

from nnpipe import drift, preprocess
from nnpipe.classifier import Classifier, Reading, feature_values
from nnpipe.errors import PictureError, ProcessError, ScoringError
from nnpipe.files import replacing, sha256, sha256_of, write_json
from nnpipe.forms.description import Form
from nnpipe.numbers.constraints import Wanted
from nnpipe.places import in_one_line, place
from nnpipe.preprocess import Picture, Pixels, attempt
from nnpipe.processes import Job, OnItem, run
from nnpipe.scoring import crops, once
from nnpipe.scoring.entries import Content, Entry, Reader, name_of
from nnpipe.scoring.once import Candidates
from nnpipe.scoring.paging import page_of
from nnpipe.scoring.plan import Plan, open_again
from nnpipe.scoring.rows import EXCEL, AnyRow, to_row
from nnpipe.scoring.statistics import Statistics

if TYPE_CHECKING:  # takes OpenCV, which is loaded when it is needed
    from nnpipe.numbers.reading import Number

BATCH = 1024
"""Pages per batch of single digits."""

NUMBERS = 16
"""Pages per batch of numbers, whose pictures may have a thousand pieces each, and of forms."""

GROUP = 32 * 2**20
"""Bytes of files in memory at the same time, except for a single larger file."""


def run_shards(
    plan: Plan,
    shards: Sequence[int],
    *,
    workers: int,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> None:
    """Score shards in worker processes.

    If this is interrupted or fails, all workers end, and finished shards are kept.

    Args:
        plan: the plan of the shards.
        shards: their numbers.
        workers: number of processes; each computes on one core.
        on_rows: called repeatedly with the number of rows that are done.

    Raises:
        ScoringError: workers die again and again, for no reason that could be found.
        NnpipeError: the error that stopped a worker, such as a full disk.
    """
    if "memory://" in f"{plan.reader} {plan.out}":  # which no other process can see
        task = Task.of(plan)
        for number, shard in enumerate(shards, 1):
            score_shard(plan, shard, task=task)
            on_rows(plan.files_of(shards[:number]))
        return
    jobs = (Job((str(plan.state), plan.id, shard), size=plan.files_of([shard])) for shard in shards)
    seconds = plan.reader.seconds
    try:
        for _ in run(work, jobs, seconds=seconds, workers=workers, on_items=on_rows):
            pass
    except ProcessError as error:
        raise ScoringError(f"{plan.out}: {error}; what is done is kept") from None


def work(job: Job, on_item: OnItem) -> None:
    """Score a shard, or try one of its files; this is what a worker process does.

    Raises:
        ScoringError: the plan has gone.
        OutputError: the rows cannot be written.
    """
    state, plan_id, shard = job.content
    plan, task = _opened(state, plan_id)
    if job.alone is None:
        score_shard(plan, shard, task=task, blamed=job.blamed, on_item=on_item)
    else:
        entry = plan.lines(shard)[job.alone].entry
        _read(plan, {job.alone: entry}, task=task, blamed={}, on_item=on_item)


class Task(NamedTuple):
    """What a plan's pages are read with."""

    classifier: Classifier
    wanted: Wanted | None  # the numbers that are looked for; None: single digits, or a form
    form: Form | None

    @classmethod
    def of(cls, plan: Plan) -> "Task":
        """Load it from the plan's folder.

        Raises:
            ScoringError: a file of the plan is missing or damaged.
        """
        return cls(plan.classifier(), plan.wanted(), plan.form())


@lru_cache(maxsize=1)
def _opened(state: str, plan_id: str) -> tuple[Plan, Task]:
    plan = open_again(place(state), plan_id)
    return plan, Task.of(plan)


def score_shard(
    plan: Plan,
    shard: int,
    *,
    task: Task | None = None,
    blamed: Mapping[int, str] | None = None,
    on_item: OnItem = lambda number: None,
) -> None:
    """Write the rows of a shard's pages into its part, and then its statistics.

    An error of one page affects only its own rows. Any process may score a shard, even several at
    the same time, or again: the part is always the same, and is written whole or not at all.

    Args:
        plan: the plan of the shard.
        shard: its number.
        task: that of the plan; by default it is loaded.
        blamed: pages that are not to be touched, by their number in the shard, and why.
        on_item: called with the number of a page in the shard before any work on it, and with −1
            when it has been decoded.

    Raises:
        OutputError: the part cannot be written.
    """
    start = time.perf_counter()
    task = task or Task.of(plan)
    lines = plan.lines(shard)
    total = Statistics()
    pictures: list[tuple[str, Candidates]] = []

    def batches() -> Iterator[list[AnyRow]]:
        size = NUMBERS if task.wanted or task.form else BATCH
        for first in range(0, len(lines), size):
            batch = range(first, min(first + size, len(lines)))
            unread = {n: lines[n].entry for n in batch if not lines[n].rows}
            read, statistics = _read(plan, unread, task=task, blamed=blamed or {}, on_item=on_item)
            rows, kept = list[AnyRow](), 0
            for number in batch:
                if number in read:
                    rows += (row for row, _ in read[number])
                    pictures.extend(
                        (name_of(row.path, row.page), some) for row, some in read[number]
                    )
                else:
                    rows += lines[number].rows
                    kept += len(lines[number].rows)
            total.add(statistics)
            total.add(Statistics.of(rows, kept=kept))
            yield rows

    with replacing(plan.part(shard), scratch=plan.folder) as stream:
        plan.format.write(stream, batches())
        total.sha256 = sha256_of(stream)
    if plan.command.valid_once:
        with replacing(plan.candidates(shard), scratch=plan.folder) as stream:
            stream.write(once.dump(pictures))
            total.candidates = sha256_of(stream)
    total.seconds = round(time.perf_counter() - start, 3)
    write_json(plan.statistics(shard), vars(total))


class Answer(NamedTuple):
    """What was read from a page."""

    readings: Sequence["Reading | Number"]  # one, or one for each field of a form
    seconds: float  # that decoding it has taken
    crops: Sequence[Pixels] = ()  # of the fields
    alignment: float = 0.0  # how well the page fits the form; 0 without one, or if it does not


def _answer(
    contents: Iterator[Picture | PictureError], task: Task, *, on_item: OnItem
) -> tuple[list[Answer], drift.Counts]:
    """Read pages: their digits, their numbers, or the fields of a form; and count for `drift`."""
    classifier = task.classifier
    if task.form:
        return _answer_form(contents, task.form, classifier=classifier, on_item=on_item), {}
    if task.wanted:
        from nnpipe.numbers import ways

        separators = bool(task.wanted.separators)
        cut = ways.prepare_many(contents, separators=separators, on_item=on_item)
        numbers = classifier.read_numbers([page.result for page in cut], task.wanted)
        return [Answer([n], page.seconds) for n, page in zip(numbers, cut, strict=True)], {}
    timed = preprocess.prepare_many(contents, on_item=on_item)
    readings = classifier.read_prepared([page.result for page in timed])
    reference = classifier.weights.metadata.reference
    histograms = drift.count(feature_values(readings), reference) if reference else {}
    answers = [Answer([r], page.seconds) for r, page in zip(readings, timed, strict=True)]
    return answers, histograms


def _answer_form(
    contents: Iterator[Picture | PictureError],
    form: Form,
    *,
    classifier: Classifier,
    on_item: OnItem,
) -> list[Answer]:
    """Read the fields of a form on each page."""
    from nnpipe.forms.reading import read_page
    from nnpipe.numbers.reading import Number

    answers = []
    for number, page in enumerate(contents):
        on_item(number)
        start = time.perf_counter()
        result = (
            page
            if isinstance(page, PictureError)
            else attempt(read_page, page, form, classifier=classifier)
        )
        seconds = time.perf_counter() - start
        if isinstance(result, PictureError):
            error = Number("error", reason=in_one_line(result))
            answers.append(Answer([error] * len(form.fields), seconds))
        else:
            answers.append(Answer(result.numbers, seconds, result.crops, result.alignment))
        on_item(-1)
    return answers


def _read(
    plan: Plan,
    entries: Mapping[int, Entry],
    *,
    task: Task,
    blamed: Mapping[int, str],
    on_item: OnItem,
) -> tuple[dict[int, list[tuple[AnyRow, Candidates]]], Statistics]:
    """Make the rows of some pages, by their numbers in the shard; see `score_shard`.

    With each row come the numbers that it may show.
    """
    numbers = list(entries)
    digests: list[str | None] = []

    def contents() -> Iterator[Picture | PictureError]:
        """Yield the pages, and append the digests of their files.

        A group of files is read, then hashed, then yielded. Doing all of this file by file takes a
        tenth longer.
        """
        touched = [entries[number] for number in numbers if number not in blamed]
        files = zip(touched, _contents(plan.reader, touched), strict=True)
        group: list[Content] = []
        size = 0
        for number in numbers:
            on_item(number)
            content = PictureError(blamed[number]) if number in blamed else next(files)[1]
            if isinstance(content, bytes) and not (group and content is group[-1]):
                size += len(content)
            group.append(content)
            if size > GROUP or number == numbers[-1]:
                group_of = numbers[len(digests) : len(digests) + len(group)]
                digests.extend(_digests(group))
                yield from (page_of(entries[n], c) for n, c in zip(group_of, group, strict=True))
                group, size = [], 0

    def on_picture(index: int) -> None:
        on_item(-1 if index < 0 else numbers[index])

    answers, histograms = _answer(contents(), task, on_item=on_picture)
    statistics = Statistics(histograms=histograms)
    others = {"run": plan.run, "model": plan.command.weights}
    rows: dict[int, list[tuple[AnyRow, Candidates]]] = {}
    for number, answer, digest in zip(numbers, answers, digests, strict=True):
        entry = entries[number]
        name = name_of(entry.path, entry.page)
        named = zip(plan.fields or [""], answer.readings, strict=True)
        some = [to_row(entry, r, digest=digest, field=f, **others) for f, r in named]
        if plan.out.suffix == EXCEL:
            some = list(crops.added(some, answer.crops, entry=entry, reader=plan.reader))
        candidates = [getattr(reading, "candidates", ()) for reading in answer.readings]
        rows[number] = list(zip(some, candidates, strict=True))
        statistics.slowest.append((answer.seconds, name))
        if answer.alignment:
            statistics.alignments.append((answer.alignment, name))
    return rows, statistics


def _contents(reader: Reader, entries: Sequence[Entry]) -> Iterator[Content]:
    """Yield the content of each page's file; that of consecutive pages is read once."""
    files = groupby(entries, key=lambda entry: entry.path)
    pages = [list(some) for _, some in files]
    for content, some in zip(reader.read([some[0] for some in pages]), pages, strict=True):
        yield from repeat(content, len(some))


def _digests(group: Sequence[Content]) -> Iterator[str | None]:
    """Yield the SHA-256 of each content; None where there is none."""
    for _, some in groupby(group, key=id):
        first = next(some)
        digest = sha256(first) if isinstance(first, bytes) else None
        yield from (digest for _ in chain([first], some))
