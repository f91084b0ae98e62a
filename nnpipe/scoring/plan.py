"""The plan of a run, kept on disk: what is to be scored, in which shards, and what is done.

Beside an output ``scores.csv`` lies, while it is made, the folder ``scores.csv.nnpipe``:

    nnpipe-state.txt        the marker: nnpipe made this folder
    plan.json               which command this is, and where each shard begins in the manifest
    lock                    held by the process that scores
    <id>/manifest.jsonl     one line for each file, in the order of their paths
    <id>/model_weights.npz  what all of them are read with
    <id>/00000.csv          the rows of a shard; those of a folder's parts lie in that folder
    <id>/00000.json         how the shard went: once this is there, it is done

A *shard* is a range of the manifest. Any process that can reach the folder may do it. Whoever gives
the same command again goes on with the plan; when all is put together, the folder goes. Only files
with these names are removed, and only in a folder with the marker or a valid plan.
"""

import json
import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from glob import has_magic
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from nnpipe import files as disk
from nnpipe import records
from nnpipe.classifier import Classifier, champion
from nnpipe.errors import PictureError, ScoringError
from nnpipe.files import cannot_write, open_regular, replacing, sha256, sha256_of, write_json
from nnpipe.places import accessed, in_one_line, is_remote, is_url, place
from nnpipe.preprocess import PREPROCESSING_VERSION
from nnpipe.scoring import manifest, sinks
from nnpipe.scoring.manifest import Known
from nnpipe.scoring.rows import Row
from nnpipe.scoring.sinks import ELSEWHERE, EMPTY, FOLDER, form, is_part, read_rows
from nnpipe.scoring.sources import (
    LITTER,
    Entry,
    Local,
    Remote,
    Skip,
    Source,
    is_litter,
    open_source,
)
from nnpipe.scoring.statistics import load_statistics
from nnpipe.settings import ScoreRequest

log = logging.getLogger(__name__)

SHARD_FILES, SHARD_SIZE = 1024, 64 * 2**20
"""A shard has so many files, or so many bytes in all: that much is lost when a worker dies."""

FEW_FILES, FEW_SHARDS = 32, 16
"""It has fewer files, but not fewer than this, where there would be fewer shards than this: all
workers are to have some."""

MOST_SHARDS = 2000
"""It has more of both where there would be more shards than this."""

NAMED = 1000
"""So many of the things that get no row are named in the summary; all are counted."""

PLAN, MANIFEST, WEIGHTS = "plan.json", "manifest.jsonl", "model_weights.npz"
LOCK, MARKER = "lock", "nnpipe-state.txt"

MARK = b"nnpipe keeps the state of a scoring in this folder. Remove it to start again.\n"
"""What stands in the marker; its name is what counts."""

ID = "[0-9a-f]{8}"
TEMPORARY = r"\.nnpipe-[0-9a-f]{12}\.tmp"
STATE = re.compile(
    rf"{re.escape(PLAN)}|{LOCK}|{re.escape(MARKER)}|{TEMPORARY}"
    rf"|{ID}/({re.escape(MANIFEST)}|{re.escape(WEIGHTS)}|\d{{5,}}\.(csv|jsonl|parquet|json)|{TEMPORARY})?"
)
"""The paths of nnpipe's files and folders within a state folder."""

SUMMARY = ".summary.json"
"""What the name of a summary adds to that of its output."""

OUTPUTS = (".csv", ".jsonl", ".parquet", "_SUCCESS", SUMMARY)
"""What the names of outputs and of their summaries end with."""

MALFORMED = (ValueError, TypeError, KeyError, AttributeError)
"""What reading a plan or a summary raises that somebody has edited."""

OWN = "written by nnpipe"
"""The kind of the files in a source that nnpipe has written: they get no row."""


@dataclass(frozen=True)
class Command:
    """What a run is meant to do; with the same of it, the same output is meant."""

    source: str
    out: str
    weights: str  # SHA-256 of the file
    preprocessing: int
    threshold: float
    incremental: bool = False
    retry_errors: bool = False
    escape_formulas: bool = False

    def reads_as(self, other: "Command") -> bool:
        """Whether rows that the other has made are those that this one would make."""
        mine, others = (
            replace(command, incremental=False, retry_errors=False, escape_formulas=False)
            for command in (self, other)
        )
        return mine == others


