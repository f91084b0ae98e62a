"""The plan of a run, kept on disk: what is to be scored, in which shards, and what is done.

While an output ``scores.csv`` is made, the folder ``scores.csv.nnpipe`` is beside it:

    nnpipe-state.txt            the marker: nnpipe made this folder
    plan.json                   the command, and where each shard begins in the manifest
    lock                        held by the process that scores
    <id>/manifest.jsonl         one line for each page, in the order of paths and pages
    <id>/model_weights.npz      the weights that read all of them
    <id>/valid.txt              the numbers that exist, if a list of them was given
    <id>/form.json              the form, with its reference, if one was given
    <id>/00000.csv              the rows of a shard
    <id>/00000.candidates.json  the candidates of its pictures, if each number occurs only once
    <id>/00000.once.csv         its rows after each number was given to one picture
    <id>/00000.json             how the shard went: once this is there, the shard is done

A *shard* is a range of the manifest. Any process that can reach the folder may do it. This module
is what workers need; `planning` makes plans. Only files with the names above are removed, and only
in a folder with the marker or a valid plan.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from nnpipe import records
from nnpipe.classifier import Classifier
from nnpipe.errors import ScoringError
from nnpipe.files import (
    TEMPORARY,
    locked,
    read_range,
    remove_files,
    replacing,
    sha256,
    size_of,
    temporary_folder,
    write_json,
)
from nnpipe.forms.description import Form, parse_form
from nnpipe.numbers.constraints import Wanted, wanted
from nnpipe.places import Place, in_one_line
from nnpipe.scoring import manifest, rows
from nnpipe.scoring.entries import Reader
from nnpipe.scoring.local import Local
from nnpipe.scoring.manifest import Line
from nnpipe.scoring.outputs import ELSEWHERE, Part
from nnpipe.scoring.remote import Remote
from nnpipe.scoring.rows import AnyRow
from nnpipe.scoring.statistics import load_statistics

PLAN, LOCK, MARKER = "plan.json", "lock", "nnpipe-state.txt"
MANIFEST, WEIGHTS = "manifest.jsonl", "model_weights.npz"
VALID, FORM = "valid.txt", "form.json"
NEEDED = (MANIFEST, WEIGHTS, VALID, FORM)
"""The files of a plan that all shards need."""

ID = "[0-9a-f]{8}"
"""The id of a plan, as a regular expression."""

MARKER_TEXT = b"nnpipe keeps the state of a scoring in this folder. Remove it to start again.\n"
"""The content of the marker, for people; its name is what counts."""

_SHARD = rf"\d{{5,}}((\.once)?({'|'.join(map(re.escape, rows.SUFFIXES))})|(\.candidates)?\.json)"
OURS = re.compile(
    rf"{re.escape(PLAN)}|{LOCK}|{re.escape(MARKER)}|{TEMPORARY}"
    rf"|{ID}/({'|'.join(map(re.escape, NEEDED))}|{_SHARD}|{TEMPORARY})?"
)
"""The paths of nnpipe's files and folders within a state folder."""

MALFORMED = (OSError, ValueError, TypeError, LookupError, AttributeError)
"""What may be raised by reading a plan or a summary that is damaged or not nnpipe's."""

CHANGES = {
    "source": "another source ({} → {})",
    "weights": "the weights changed (SHA-256 {:.8}… → {:.8}…)",
    "preprocessing": "the preprocessing version changed ({} → {})",
    "numbers": "numbers are read in another way",
    "threshold": "the threshold changed ({:.4g} → {:.4g})",
    "digits": "the number of digits changed ({} → {})",
    "separators": "the separators changed ({!r} → {!r})",
    "valid": "the list of valid numbers changed (SHA-256 {!s:.8} → {!s:.8})",
    "valid_once": "the rule that each valid number occurs only once changed ({} → {})",
    "check": "the check digit changed ({} → {})",
    "between": "the range changed ({} → {})",
    "form": "the form changed (SHA-256 {!s:.8} → {!s:.8})",
}
"""What makes all rows differ from those of the run before: field of a command → the reason."""


@dataclass(frozen=True)
class Command:
    """What a run is to do. Equal commands make the same output."""

    source: str
    out: str
    weights: str  # SHA-256 of the file
    preprocessing: int
    threshold: float
    incremental: bool = False
    retry_errors: bool = False
    escape_formulas: bool = False
    prune: bool = False
    digits: str | None = None  # None: single digits are read; this and the next are of numbers
    separators: str = ""
    valid: str | None = None  # SHA-256 of the list, sorted
    check: str | None = None
    between: str | None = None
    valid_once: bool = False
    numbers: str = ""  # version of the reading of numbers
    form: str | None = None  # SHA-256
    wide: bool = False

    @property
    def kind(self) -> rows.Kind:
        """The kind of its rows."""
        return rows.Row if self.digits is None and self.form is None else rows.NumberRow

    def changes(self, new: "Command") -> list[str]:
        """Say why the command ``new`` would give files other rows; nothing if it would not."""
        pairs = ((getattr(self, name), getattr(new, name), why) for name, why in CHANGES.items())
        return [in_one_line(why.format(old, now)) for old, now, why in pairs if old != now]


