"""One shard: read its files, write its rows, and say how it went."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nnpipe import drift
from nnpipe.classifier import Classifier, measured
from nnpipe.errors import PictureError
from nnpipe.files import replacing, sha256, sha256_of, write_json
from nnpipe.preprocess import prepare_many
from nnpipe.processes import OnItem
from nnpipe.scoring.manifest import Known
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.rows import Row, to_row
from nnpipe.scoring.sinks import form
from nnpipe.scoring.sources import Content
from nnpipe.scoring.statistics import Statistics

BATCH = 1024
"""So many rows are made before they are written."""

GROUP = 32 * 2**20
"""Bytes of files that are in memory at the same time, but for a single larger one."""


def score_shard(
    plan: Plan,
    shard: int,
    classifier: Classifier,
    blamed: Mapping[int, str] | None = None,
    mark: OnItem = lambda number: None,
) -> None:
    """Write the rows of a shard's files into its part, and then its statistics.

    What goes wrong with one file ends up in its own row. Any process may do this, more than one at
    the same time and more than once: the part is always the same, and is there whole or not at all.

    Args:
        plan: what the shard is of.
        shard: its number.
        classifier: that of the plan.
        blamed: files that are not to be touched, by their number in the shard, and why.
        mark: called with the number of a file in the shard before any work on it, and with −1
            when it has been decoded.

    Raises:
        OutputError: the part cannot be written.
    """
    start = time.perf_counter()
    lines = plan.lines(shard)
    total = Statistics()

    def batches() -> Iterator[list[Row]]:
        for first in range(0, len(lines), BATCH):
            batch = range(first, min(first + BATCH, len(lines)))
            unknown = [number for number in batch if lines[number].row is None]
            made = iter(_score(plan, lines, unknown, classifier, blamed or {}, mark, total))
            rows = [lines[number].row or next(made) for number in batch]
            total.count(rows, kept=len(batch) - len(unknown))
            yield rows

    written = form(plan.out, escape_formulas=plan.command.escape_formulas)
    with replacing(plan.part(shard), "w+b", scratch=plan.folder) as stream:
        written.write(stream, batches())
        total.sha256 = sha256_of(stream)
    total.seconds = round(time.perf_counter() - start, 3)
    write_json(plan.statistics(shard), vars(total))


def try_file(plan: Plan, shard: int, number: int, classifier: Classifier, mark: OnItem) -> None:
    """Do all that `score_shard` does with one file, but write nothing."""
    _score(plan, plan.lines(shard), [number], classifier, {}, mark, Statistics())


def _score(
    plan: Plan,
    lines: Sequence[Known],
    numbers: Sequence[int],
    classifier: Classifier,
    blamed: Mapping[int, str],
    mark: OnItem,
    total: Statistics,
) -> Iterable[Row]:
    """The rows of some files of a shard."""
    paths = [lines[number].entry.path for number in numbers]
    digests: list[str | None] = []
    seconds = [0.0] * (len(numbers) + 1)  # of each file, and of what lies between
    current, since = -1, 0.0

    def contents() -> Iterator[Content]:
        found = plan.reader.read([lines[n].entry for n in numbers if n not in blamed])
        group: list[Content] = []
        size = 0
        for number in numbers:
            mark(number)
            content = PictureError(blamed[number]) if number in blamed else next(found)
            group.append(content)
            size += 0 if isinstance(content, PictureError) else len(content)
            if size > GROUP or number == numbers[-1]:
                yield from decoded(group)
                group, size = [], 0

    # One kind of work at a time: files, hashes and pictures in turn would take a tenth longer.
    def decoded(group: list[Content]) -> Iterator[Content]:
        digests.extend(None if isinstance(c, PictureError) else sha256(c) for c in group)
        yield from group

    def at(index: int) -> None:
        nonlocal since, current
        now = time.perf_counter()
        seconds[current] += now - since
        current, since = index, now
        mark(-1 if index < 0 else numbers[index])

    prepared = prepare_many(contents(), at=at)
    total.name_slowest(zip(seconds, paths, strict=False))
    readings = classifier.read_prepared(prepared)
    if reference := classifier.weights.metadata.reference:
        total.add_histograms(drift.count(measured(readings), reference))
    return map(to_row, paths, readings, digests)