@dataclass(frozen=True)
class Plan:
    """What is to be done; shards are numbered from 0."""

    state: Path
    out: Path
    id: str
    command: Command
    reader: Local | Remote
    starts: list[int]  # byte of the manifest at which each shard begins, and that after the last
    counts: list[int]  # files of each shard
    kept: int  # files whose row is taken from the output before
    lasting: bool  # whether it stays when all is done, for the next run to compare with
    skipped: dict[str, int]  # how many things are no files, per kind
    skipped_named: dict[str, str]  # the first of them, and their kinds
    finished: bool = False  # whether its output is whole, and it is kept for its manifest alone
    # SHA-256 of what may be replaced: what nnpipe wrote to each file of the output, by name.
    own: dict[str, list[str]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where all but the plan itself lies."""
        return self.state / self.id

    @property
    def shards(self) -> range:
        """The numbers of all shards."""
        return range(len(self.counts))

    @property
    def files(self) -> int:
        """How many files there are."""
        return sum(self.counts)

    def files_of(self, shards: Iterable[int]) -> int:
        """How many files some shards have."""
        return sum(self.counts[shard] for shard in shards)

    def part(self, shard: int) -> Path:
        """The file of a shard's rows."""
        return self.folder / f"{shard:05}{self.out.suffix or '.parquet'}"

    def statistics(self, shard: int) -> Path:
        """The file that says how a shard went; once it is there, the shard is done."""
        return self.folder / f"{shard:05}.json"

    def undone(self) -> list[int]:
        """The shards still to be done: those that are not there, or are damaged."""
        there = {path.name for path in self.folder.iterdir()}
        return [
            shard
            for shard in self.shards
            if self.statistics(shard).name not in there or not self._is_whole(shard)
        ]

    def _is_whole(self, shard: int) -> bool:
        """Whether a part is what was written."""
        with suppress(ScoringError, OSError):
            statistics = load_statistics(self.statistics(shard))
            with open_regular(self.part(shard), links=False) as part:
                whole = statistics.files == self.counts[shard]
                return whole and sha256_of(part) == statistics.sha256
        return False

    def lines(self, shard: int) -> list[Known]:
        """The files of a shard."""
        file: Any = self.folder / MANIFEST
        # Some file systems would fetch 50 MB ahead.
        options = {"cache_type": "none"} if is_remote(file) else {}
        start, end = self.starts[shard : shard + 2]
        try:
            with accessed(file), file.open("rb", **options) as stream:
                return manifest.read(stream, start, end, files=self.counts[shard])
        except (ValueError, TypeError) as error:
            why = f"is damaged ({in_one_line(error)}); remove {self.state} to begin again"
            raise ScoringError(f"{file}: {why}") from error

    def classifier(self) -> Classifier:
        """What reads the pictures."""
        file = self.folder / WEIGHTS
        with accessed(file), suppress(FileNotFoundError):
            content = records.read_bytes(file, links=False)
            if sha256(content) == self.command.weights:
                with disk.temporary_copy(content, ".npz") as copy:
                    return replace(Classifier.load(copy), threshold=self.command.threshold)
        raise ScoringError(f"{file}: is damaged; move {self.state} away to start again")

    def save(self) -> None:
        """Make this the plan of its output."""
        content = {
            name: value for name, value in vars(self).items() if name not in ("state", "out")
        }
        write_json(self.state / PLAN, content | {"command": asdict(self.command)})


def load_plan(state: Path) -> Plan | None:
    """Read the plan in a folder; None if there is none that this version can go on with."""
    out = state.with_name(state.name.removesuffix(".nnpipe"))
    with accessed(state), suppress(FileNotFoundError, *_malformed(state)):
        content = records.parse(records.read_bytes(state / PLAN, links=False).decode())
        reader, command = content.pop("reader"), _command(content.pop("command"))
        reader = records.build(list[str], reader, "reader", printable=False)
        kind = Local if len(reader) == len(Local._fields) else Remote
        content = records.build_fields(Plan, content, printable=False)
        plan = Plan(state=state, out=out, command=command, reader=kind(*reader), **content)
        if not re.fullmatch(ID, plan.id) or (not is_remote(state) and plan.folder.is_symlink()):
            return None
        # A manifest that is cut, or belongs to another plan, has another size.
        with open_regular(plan.folder / MANIFEST, links=False) as stream:
            size = stream.seek(0, os.SEEK_END)
        if len(plan.starts) == len(plan.counts) + 1 and plan.starts[-1] == size:
            return plan
    return None


def _command(content: Any) -> Command:
    # The path of a folder need not be UTF-8.
    command: Command = records.build(Command, content, "command", printable=False)
    return command


def _malformed(path: Path) -> tuple[type[Exception], ...]:
    """What reading a plan or a summary raises that is damaged; what a server answers is not."""
    return MALFORMED if is_remote(path) else (OSError, *MALFORMED)


def summary_file(out: Path) -> Path:
    """Where the summary of a finished run lies."""
    return out.with_name(out.name + SUMMARY)


class _Recorded(NamedTuple):
    """What a summary is read for, beside the command."""

    plan: str
    skipped: dict[str, int]
    skipped_named: dict[str, str]
    sha256: dict[str, str]  # of each file of the output, by name


def load_summary(out: Path) -> dict[str, Any] | None:
    """The summary of the run that wrote an output; None if one of the two is missing.

    Raises:
        ScoringError: another file lies in its place.
    """
    file = summary_file(out)
    try:
        content: dict[str, Any] = records.parse(records.read_bytes(file, links=False).decode())
        content["command"] = _command(content["command"])
        if "sha256" not in content:  # version 1.0.0 recorded the size alone
            hashes = sinks.hashes_of(out)
            same = content["bytes"] == sinks.size_of(out)
            content["sha256"] = hashes if same else dict.fromkeys(hashes, "")
        recorded = {name: content[name] for name in _Recorded.__annotations__}
        records.build_fields(_Recorded, recorded, printable=False)
        return content if out.exists() else None
    except FileNotFoundError:
        return None
    except _malformed(file) as error:
        raise ScoringError(f"{file}: is not a summary that nnpipe wrote; {ELSEWHERE}") from error


def check_own(out: Path, own: dict[str, list[str]]) -> dict[str, str]:
    """See that an output may be replaced: nnpipe wrote it, or it is empty.

    Args:
        out: the output.
        own: as `Plan.own`.

    Returns: the SHA-256 of its files that are there, by name.

    Raises:
        ScoringError: a file was changed, or is not nnpipe's.
    """
    hashes = sinks.hashes_of(out)
    for name, digest in hashes.items():
        file = out / name if out.suffix == FOLDER else out
        if digest not in own.get(name, [EMPTY]):
            how = "was changed after nnpipe wrote it"
            if name not in own:
                how = "exists, and nnpipe has no record of writing it"
            raise ScoringError(f"{file}: {how}; {ELSEWHERE}")
    if out.suffix == FOLDER and not own and out.exists():
        foreign = next((path.name for path in out.iterdir() if not is_part(path.name)), None)
        if foreign:
            raise ScoringError(f"{out}: holds other files ({foreign}); name an empty folder")
    return hashes


def clear(state: Path, *, but: tuple[str, ...] = ()) -> None:
    """Remove nnpipe's files from a state folder, except the marker and some by their paths."""
    keep = (MARKER, PLAN, LOCK, *but)
    disk.remove_files(state, lambda path: STATE.fullmatch(path) and path not in keep)


@contextmanager
def open_plan(request: ScoreRequest) -> Iterator[Plan]:
    """Resume the plan of a request, or make it, and keep others out; see `scoring.score`.

    Raises:
        ScoringError: the source cannot be listed or holds nothing, the output's form is not known,
            another process scores into it, it would replace a file that nnpipe did not write, or
            there is nothing to try again.
        OutputError: the plan cannot be written.
        WeightsError: the weights are missing or damaged.
        MissingExtraError: a package is missing.
    """
    source, out = request.source, request.out
    target = _target(source, out)
    form(target, escape_formulas=request.escape_formulas)
    state = target.with_name(f"{target.name}.nnpipe")
    weights = request.weights or champion()
    classifier = Classifier.load(weights, request.reject_rate)
    outputs = (target, state, summary_file(target))
    with accessed(target), open_source(source, but=outputs) as found, _locked(state, out):
        command = Command(
            source=found.identity,
            out=str(target),
            weights=sha256(weights.read_bytes()),
            preprocessing=PREPROCESSING_VERSION,
            threshold=classifier.threshold,
            incremental=request.incremental,
            retry_errors=request.retry_errors,
            escape_formulas=request.escape_formulas,
        )
        old, before = load_plan(state), load_summary(target)
        own = dict(old.own) if old else {}
        for name, digest in before["sha256"].items() if before else ():
            own[name] = [*own.get(name, []), digest]
        hashes = check_own(target, own)
        if before and before["sha256"] != hashes:  # some of its files are missing
            before = None
        made_it = old is not None and before is not None and before.get("plan") == old.id
        if old and not old.finished and not made_it and old.command == command:
            done = len(old.shards) - len(old.undone())
            log.info(
                "going on with what was begun: %s of %s shards are done", done, len(old.shards)
            )
            yield replace(old, own=own)
        else:
            earlier = None
            if _is_usable(made_it, before, target, command) and before:
                rows = partial(read_rows, target, escape_formulas=before["command"].escape_formulas)
                earlier = partial(_earlier, old if made_it else None, target, rows)
            listed = before if earlier and not request.incremental else None
            own = {name: [digest] for name, digest in hashes.items()}
            yield _make(state, target, command, found, earlier, weights.read_bytes(), listed, own)


def _target(source: str, out: str) -> Path:
    """The output as a place, if rows can be written there without harm."""
    if out == "-":
        raise ScoringError("-: rows cannot go to stdout; name a file")
    target = place(out.rstrip("/"))
    form(target)
    if not target.name:
        raise ScoringError(f"{out}: is no name for a file or a folder; add one")
    if not is_remote(target):
        target = target.resolve()
    if is_remote(target) and has_magic(str(target)):  # fsspec would remove what it matches, too
        raise ScoringError(f"{out}: *, ? and [ stand for other names; name it without them")
    if not is_remote(target) and not is_url(source) and target == Path(source).resolve():
        raise ScoringError(f"{out}: is what is to be scored; name another output")
    with accessed(target):
        if target.suffix != FOLDER and target.is_dir():
            raise ScoringError(f"{out}: is a folder; name a file, or a folder without a suffix")
        if target.suffix == FOLDER and target.exists() and not target.is_dir():
            raise ScoringError(f"{out}: is not a folder; name a file with a suffix, or a folder")
    return target


def _check_state(state: Path) -> None:
    """Raise a ScoringError if nnpipe did not make a state folder that is there."""
    linked = not is_remote(state) and state.is_symlink()
    if not linked and not state.exists():
        return
    try:
        names = {path.name for path in state.iterdir()}
    except (NotADirectoryError, PermissionError, FileNotFoundError):
        names = {state.name}
    unfinished = all(name == LOCK or re.fullmatch(TEMPORARY, name) for name in names)
    if LOCK in names and (state / LOCK).stat().st_size:  # nnpipe writes nothing into it
        unfinished = False
    if linked or not (unfinished or MARKER in names or load_plan(state)):
        raise ScoringError(f"{state}: was not made by nnpipe, which needs this name; {ELSEWHERE}")


@contextmanager
def _locked(state: Path, out: str) -> Iterator[None]:
    """Hold the right to score into an output; the system takes it back when this process ends.

    It keeps out others on this machine, and on a shared folder where that knows locks.
    """
    import fcntl  # which Windows has not, and the rest of nnpipe can do without

    _check_state(state)
    name = f"nnpipe-{os.getuid()}-{sha256(str(state).encode())[:16]}.lock"
    lock = disk.temporary_folder() / name if is_remote(state) else state / LOCK
    try:
        while True:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stream = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it before may have removed the file between our two steps.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream), lock.stat()):
                    break
            os.close(stream)
    except BlockingIOError:
        os.close(stream)
        raise ScoringError(
            f"{out}: another process is scoring into it; wait for it, or name another output"
        ) from None
    except OSError as error:
        raise cannot_write(Path(out), error) from error
    try:
        if not (state / MARKER).exists():
            with replacing(state / MARKER) as mark:
                mark.write(MARK)
        yield
    finally:
        if not (state / PLAN).exists():
            clear(state)
            with suppress(OSError):  # the marker stays for what somebody else put there
                if {path.name for path in state.iterdir()} <= {LOCK, MARKER}:
                    disk.remove_files(state, lambda path: path == MARKER)
            # The lock goes last: another process finds all of it or nothing.
            lock.unlink(missing_ok=True)
            with suppress(OSError):
                state.rmdir()
        os.close(stream)


