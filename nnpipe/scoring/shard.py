"""One shard: read its files, write its rows, and say how it went."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from nnpipe.classifier import Classifier
from nnpipe.errors import PictureError
from nnpipe.files import replacing, sha256, write_json
from nnpipe.preprocess import prepare_many
from nnpipe.scoring.manifest import Known
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.rows import Row, to_row
from nnpipe.scoring.sinks import form
from nnpipe.scoring.sources import Content
from nnpipe.scoring.summary import Slow, Statistics, statistics_of

BATCH = 128
"""So many files are read together; of each, 28×28 pixels are kept."""

Tell = Callable[[int], None]


def score_shard(
    plan: Plan,
    shard: int,
    classifier: Classifier,
    blamed: Mapping[int, str] | None = None,
    mark: Tell = lambda number: None,
    on_rows: Tell = lambda rows: None,
) -> None:
    """Write the rows of a shard's files into its part, and then its statistics.

    What goes wrong with one file ends up in its own row. Any process may do this, more than one at
    the same time and more than once: the part is always the same, and is there whole or not at all.

    Args:
        plan: what the shard is of.
        shard: its number.
        classifier: that of the plan.
        blamed: files that are not to be touched, by their number in the shard, and why.
        mark: is told the number of each file before it is read, and −1 when none is being read.
        on_rows: is told after each batch how many rows are done.

    Raises:
        OutputError: the part cannot be written.
    """
    start = time.perf_counter()
    lines = plan.lines(shard)
    total = Statistics()

    def batches() -> Iterator[list[Row]]:
        for first in range(0, len(lines), BATCH):
            batch = range(first, min(first + BATCH, len(lines)))
            rows, times = _score(plan, lines, batch, classifier, blamed or {}, mark)
            total.add(statistics_of(rows, times))
            yield rows
            on_rows(total.files)

    with replacing(plan.part(shard)) as stream:
        form(plan.out.suffix).write(stream, batches())
    total.seconds = round(time.perf_counter() - start, 3)
    write_json(plan.statistics(shard), vars(total))


def _score(
    plan: Plan,
    lines: Sequence[Known],
    batch: range,
    classifier: Classifier,
    blamed: Mapping[int, str],
    mark: Tell,
) -> tuple[list[Row], list[Slow]]:
    """The rows of a batch of files, and how long each took that was read."""
    unknown = [number for number in batch if lines[number].row is None]
    hashes: list[str | None] = []
    times: list[Slow] = []

    def contents() -> Iterator[Content]:
        found = plan.reader.read([lines[n].entry for n in unknown if n not in blamed])
        for number in unknown:
            mark(number)
            start = time.perf_counter()
            content = PictureError(blamed[number]) if number in blamed else next(found)
            hashes.append(None if isinstance(content, PictureError) else sha256(content))
            yield content  # and go on when it has been prepared
            times.append(Slow(time.perf_counter() - start, lines[number].entry.path))
        mark(-1)

    readings = classifier.read_prepared(prepare_many(contents()))
    rows = map(to_row, (lines[n].entry.path for n in unknown), readings, hashes)
    return [lines[n].row or next(rows) for n in batch], times
