"""The shards of a plan: worker processes read the files, write the rows, and record how it went."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nnpipe import drift
from nnpipe.classifier import Classifier, Reading, feature_values
from nnpipe.errors import PictureError, ProcessError, ScoringError
from nnpipe.files import replacing, sha256, sha256_of, write_json
from nnpipe.numbers.constraints import Wanted
from nnpipe.places import place
from nnpipe.preprocess import prepare_many
from nnpipe.processes import Job, OnItem, run
from nnpipe.scoring.entries import Content, Entry
from nnpipe.scoring.once import Candidates, dump
from nnpipe.scoring.plan import Plan, open_again
from nnpipe.scoring.rows import AnyRow, to_row
from nnpipe.scoring.statistics import Statistics

if TYPE_CHECKING:  # takes OpenCV, which is loaded when it is needed
    from nnpipe.numbers.reading import Number

BATCH = 1024
"""Rows per batch."""

NUMBERS = 16
"""Rows per batch of numbers, whose pictures may have a thousand pieces each."""

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
        classifier, wanted = plan.classifier(), plan.wanted()
        for number, shard in enumerate(shards, 1):
            score_shard(plan, shard, classifier=classifier, wanted=wanted)
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
    plan, reader = _opened(state, plan_id)
    if job.alone is None:
        score_shard(plan, shard, **reader, blamed=job.blamed, on_item=on_item)
    else:
        entry = plan.lines(shard)[job.alone].entry
        _read(plan, {job.alone: entry}, **reader, blamed={}, on_item=on_item)


@lru_cache(maxsize=1)
def _opened(state: str, plan_id: str) -> tuple[Plan, dict[str, Any]]:
    plan = open_again(place(state), plan_id)
    return plan, {"classifier": plan.classifier(), "wanted": plan.wanted()}


def score_shard(
    plan: Plan,
    shard: int,
    *,
    classifier: Classifier,
    wanted: Wanted | None = None,
    blamed: Mapping[int, str] | None = None,
    on_item: OnItem = lambda number: None,
) -> None:
    """Write the rows of a shard's files into its part, and then its statistics.

    An error of one file affects only its own row. Any process may score a shard, even several at
    the same time, or again: the part is always the same, and is written whole or not at all.

    Args:
        plan: the plan of the shard.
        shard: its number.
        classifier: that of the plan.
        wanted: the numbers that the plan looks for.
        blamed: files that are not to be touched, by their number in the shard, and why.
        on_item: called with the number of a file in the shard before any work on it, and with −1
            when it has been decoded.

    Raises:
        OutputError: the part cannot be written.
    """
    start = time.perf_counter()
    lines = plan.lines(shard)
    total = Statistics()
    pictures: list[tuple[str, Candidates]] = []

    def batches() -> Iterator[list[AnyRow]]:
        size = NUMBERS if wanted else BATCH
        for first in range(0, len(lines), size):
            batch = range(first, min(first + size, len(lines)))
            unread = {n: lines[n].entry for n in batch if lines[n].row is None}
            read, candidates, statistics = _read(
                plan,
                unread,
                classifier=classifier,
                wanted=wanted,
                blamed=blamed or {},
                on_item=on_item,
            )
            rows = [lines[number].row or read[number] for number in batch]
            pictures.extend(candidates)
            total.add(statistics)
            total.add(Statistics.of(rows, kept=len(batch) - len(unread)))
            yield rows

    with replacing(plan.part(shard), scratch=plan.folder) as stream:
        plan.form.write(stream, batches())
        total.sha256 = sha256_of(stream)
    if plan.command.valid_once:
        with replacing(plan.candidates(shard), scratch=plan.folder) as stream:
            stream.write(dump(pictures))
            total.candidates = sha256_of(stream)
    total.seconds = round(time.perf_counter() - start, 3)
    write_json(plan.statistics(shard), vars(total))


Answer = tuple[Sequence["Reading | Number"], list[float], drift.Counts]
"""What pictures show, the time that each has taken, and their histograms."""


def _answer(
    contents: Iterator[Content], classifier: Classifier, *, wanted: Wanted | None, on_item: OnItem
) -> Answer:
    """Read the digit of each picture, or its number."""
    if wanted:
        from nnpipe.numbers import ways

        cut = ways.prepare_many(contents, separators=bool(wanted.separators), on_item=on_item)
        numbers = classifier.read_numbers([picture.result for picture in cut], wanted)
        return numbers, [picture.seconds for picture in cut], {}
    timed = prepare_many(contents, on_item=on_item)
    readings = classifier.read_prepared([picture.result for picture in timed])
    reference = classifier.weights.metadata.reference
    histograms = drift.count(feature_values(readings), reference) if reference else {}
    return readings, [picture.seconds for picture in timed], histograms


def _read(
    plan: Plan,
    entries: Mapping[int, Entry],
    *,
    classifier: Classifier,
    wanted: Wanted | None,
    blamed: Mapping[int, str],
    on_item: OnItem,
) -> tuple[dict[int, AnyRow], list[tuple[str, Candidates]], Statistics]:
    """Make the rows of some files, by their numbers in the shard; see `score_shard`.

    Also return the numbers that each may show, in their order.
    """
    numbers = list(entries)
    digests: list[str | None] = []

    def contents() -> Iterator[Content]:
        """Yield the contents of the files, and append their digests.

        A group of files is read, then hashed, then yielded. Doing all of this file by file takes a
        tenth longer.
        """
        read = plan.reader.read([entries[number] for number in numbers if number not in blamed])
        group: list[Content] = []
        size = 0
        for number in numbers:
            on_item(number)
            content = PictureError(blamed[number]) if number in blamed else next(read)
            group.append(content)
            size += len(content) if isinstance(content, bytes) else 0
            if size > GROUP or number == numbers[-1]:
                digests.extend(sha256(c) if isinstance(c, bytes) else None for c in group)
                yield from group
                group, size = [], 0

    def on_picture(index: int) -> None:
        on_item(-1 if index < 0 else numbers[index])

    readings, seconds, histograms = _answer(
        contents(), classifier, wanted=wanted, on_item=on_picture
    )
    slowest = [(s, entry.path) for s, entry in zip(seconds, entries.values(), strict=True)]
    origin = {"run": plan.run, "model": plan.command.weights}
    rows = {
        number: to_row(entries[number].path, reading, digest=digest, **origin)
        for number, reading, digest in zip(numbers, readings, digests, strict=True)
    }
    candidates = [
        (entry.path, getattr(reading, "candidates", ()))
        for entry, reading in zip(entries.values(), readings, strict=True)
    ]
    return rows, candidates, Statistics(slowest=slowest, histograms=histograms)