def _is_usable(kept: bool, before: dict[str, Any] | None, out: Path, command: Command) -> bool:
    """Whether rows of the run before may be used again.

    Args:
        kept: whether its plan is there, and with it what the files were like.
        before: its summary, if it was finished.
        out: its output.
        command: what is to be done now.

    Raises:
        ScoringError: nothing else is to be done.
    """
    if not command.incremental and not command.retry_errors:
        return False
    if before is None:
        why = "there is no finished run before"
    elif not before["command"].reads_as(command):
        why = "the run before had another source, other weights, preprocessing or --reject-rate"
    elif command.incremental and not kept:
        why = "the run before was not incremental, so it is not known which files have changed"
    else:
        return True
    if not command.incremental:
        raise ScoringError(f"{out}: {why}; score it without --retry-errors first")
    log.info("every file is scored: %s", why)
    return False


def _earlier(old: Plan | None, out: Path, rows: Callable[[], Iterator[Row]]) -> Iterator[Known]:
    """The files and rows of a finished run; its plan, if kept, tells what the files were like."""
    if old is None:
        yield from (Known(Entry(row.path), row) for row in rows())
        return
    entries = (known.entry for shard in old.shards for known in old.lines(shard))
    for entry, row in zip_longest(entries, rows()):
        if entry is None or row is None or entry.path != row.path:
            raise ScoringError(f"{out}: does not fit the state of its run; {ELSEWHERE}")
        yield Known(entry, row)


