"""One shard: read its files, write its rows, and record how it went."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from nnpipe import drift
from nnpipe.classifier import Classifier, feature_values
from nnpipe.errors import PictureError
from nnpipe.files import replacing, sha256, sha256_of, write_json
from nnpipe.preprocess import prepare_many
from nnpipe.processes import OnItem
from nnpipe.scoring.entries import Content
from nnpipe.scoring.forms import form
from nnpipe.scoring.manifest import Line
from nnpipe.scoring.plan import Plan
from nnpipe.scoring.rows import Row, to_row
from nnpipe.scoring.statistics import Statistics

BATCH = 1024
"""Rows per batch."""

GROUP = 32 * 2**20
"""Bytes of files in memory at the same time, except for a single larger file."""


def score_shard(
    plan: Plan,
    shard: int,
    *,
    classifier: Classifier,
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
        blamed: files that are not to be touched, by their number in the shard, and why.
        on_item: called with the number of a file in the shard before any work on it, and with −1
            when it has been decoded.

    Raises:
        OutputError: the part cannot be written.
    """
    start = time.perf_counter()
    lines = plan.lines(shard)
    total = Statistics()
    reader = _Reader(plan, lines, classifier, blamed or {}, on_item, total)

    def batches() -> Iterator[list[Row]]:
        for first in range(0, len(lines), BATCH):
            batch = range(first, min(first + BATCH, len(lines)))
            unread = [number for number in batch if lines[number].row is None]
            read = iter(reader.rows(unread))
            rows = [lines[number].row or next(read) for number in batch]
            total.add(Statistics.of(rows, kept=len(batch) - len(unread)))
            yield rows

    out_form = form(plan.out, escape_formulas=plan.command.escape_formulas)
    with replacing(plan.part(shard), scratch=plan.folder) as stream:
        out_form.write(stream, batches())
        total.sha256 = sha256_of(stream)
    total.seconds = round(time.perf_counter() - start, 3)
    write_json(plan.statistics(shard), vars(total))


def try_file(
    plan: Plan, shard: int, *, number: int, classifier: Classifier, on_item: OnItem
) -> None:
    """Do all that `score_shard` does with one file, but write nothing."""
    _Reader(plan, plan.lines(shard), classifier, {}, on_item, Statistics()).rows([number])


class _Reader(NamedTuple):
    """Makes the rows of a shard's files."""

    plan: Plan
    lines: Sequence[Line]
    classifier: Classifier
    blamed: Mapping[int, str]
    on_item: OnItem
    total: Statistics

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """Read some files, by their numbers in the shard."""
        digests: list[str | None] = []
        timed = prepare_many(
            self._contents(numbers, digests),
            on_item=lambda index: self.on_item(-1 if index < 0 else numbers[index]),
        )
        paths = [self.lines[number].entry.path for number in numbers]
        readings = self.classifier.read_prepared([picture.result for picture in timed])
        reference = self.classifier.weights.metadata.reference
        histograms = drift.count(feature_values(readings), reference) if reference else {}
        slowest = [(picture.seconds, path) for picture, path in zip(timed, paths, strict=True)]
        self.total.add(Statistics(slowest=slowest, histograms=histograms))
        return [
            to_row(path, reading, digest=digest)
            for path, reading, digest in zip(paths, readings, digests, strict=True)
        ]

    def _contents(self, numbers: Sequence[int], digests: list[str | None]) -> Iterator[Content]:
        """Yield the contents of files, and append their digests.

        A group of files is read, then hashed, then yielded. Doing all of this file by file takes a
        tenth longer.
        """
        entries = [self.lines[number].entry for number in numbers if number not in self.blamed]
        contents = self.plan.reader.read(entries)
        group: list[Content] = []
        size = 0
        for number in numbers:
            self.on_item(number)
            blame = self.blamed.get(number)
            group.append(PictureError(blame) if blame else next(contents))
            size += len(group[-1]) if isinstance(group[-1], bytes) else 0
            if size > GROUP or number == numbers[-1]:
                digests += (sha256(c) if isinstance(c, bytes) else None for c in group)
                yield from group
                group, size = [], 0
