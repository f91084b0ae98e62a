"""Files that may have several pages, such as PDF and TIFF → an entry for each page."""

from collections.abc import Iterable, Iterator
from functools import partial

from nnpipe import pages
from nnpipe.errors import NnpipeError, PictureError
from nnpipe.preprocess import Picture, attempt
from nnpipe.processes import cores, over
from nnpipe.scoring.entries import WAITS, Content, Entry, Reader

TOGETHER = 16
"""Files whose pages a process counts before it says how many they have."""


def paged(reader: Reader, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield an entry for each page of each file.

    Only files with a suffix of `pages.MAYBE_MANY` are opened, in processes with limits of time and
    memory. A file whose pages cannot be counted has one entry, and its row says why.

    Args:
        reader: of the files.
        entries: one for each file, in any order.
    """
    several: list[Entry] = []
    for entry in entries:
        if may_have_many(entry) and entry.stamp != WAITS:
            several.append(entry)
        else:
            yield entry
    count = partial(_count, reader)
    if "memory://" in str(reader):  # which no other process can see
        counts: Iterable[int | NnpipeError] = map(count, several)
    else:
        counts = over(count, several, seconds=reader.seconds, workers=cores(), batch=TOGETHER)
    for entry, number in zip(several, counts, strict=True):
        last = number if isinstance(number, int) else 1
        yield from (entry._replace(page=page) for page in range(1, last + 1))


def may_have_many(entry: Entry) -> bool:
    """Return True for a file with the suffix of one that may have several pages."""
    return entry.path.lower().endswith(pages.MAYBE_MANY)


def page_of(entry: Entry, content: Content) -> Picture | PictureError:
    """Return the page of an entry, or why its file cannot be read."""
    if isinstance(content, PictureError) or not may_have_many(entry):
        return content
    return pages.Page(content, entry.page)


def _count(reader: Reader, entry: Entry) -> int:
    """Return how many pages a file has; 1 if it cannot be read."""
    (content,) = reader.read([entry])
    number = content if isinstance(content, PictureError) else attempt(pages.count, content)
    return number if isinstance(number, int) else 1
