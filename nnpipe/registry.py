"""Candidates and the champion: how one takes its place, and how a former one comes back.

weights/model_weights.npz      the champion: what predictions read
        pytorch_model.pth      its companions: the PyTorch model that it was exported from,
        training.json          and its record
        runs/<run>/            candidates, with files of the same names
        former/0002-<run>/     each champion there was, the present one too, and promotion.json
        former/champion.json   the number of the champion, and of the one before
        former/.lock           held by who changes any of these

All that a change needs is first written below ``former``. Then files are renamed, and
``model_weights.npz`` last: that step makes the champion. A process that dies before it leaves the
old champion, with companions that may be the new one's; whoever holds the lock next mends them.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nnpipe import records, runs, weights
from nnpipe.classifier import champion as shipped_champion
from nnpipe.errors import NnpipeError, PromotionError, WeightsError
from nnpipe.files import cannot_write, replacing, sha256, write_json
from nnpipe.places import in_one_line
from nnpipe.rules import Decision, Rule, judge
from nnpipe.runs import MODEL, RECORD, WEIGHTS

COMPANIONS = (RECORD, MODEL)
FORMER, INSTALLED, PROMOTION = "former", "champion.json", "promotion.json"
SCRATCH, LOCK = ".new", ".lock"
ARCHIVE = re.compile(r"([0-9]{4,})-.+", re.DOTALL)
"""Name of a former champion's folder: its number and the name of its run."""

UNFINISHED = re.compile(r"\.nnpipe-[0-9a-f]+\.tmp")
"""Name of a file that `files.replacing` has not finished."""

TOLD = ("dataset", "recipe", "seed", "validation_accuracy", "test_accuracy", "created")
"""What `models` tells of each, as its weights file has it."""


@dataclass(frozen=True)
class Promotion:
    """What became of a candidate."""

    decision: Decision
    promoted: bool
    name: str | None  # of its folder below weights/former; None: it was refused
    sha256: str  # of its weights


@dataclass(frozen=True)
class Former:
    """One that is or was champion: what ``promotion.json`` holds."""

    number: int
    name: str  # of its folder
    when: str  # it was archived, ISO 8601, UTC
    sha256: str  # of its weights
    companions: dict[str, str]  # those it has → SHA-256
    run: Path | None  # the folder it was promoted from; None: nnpipe did not promote it
    replaced: int | None  # the number of its predecessor; None: it is the first
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Model:
    """A line of ``nnpipe models list``; what a damaged one says of itself is None."""

    name: str  # of its folder
    state: str  # "champion", "former", "candidate", "damaged"
    dataset: str | None = None
    recipe: str | None = None
    seed: int | None = None
    validation_accuracy: float | None = None  # in [0, 1]
    test_accuracy: float | None = None  # in [0, 1]
    created: str | None = None  # ISO 8601, UTC
    reason: str = ""  # how it is damaged


def default_root() -> Path:
    """The ``weights`` folder of the repository.

    Raises:
        PromotionError: nnpipe is installed, and its champion belongs to the package.
    """
    path = shipped_champion()
    if path.parent == Path(__file__).parent:
        raise PromotionError(
            f"{path}: is part of the installed nnpipe and is not replaced; name a folder of "
            "your own with --weights-dir"
        )
    return path.parent


def promote(run: Path, root: Path, data_dir: Path) -> Promotion:
    """Make a finished run the champion if the rules allow it; see `rules.judge`.

    Others who want the same wait, and are judged against what this one leaves.

    Args:
        run: the candidate's folder.
        root: the ``weights`` folder.
        data_dir: where data sets are kept.

    Raises:
        PromotionError: it changes meanwhile, or ``root`` is missing.
        TrainingError: the run is not finished.
        WeightsError: it has no weights, or the champion is damaged.
        OutputError: something cannot be written; the champion is what it was.
        DatasetError, MissingExtraError: see `rules.judge`.
    """
    with _locked(root):
        files = _read(run)
        runs.read_record(run)
        digest = sha256(files[WEIGHTS])
        order = _settled(root)
        if digest == _digest(root / WEIGHTS):
            rule = Rule("new", False, f"it is the champion already (SHA-256 {digest[:12]}…)")
            return Promotion(Decision(False, (rule,)), False, None, digest)
        decision = judge(run / WEIGHTS, root / WEIGHTS, data_dir)
        if not decision.promote:
            return Promotion(decision, False, None, digest)
        if _read(run) != files:
            raise PromotionError(f"{run}: was changed while it was judged; promote it again")
        order = _kept(root, order)
        replaced = order[0].number if order else None
        # It may lie there from a change that failed, or that was rolled back.
        again = (f for f in order if (f.sha256, f.replaced) == (digest, replaced))
        former = next((f for f in again if _is_whole(root, f, files)), None)
        if former is None:
            name = run.resolve().name
            former = _archive(root, name, files, run, replaced, decision.rules)
        _change(root, former, replaced)
        return Promotion(decision, True, former.name, digest)