def _make(
    state: Path,
    out: Path,
    command: Command,
    source: Source,
    earlier: Callable[[], Iterator[Known]] | None,
    weights: bytes,
    before: dict[str, Any] | None,
    own: dict[str, list[str]],
) -> Plan:
    """Write the manifest of a new plan, and then the plan, which takes the old one's place.

    Where files are not listed anew, ``before`` tells what the last listing has left out.
    """
    skipped, named = Counter[str](), dict[str, str]()
    if before:
        skipped, named = Counter(before["skipped"]), before["skipped_named"]

    def skip(path: str, why: str) -> None:
        why = LITTER if not source.named and is_litter(path) else why
        skipped[why] += 1
        if len(named) < NAMED:
            named[path] = why

    def usable(entry: Entry, before: Known) -> bool:
        row = before.row
        if row is None or (command.retry_errors and row.status == "error"):
            return False
        if command.incremental and row.sha256 is None and entry.size:  # nobody has seen what it is
            return False
        return not command.incremental or entry.stamp == before.entry.stamp != ""

    def wanted(entry: Entry) -> bool:
        if source.named or not is_litter(entry.path):
            return True
        skip(entry.path, LITTER)
        return False

    identity = secrets.token_hex(4)
    listing = _but_own(source, skip)
    if earlier and not command.incremental:
        listing = (known.entry for known in earlier())
    # Versions up to 1.0.0 have scored litter, so it is left out of their rows, too.
    with manifest.in_order(filter(wanted, listing)) as (files, size, entries):
        if not files:
            raise ScoringError(f"{in_one_line(source.identity)}: holds no files to score")
        lines = manifest.merge(entries, earlier() if earlier else iter(()), usable)
        with replacing(state / identity / MANIFEST) as stream:
            least = min(SHARD_FILES, max(FEW_FILES, files // FEW_SHARDS))
            written = manifest.write(
                stream,
                lines,
                max(least, 2 * files // MOST_SHARDS),
                max(SHARD_SIZE, 2 * size // MOST_SHARDS),
            )
    with replacing(state / identity / WEIGHTS) as stream:
        stream.write(weights)
    plan = Plan(
        state=state,
        out=out,
        id=identity,
        command=command,
        reader=source.reader,
        lasting=command.incremental or (earlier is not None and (state / PLAN).exists()),
        skipped=dict(skipped),
        skipped_named=named,
        own=own,
        **written._asdict(),
    )
    plan.save()
    clear(state, but=(f"{identity}/{MANIFEST}", f"{identity}/{WEIGHTS}"))
    return plan


def _but_own(source: Source, skip: Skip) -> Iterator[Entry]:
    """The files of a source except those that nnpipe wrote, which are skipped."""
    tables: list[Entry] = []
    for entry in source.entries(skip):
        if re.search(rf"\.nnpipe/({STATE.pattern})$", entry.path):
            skip(entry.path, OWN)
        elif entry.path.endswith(OUTPUTS):
            tables.append(entry)
        else:
            yield entry
    summaries = [entry for entry in tables if entry.path.endswith(SUMMARY)]
    contents = zip(summaries, source.reader.read(summaries), strict=True)
    outputs = {entry.path.removesuffix(SUMMARY) for entry, text in contents if _is_summary(text)}
    for entry in tables:
        folder, _, name = entry.path.rpartition("/")
        if entry.path.removesuffix(SUMMARY) in outputs or (folder in outputs and is_part(name)):
            skip(entry.path, OWN)
        else:
            yield entry


def _is_summary(content: bytes | PictureError) -> bool:
    with suppress(*MALFORMED, RecursionError):
        return bool(_command(json.loads(content)["command"]))  # type: ignore[arg-type]
    return False
