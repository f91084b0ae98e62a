"""Sources of pictures: folders, patterns, lists, archives and URLs."""

import glob
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nnpipe.errors import ScoringError
from nnpipe.places import Place, encode_path, in_one_line, is_url
from nnpipe.scoring import local
from nnpipe.scoring.entries import Entry, Skip, Source
from nnpipe.scoring.lists import PathList
from nnpipe.scoring.remote import Remote, remote


@contextmanager
def open_source(source: str, outputs: Sequence[Place] = ()) -> Iterator[Source]:
    """Find out what kind of source is meant, and keep it open while the block runs.

    Args:
        source: a folder; a pattern (``scans/*/*.png``, ``**`` for any folders); a text file of
            paths, one per line or each ended by NUL, or ``-`` for such a text on stdin; a .zip or
            .tar file; or a URL of a folder or pattern.
        outputs: the outputs of this run, which are not part of the source.

    Raises:
        ScoringError: the source does not exist, or is none of these.
    """
    if not source:
        raise ScoringError("the source has no name; expected a folder, a list, an archive or a URL")
    path, shown = Path(source), in_one_line(source)
    if source == "-":
        if sys.stdin is None:
            raise ScoringError("stdin: is closed; expected a list of paths")
        with tempfile.TemporaryFile() as copy:
            yield _listed(PathList("stdin", sys.stdin.buffer, copy=copy))
    elif is_url(source):
        yield remote(source, outputs)
    elif path.is_dir():
        yield local.folder(source, outputs)
    elif path.suffix.lower() in (".zip", ".tar") and path.is_file():
        yield remote(f"{path.suffix[1:].lower()}://::file://{path.resolve()}")
    elif path.is_file():
        with open(path, "rb") as stream:
            yield _listed(PathList(shown, stream))
    elif path.exists():
        why = "is a pipe, a socket or a device; to score what it lists, give - and redirect stdin"
        raise ScoringError(f"{shown}: {why}")
    elif glob.has_magic(source):
        yield local.pattern(source, outputs)
    else:
        raise ScoringError(f"{shown}: cannot be listed (there is no such file or folder)")


def _listed(paths: PathList) -> Source:
    """Return the files of a list; relative paths count from the working folder."""
    first = os.fsdecode(next(paths.paths(), b""))
    if not first:
        raise ScoringError(f"{paths.name}: is an empty list; expected one path per line")
    folder = os.getcwd()
    reader = Remote(first, "") if is_url(first) else local.Local(folder)

    def entries(skip: Skip) -> Iterator[Entry]:
        for path in paths.paths():
            if isinstance(reader, Remote):
                yield Entry(encode_path(path))
            else:
                yield from local.entry_of(path, os.path.join(os.fsencode(folder), path), skip=skip)

    return Source(f"a list ({paths.digest}) in {folder}", reader, entries, named=True)