def rollback(root: Path, name: str | None = None) -> Former:
    """Make a former champion the champion again, byte for byte; no rules are asked.

    Args:
        root: the ``weights`` folder.
        name: that of its folder below ``former``, or its number. By default the predecessor of
            the champion or, if that is damaged or missing, the last one that is whole.

    Raises:
        PromotionError: there is no such former champion, or it is damaged.
        OutputError: something cannot be written; the champion is what it was.
    """
    with _locked(root):
        order = _settled(root)
        if order:
            order = _kept(root, order)
        present = order[0] if order and order[0].sha256 == _digest(root / WEIGHTS) else None
        if name is not None:
            wanted = [f for f in order if name in (f.name, str(f.number), f"{f.number:04}")]
        elif present is not None:
            wanted = [f for f in order if f.number == present.replaced]
        else:
            wanted = [f for f in order if _is_whole(root, f)]
        if not wanted:
            which = " before this one" if present else " that is whole" if order else ""
            raise PromotionError(
                f"{root / FORMER}: holds no former champion"
                f"{which if name is None else f' {name!r}'}; 'nnpipe models list' shows all"
            )
        _change(root, wanted[0], present.number if present else None)
        return wanted[0]


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Wait for the right to change champions; the system takes it back when this process ends."""
    import fcntl  # which Windows has not, and the rest of nnpipe can do without

    _check_root(root)
    lock = root / FORMER / LOCK
    try:
        lock.parent.mkdir(exist_ok=True)
        stream = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        raise cannot_write(lock, error) from error
    try:
        _clear(root / FORMER / SCRATCH)  # of a process that died
        yield
    finally:
        with suppress(PromotionError):
            _clear(root / FORMER / SCRATCH)
        os.close(stream)


def _clear(scratch: Path) -> None:
    """Remove a scratch folder as far as nnpipe made it: files by name, and no link is followed.

    Raises:
        PromotionError: a link or a file is in its place.
    """
    if scratch.is_symlink() or (scratch.exists() and not scratch.is_dir()):
        raise PromotionError(f"{scratch}: is not a folder that nnpipe made; move it elsewhere")
    archives = (path for path in scratch.glob("*-*") if ARCHIVE.fullmatch(path.name))
    for folder in (*(path for path in archives if not path.is_symlink()), scratch):
        for path in folder.glob("*"):
            own = path.name in (WEIGHTS, *COMPANIONS, INSTALLED, PROMOTION)
            if own or UNFINISHED.fullmatch(path.name):
                with suppress(OSError):
                    path.unlink()
        with suppress(OSError):  # something else is in it, or there is none
            folder.rmdir()


def _read(folder: Path) -> dict[str, bytes]:
    """The files of a run that make a champion, those that are there."""
    names = [name for name in (WEIGHTS, *COMPANIONS) if os.path.lexists(folder / name)]
    if WEIGHTS not in names:
        raise WeightsError(
            f"{folder / WEIGHTS}: there is no such weights file; make it with 'nnpipe export'"
        )
    try:
        return {name: records.read_bytes(folder / name) for name in names}
    except OSError as error:
        raise PromotionError(
            f"{error.filename}: could not be read ({error.strerror}); "
            "put the file of a run in its place, or train again"
        ) from error


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file, "unreadable", or None if there is none."""
    try:
        return sha256(records.read_bytes(path))
    except FileNotFoundError:
        return None
    except OSError:
        return "unreadable"


def _folders(root: Path) -> dict[int, Path]:
    """Number → folder of each former champion, damaged or not, the newest first."""
    found = {
        int(match[1]): path
        for path in (root / FORMER).glob("*-*")
        if (match := ARCHIVE.fullmatch(path.name))
    }
    return dict(sorted(found.items(), reverse=True))


def _former(folder: Path) -> Former:
    path = folder / PROMOTION
    try:
        former: Former = records.load(Former, path)
        own = former.name == folder.name and former.name.startswith(f"{former.number:04}-")
        if not own or not former.companions.keys() <= set(COMPANIONS):
            raise ValueError("it tells of other files")
        return former
    except (OSError, ValueError) as error:
        raise PromotionError(
            f"{path}: cannot be understood ({in_one_line(error)}); bring back another champion "
            "with 'nnpipe models rollback NAME'"
        ) from error


def _order(root: Path) -> list[Former]:
    """Former champions whose record can be read: the one last installed, the one before, others.

    The same weights may have been champion twice, and were replaced by different ones.
    """
    found: dict[int, Former] = {}
    for number, folder in _folders(root).items():
        with suppress(PromotionError):
            found[number] = _former(folder)
    installed: list[int | None] = []
    with suppress(OSError, ValueError):
        installed = records.load(list[int | None], root / FORMER / INSTALLED)
    numbers = dict.fromkeys([*installed, *found])
    return [found[number] for number in numbers if number and number in found]


