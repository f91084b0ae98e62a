"""Files that may have several pages, such as PDF and TIFF → an entry for each page."""

from collections.abc import Iterable, Iterator
from functools import partial

from nnpipe import pages
from nnpipe.errors import NnpipeError, PictureError
from nnpipe.kinds import kind_of
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
    for entry, counted in zip(several, counts, strict=True):
        last = counted if isinstance(counted, int) else 0
        yield from (entry._replace(page=n, pages=last) for n in range(1, max(last, 1) + 1))


def may_have_many(entry: Entry) -> bool:
    """Return True for a file with the suffix of one that may have several pages."""
    return entry.path.lower().endswith(pages.MAYBE_MANY)


def page_of(entry: Entry, content: Content) -> Picture | PictureError:
    """Return the page of an entry, or why it cannot be read.

    No page gets lost: it is an error if the file has other pages than were listed.
    """
    if isinstance(content, PictureError) or kind_of(content) not in pages.KINDS:
        return content
    try:
        number = pages.count(content)
    except PictureError as error:
        return error
    if not may_have_many(entry) and number > 1:
        suffixes = ", ".join(pages.MAYBE_MANY)
        return PictureError(f"the file has {number:,} pages, so its name must end with {suffixes}")
    if number != entry.pages and may_have_many(entry):
        return PictureError(f"the file has {number:,} pages, and had {entry.pages:,} when listed")
    return pages.Page(content, entry.page)


def _count(reader: Reader, entry: Entry) -> int:
    """Return how many pages a file has; 0 if it cannot be read."""
    (content,) = reader.read([entry])
    number = content if isinstance(content, PictureError) else attempt(pages.count, content)
    return number if isinstance(number, int) else 0