@dataclass(frozen=True)
class Plan:
    """What is to be done; shards are numbered from 0."""

    state: Place
    out: Place
    id: str
    command: Command
    reader: Reader
    starts: list[int]  # offset in the manifest at which each shard begins, and the end of the last
    counts: list[int]  # pages of each shard
    row_counts: list[int]  # rows of each shard
    kept: int  # pages whose rows are taken from the output of an earlier run
    fields: list[str]  # names of the form's fields, in their order; empty without a form
    lasting: bool  # whether it is kept after the run, for the next run to compare files with
    skipped: dict[str, int]  # kind → number of things of that kind that get no row
    skipped_named: dict[str, str]  # path → kind, for the first of these
    finished: bool = False  # whether the output is complete; only the manifest is still needed
    # What may be replaced: for each file of the output, by name, the SHA-256 of everything that
    # nnpipe has written to it.
    own: dict[str, list[str]] = field(default_factory=dict)
    lost: bool = False  # whether its files went away, so that it is of no use to resume it
    run: str = ""  # id of the run: when it was planned, and the plan's id; empty before version 2

    @property
    def format(self) -> rows.Format:
        """The format of the parts and of the output."""
        escape, origin = self.command.escape_formulas, self.lasting and bool(self.run)
        kind = self.command.kind
        return rows.format_of(
            self.out,
            escape_formulas=escape,
            kind=kind,
            origin=origin,
            fields=self.fields,
            about={"source": self.command.source, "weights (SHA-256)": self.command.weights},
        )

    @property
    def folder(self) -> Place:
        """The folder that holds everything except the plan itself."""
        return self.state / self.id

    @property
    def shards(self) -> range:
        """The numbers of all shards."""
        return range(len(self.counts))

    @property
    def files(self) -> int:
        """The number of pages."""
        return sum(self.counts)

    def files_of(self, shards: Iterable[int]) -> int:
        """Return the number of pages of some shards."""
        return sum(self.counts[shard] for shard in shards)

    def part(self, shard: int, *, once: bool = False) -> Place:
        """Return the file of a shard's rows, before or after each number was given only once."""
        name = f"{shard:05}{'.once' if once else ''}{self.out.suffix or '.parquet'}"
        return self.folder / name

    def candidates(self, shard: int) -> Place:
        """Return the file of a shard's candidates; see `once`."""
        return self.folder / f"{shard:05}.candidates.json"

    def statistics(self, shard: int) -> Place:
        """Return the file that says how a shard went; once it is there, the shard is done."""
        return self.folder / f"{shard:05}.json"

    def undone(self) -> list[int]:
        """Return the shards that are still to be done: those that are missing or damaged."""
        names = {path.name for path in self.folder.iterdir()}
        return [
            shard
            for shard in self.shards
            if self.statistics(shard).name not in names or not self._is_whole(shard)
        ]

    def _is_whole(self, shard: int) -> bool:
        """Return True if a part is what was written."""
        with suppress(ScoringError):
            statistics = load_statistics(self.statistics(shard))
            Part(self.part(shard), statistics.sha256).content()
            if self.command.valid_once:
                Part(self.candidates(shard), statistics.candidates).content()
            return statistics.files == self.row_counts[shard]
        return False

    def rows(self, part: Part) -> Iterator[AnyRow]:
        """Yield the rows of a part.

        Raises:
            ScoringError: it is missing or damaged.
        """
        return self.format.read_part(part.content())

    def lines(self, shard: int) -> list[Line]:
        """Return the lines of a shard's pages in the manifest.

        Raises:
            ScoringError: the manifest is damaged.
        """
        file = self.folder / MANIFEST
        begin, end = self.starts[shard : shard + 2]
        try:
            content = read_range(file, begin, end=end)
            return manifest.parse(content, files=self.counts[shard], kind=self.command.kind)
        except (ValueError, TypeError) as error:
            why = f"is damaged ({in_one_line(error)}); remove {self.state} to begin again"
            raise ScoringError(f"{file}: {why}") from error

    def classifier(self) -> Classifier:
        """Load the classifier that reads the pictures of this plan.

        Raises:
            ScoringError: its weights are missing or damaged.
        """
        content = self._kept(WEIGHTS, self.command.weights)
        return replace(Classifier.load(content), threshold=self.command.threshold)

    def wanted(self) -> Wanted | None:
        """Return what numbers are looked for; None if single digits are read.

        Raises:
            ScoringError: the list of valid numbers is missing or damaged.
        """
        command = self.command
        if command.digits is None:
            return None
        valid = command.valid and self._kept(VALID, command.valid).decode().split()
        return wanted(
            command.digits,
            separators=command.separators,
            valid=valid or None,
            check=command.check,
            between=command.between,
        )

    def form(self) -> Form | None:
        """Return the form whose fields are read; None without one.

        Raises:
            ScoringError: it is missing or damaged.
        """
        digest = self.command.form
        return parse_form(self._kept(FORM, digest)) if digest else None

    def _kept(self, name: str, digest: str) -> bytes:
        """Read a file of the plan that all shards need."""
        file = self.folder / name
        with suppress(FileNotFoundError):
            content = records.read_bytes(file, links=False)
            if sha256(content) == digest:
                return content
        raise ScoringError(f"{file}: is damaged; move {self.state} away to start again")

    def save(self) -> None:
        """Make this the plan of its output."""
        content = vars(self) | {"command": asdict(self.command)}
        del content["state"], content["out"]
        write_json(self.state / PLAN, content)


