"""Outputs: checked before they are replaced, put together from parts of shards, read back."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from glob import has_magic
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from nnpipe.errors import ScoringError
from nnpipe.files import open_regular, replacing, sha256, sha256_of, size_of
from nnpipe.places import Place, RemotePath, in_one_line, is_url, place
from nnpipe.scoring import wide
from nnpipe.scoring.rows import FOLDER, AnyRow, format_of
from nnpipe.settings import ScoreRequest

if TYPE_CHECKING:  # imports this module
    from nnpipe.scoring.plan import Plan

SUCCESS = "_SUCCESS"
"""An empty file that marks a folder of Parquet parts as complete, as in Hadoop and Spark."""

WIDE = ".wide"
"""What stands before the suffix of a wide table."""

EMPTY_SHA256 = sha256(b"")
"""The SHA-256 of an empty file."""

ELSEWHERE = "move it away, or name another output"
"""What to do about a file that nnpipe does not overwrite."""

Announce = Callable[[dict[str, str]], None]
"""Called with the SHA-256 of each new file, by name, before any file is replaced."""


class Part(NamedTuple):
    """A file of a shard: its rows, or their candidates."""

    path: Place
    sha256: str

    def content(self) -> bytes:
        """Return the file's bytes.

        Raises:
            ScoringError: the file is missing, or is not what was written.
        """
        with suppress(OSError), open_regular(self.path, links=False) as stream:
            content = stream.read()
            if sha256(content) == self.sha256:
                return content
        raise ScoringError(f"{self.path}: is damaged; scoring again repairs it")


def output_of(request: ScoreRequest) -> Place:
    """Return the output of a request as a place, after checking that rows may be written there.

    Raises:
        ScoringError: they may not.
        MissingExtraError: a package is missing.
    """
    name = request.out
    if name == "-":
        raise ScoringError("-: rows cannot go to stdout; name a file")
    short = name.rstrip("/")
    out = place(short if is_url(short) or not is_url(name) else "")  # memory:// names nothing
    format_of(out, escape_formulas=request.escape_formulas)
    if not out.name:
        raise ScoringError(f"{name}: is no name for a file or a folder; add one")
    if isinstance(out, RemotePath):
        if has_magic(str(out)):  # fsspec would remove what it matches, too
            raise ScoringError(f"{name}: *, ? and [ are wildcards; use a name without them")
    else:
        out = out.resolve()
        if not is_url(request.source) and out == Path(request.source).resolve():
            raise ScoringError(
                f"{name}: is the source, so it cannot be the output; name another output"
            )
    if out.suffix != FOLDER and out.is_dir():
        raise ScoringError(f"{name}: is a folder; name a file, or a folder without a suffix")
    if out.suffix == FOLDER and out.exists() and not out.is_dir():
        raise ScoringError(f"{name}: is not a folder; name a file with a suffix, or a folder")
    return out


def wide_of(out: Place) -> Place:
    """Return the file of the wide table that is beside an output, such as ``tally.wide.csv``."""
    return out.with_name(f"{out.name.removesuffix(out.suffix)}{WIDE}{out.suffix}")


def assemble(out: Place, parts: Sequence[Part], *, plan: "Plan", announce: Announce) -> None:
    """Put an output together from the parts of its shards, in their order.

    Args:
        out: the output. A file appears under its name when it is complete; a folder is complete
            when `SUCCESS` is in it.
        parts: one for each shard.
        plan: that of the output.
        announce: see `Announce`.

    Raises:
        OutputError: it cannot be written.
        ScoringError: a part is damaged.
    """
    scratch = plan.folder
    if out.suffix != FOLDER:
        with replacing(out, scratch=scratch) as stream, ExitStack() as stack:
            plan.format.join(stream, (part.content() for part in parts))
            hashes = {out.name: sha256_of(stream)}
            if plan.command.wide:
                other = stack.enter_context(replacing(wide_of(out), scratch=scratch))
                rows = (row for part in parts for row in plan.rows(part))
                escape = plan.command.escape_formulas
                write_wide(other, rows, suffix=out.suffix, fields=plan.fields, escape=escape)
                hashes[wide_of(out).name] = sha256_of(other)
            announce(hashes)
        return
    named = {f"part-{number:05}.parquet": part for number, part in enumerate(parts)}
    for part in parts:
        part.content()  # raises before anything is replaced
    announce({name: part.sha256 for name, part in named.items()} | {SUCCESS: EMPTY_SHA256})
    (out / SUCCESS).unlink(missing_ok=True)
    for old in files_of(out):
        if old.name not in named:
            old.unlink()
    for name, part in named.items():
        with replacing(out / name, scratch=scratch) as stream:
            stream.write(part.content())
    with replacing(out / SUCCESS, scratch=scratch):
        pass


def write_wide(
    stream: IO[bytes],
    rows: Iterator[AnyRow],
    *,
    suffix: str,
    fields: Sequence[str],
    escape: bool,
) -> None:
    """Write a wide table in the format of an output."""
    if suffix == ".csv":
        wide.write_csv(stream, rows, fields=fields, escape=escape)
    elif suffix == ".jsonl":
        wide.write_json_lines(stream, rows, fields=fields)
    else:
        wide.write_parquet(stream, rows, fields=fields)


def is_part(name: str) -> bool:
    """Return True for the name of a file of a folder of parts."""
    return name == SUCCESS or bool(re.fullmatch(r"part-\d+\.parquet", name))


def files_of(out: Place, *, wide: bool = False) -> list[Place]:
    """Return the files of an output that are there, in the order of their names."""
    if out.suffix != FOLDER:
        return [file for file in (out, *([wide_of(out)] if wide else [])) if file.exists()]
    if not out.exists():
        return []
    return sorted((file for file in out.iterdir() if is_part(file.name)), key=str)


def bytes_of(out: Place) -> int:
    """Return the size of an output in bytes."""
    return sum(map(size_of, files_of(out)))


def hashes_of(out: Place, *, wide: bool = False) -> dict[str, str]:
    """Return the SHA-256 of each existing file of an output, by name.

    Raises:
        ScoringError: one cannot be read, for instance because it is a link.
    """
    hashes = {}
    for file in files_of(out, wide=wide):
        try:
            with open_regular(file, links=False) as stream:
                hashes[file.name] = sha256_of(stream)
        except OSError as error:
            why = error.strerror or error
            raise ScoringError(f"{file}: cannot be replaced ({why}); {ELSEWHERE}") from error
    return hashes


def check_own(
    out: Place, own: Mapping[str, Sequence[str]], *, wide: bool = False
) -> dict[str, str]:
    """Check that an output may be replaced: nnpipe wrote it, or it is empty.

    Args:
        out: the output.
        own: the SHA-256 of what nnpipe wrote to each of its files, by name.
        wide: whether a wide table is written beside it, or was.

    Returns:
        The SHA-256 of its files that are there, by name.

    Raises:
        ScoringError: a file was changed, or is not nnpipe's.
    """
    hashes = hashes_of(out, wide=wide or wide_of(out).name in own)
    for name, digest in hashes.items():
        if digest not in own.get(name, [EMPTY_SHA256]):
            file = out / name if out.suffix == FOLDER else out.with_name(name)
            why = "exists, and nnpipe has no record of writing it"
            if name in own:
                why = "was changed after nnpipe wrote it"
            raise ScoringError(f"{file}: {why}; {ELSEWHERE}")
    if out.suffix == FOLDER and not own and out.exists():
        others = (path.name for path in out.iterdir() if not is_part(path.name))
        for name in others:
            raise ScoringError(f"{out}: holds other files ({name}); name an empty folder")
    return hashes


def read_rows(out: Place, *, escape_formulas: bool = False) -> Iterator[AnyRow]:
    """Yield the rows of an output, in their order.

    Args:
        out: the output.
        escape_formulas: whether it was written with this option.

    Raises:
        ScoringError: it is missing or damaged.
    """
    files = [out] if out.suffix != FOLDER else [f for f in files_of(out) if f.suffix]
    try:
        for file in files:
            with open_regular(file) as stream:
                yield from format_of(out, escape_formulas=escape_formulas).read(stream)
    # A table that somebody has edited fails in as many ways as there are parsers.
    except Exception as error:
        raise ScoringError(
            f"{out}: is not a table that nnpipe wrote ({in_one_line(error)}); {ELSEWHERE}"
        ) from error