def _settled(root: Path) -> list[Former]:
    """Former champions, the present one first if it is among them, its companions mended."""
    order, digest = _order(root), _digest(root / WEIGHTS)
    present = next((former for former in order if former.sha256 == digest), None)
    if present is None:
        return order
    companions = {name: _digest(root / name) for name in COMPANIONS}
    fits = all(present.companions.get(name) == found for name, found in companions.items())
    if not fits or present is not order[0]:
        with suppress(PromotionError):  # nothing can be mended from a damaged one
            _install(root, present, None)
    return [present, *(former for former in order if former is not present)]


def _kept(root: Path, order: list[Former]) -> list[Former]:
    """Archive the present champion if it came from elsewhere, and is whole."""
    champion = root / WEIGHTS
    if order and order[0].sha256 == _digest(champion):
        return order
    try:
        weights.load(champion)
    except WeightsError:
        return order
    # The first came with nnpipe; a later one by 'nnpipe export weights', or from git.
    name = "replaced-by-hand" if order else "shipped"
    replaced = order[0].number if order else None
    return [_archive(root, name, _read(root), replaced=replaced), *order]


def _archive(
    root: Path,
    name: str,
    files: dict[str, bytes],
    run: Path | None = None,
    replaced: int | None = None,
    rules: tuple[Rule, ...] = (),
) -> Former:
    """Put files among the former champions, all of them or nothing."""
    digests = {file: sha256(content) for file, content in files.items()}
    number = max(_folders(root), default=0) + 1
    name = f"{number:04}-{records.UNPRINTABLE.sub('-', name)}"
    digest = digests.pop(WEIGHTS)
    former = Former(number, name, runs.now(), digest, digests, run, replaced, rules)
    to, scratch = root / FORMER / former.name, root / FORMER / SCRATCH / former.name
    for file, content in files.items():
        with replacing(scratch / file) as stream:
            stream.write(content)
    write_json(scratch / PROMOTION, asdict(former) | {"run": run and str(run)})
    try:
        scratch.rename(to)
    except OSError as error:
        raise cannot_write(to, error) from error
    return former


def _archived(root: Path, former: Former) -> dict[str, bytes]:
    """The files of a former champion, if all are what was archived."""
    files = {}
    for name, digest in {WEIGHTS: former.sha256, **former.companions}.items():
        path = root / FORMER / former.name / name
        with suppress(OSError):
            files[name] = records.read_bytes(path)
        if name not in files or sha256(files[name]) != digest:
            raise PromotionError(
                f"{path}: is missing or damaged (not the SHA-256 in {PROMOTION}); bring back "
                "another with 'nnpipe models rollback NAME'"
            )
    return files


def _is_whole(root: Path, former: Former, files: dict[str, bytes] | None = None) -> bool:
    """Whether an archive is whole and, if files are given, holds these."""
    try:
        return _archived(root, former) == files or files is None
    except PromotionError:
        return False


def _change(root: Path, to: Former, before: int | None) -> None:
    try:
        _install(root, to, before)
    except NnpipeError:
        with suppress(NnpipeError):  # it may be the disk that is full; the next one will mend
            _settled(root)
        raise


def _install(root: Path, former: Former, before: int | None) -> None:
    """Make a former champion, or one that was just archived, the champion.

    Args:
        root: the ``weights`` folder.
        former: who is to be champion.
        before: the number of who is champion now.
    """
    files = _archived(root, former)
    files[INSTALLED] = json.dumps([former.number, before]).encode()
    scratch = root / FORMER / SCRATCH
    for name, content in files.items():
        with replacing(scratch / name) as stream:
            stream.write(content)
    try:
        # What is left to do needs no space on the disk.
        for name in (INSTALLED, *COMPANIONS, WEIGHTS):
            to = root / FORMER / name if name == INSTALLED else root / name
            if name in files:
                (scratch / name).replace(to)
            else:
                to.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(root / WEIGHTS, error) from error


def models(root: Path) -> list[Model]:
    """The champion, former ones, the newest first, and candidates that never were champion.

    Raises:
        PromotionError: the folder is missing.
    """
    _check_root(root)
    digest, order = _digest(root / WEIGHTS), _order(root)
    name = next((former.name for former in order if former.sha256 == digest), "champion")
    found = [_model(name, "champion", root / WEIGHTS)] if digest else []
    for folder in _folders(root).values():
        try:
            if folder.name != name:
                _archived(root, _former(folder))
                found.append(_model(folder.name, "former", folder / WEIGHTS))
        except PromotionError as error:
            found.append(Model(folder.name, "damaged", reason=in_one_line(error)))
    known = {digest} - {"unreadable"} | {former.sha256 for former in order}
    candidates = (folder / WEIGHTS for folder in sorted((root / "runs").glob("*")))
    new = (p for p in candidates if os.path.lexists(p) and _digest(p) not in known)
    return [*found, *(_model(path.parent.name, "candidate", path) for path in new)]


def _model(name: str, state: str, path: Path) -> Model:
    try:
        metadata = weights.load(path).metadata
    except WeightsError as error:
        return Model(name, "damaged", reason=in_one_line(error))
    return Model(name, state, *(getattr(metadata, field) for field in TOLD))


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise PromotionError(f"{root}: is no folder; name that of the weights with --weights-dir")