def load_plan(state: Place) -> Plan | None:
    """Read the plan in a folder; return None if there is none that this version can resume."""
    out = state.with_name(state.name.removesuffix(".nnpipe"))
    with suppress(*MALFORMED):
        content = records.parse(records.read_bytes(state / PLAN, links=False).decode())
        # Paths need not be UTF-8.
        reader = records.build(list[str], content.pop("reader"), name="reader", printable=False)
        kind = Local if len(reader) == len(Local._fields) else Remote
        content = records.build_fields(Plan, content, printable=False)
        plan = Plan(state=state, out=out, reader=kind(*reader), **content)
        linked = isinstance(plan.folder, Path) and plan.folder.is_symlink()
        # A manifest that is cut, or belongs to another plan, has another size.
        is_whole = plan.starts[-1] == size_of(plan.folder / MANIFEST)
        if re.fullmatch(ID, plan.id) and not linked and is_whole:
            return plan if len(plan.starts) == len(plan.counts) + 1 else None
    return None


def open_again(state: Place, plan_id: str) -> Plan:
    """Read the plan in a folder, for a worker.

    Raises:
        ScoringError: it is not there, or another one has taken its place.
    """
    plan = load_plan(state)
    if plan is None or plan.id != plan_id:
        raise ScoringError(f"{state}: the plan is missing; can this machine reach the folder?")
    return plan


# --- the folder -----------------------------------------------------------------------------------


def clear(state: Place, *, but: str = "") -> None:
    """Remove nnpipe's files from a state folder.

    The marker, the plan and the lock stay, and so do the files `NEEDED` of the plan ``but``.
    """
    keep = (MARKER, PLAN, LOCK, *(f"{but}/{name}" for name in NEEDED))
    remove_files(state, lambda path: OURS.fullmatch(path) and path not in keep)


@contextmanager
def hold(state: Place, out: str) -> Iterator[None]:
    """Hold the lock of an output while the block runs. It is released when this process ends.

    It keeps out other processes on this machine, and those on other machines if the folder is
    shared and its file system supports locks.

    Raises:
        ScoringError: another process holds it, or the folder is not nnpipe's.
        OutputError: the folder cannot be written.
    """
    linked = isinstance(state, Path) and state.is_symlink()
    if linked or (state.exists() and not _is_ours(state)):
        raise ScoringError(f"{state}: was not made by nnpipe, which needs this name; {ELSEWHERE}")
    lock = state / LOCK
    if not isinstance(lock, Path):
        name = f"nnpipe-{os.getuid()}-{sha256(str(state).encode())[:16]}.lock"
        lock = temporary_folder() / name
    busy = f"{out}: another process is scoring into it; wait for it, or name another output"
    with locked(lock, busy=ScoringError(busy), output=Path(out)):
        try:
            if not (state / MARKER).exists():
                with replacing(state / MARKER) as marker:
                    marker.write(MARKER_TEXT)
            yield
        finally:
            if not (state / PLAN).exists():
                clear(state)
                with suppress(OSError):  # the marker stays for what somebody else put there
                    if {path.name for path in state.iterdir()} <= {LOCK, MARKER}:
                        remove_files(state, lambda path: path == MARKER)
                # The lock goes last, so no other process finds a half-removed folder unlocked.
                lock.unlink(missing_ok=True)
                if isinstance(state, Path):
                    with suppress(OSError):
                        state.rmdir()


def _is_ours(state: Place) -> bool:
    """Return True if nnpipe made a folder, or if there is no more in it than nnpipe begins with."""
    with suppress(OSError):
        names = {path.name for path in state.iterdir()}
        if MARKER in names or load_plan(state):
            return True
        if LOCK in names and size_of(state / LOCK):  # nnpipe writes nothing into it
            return False
        return all(name == LOCK or re.fullmatch(TEMPORARY, name) for name in names)
    return False
