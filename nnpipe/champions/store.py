"""The store of candidates and champions: promotion, rollback, and the list of all.

<root>/model_weights.npz      the champion: what predictions read
       pytorch_model.pth      its companions: the PyTorch model that it was exported from,
       training.json          and its record
       runs/<run>/            candidates, with files of the same names
       former/                present and former champions, see `archive`
       former/.lock           held while any of these change

A change first writes all files that it needs below ``former``. Then it renames them into place,
``model_weights.npz`` last: that step changes the champion. If a process dies before that step, the
old champion stays, perhaps with companions of the new one; the next process that takes the lock
repairs them.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nnpipe import records, runs, weights
from nnpipe.champions.archive import COMPANIONS, INSTALLED, Archive, Former, Veto
from nnpipe.champions.rules import Decision, Rule, judge
from nnpipe.classifier import FORMER
from nnpipe.classifier import champion as shipped_champion
from nnpipe.errors import NnpipeError, PromotionError, WeightsError
from nnpipe.files import cannot_write, locked, replacing, sha256
from nnpipe.places import in_one_line
from nnpipe.runs import RECORD, WEIGHTS_FILE

LISTED = ("dataset", "recipe", "seed", "validation_accuracy", "test_accuracy", "created")
"""Metadata of a weights file that `Store.models` lists."""


@dataclass(frozen=True)
class Promotion:
    """What became of a candidate."""

    decision: Decision
    promoted: bool
    name: str | None  # of its folder below former; None: it was refused
    sha256: str  # of its weights

    def __str__(self) -> str:
        rules = self.decision.rules
        lines = [f"{r.name:9}  {'ok' if r.passed else 'refused':7}  {r.reason}" for r in rules]
        failed = ", ".join(repr(rule.name) for rule in rules if not rule.passed)
        verdict = f"{self.name} is the champion now"
        return "\n".join([*lines, verdict if self.promoted else f"refused by {failed}"])


@dataclass(frozen=True)
class ListedModel:
    """A line of ``nnpipe models list``; None: the weights file does not say, or is damaged."""

    name: str  # of its folder
    state: str  # "champion", "former", "rolled back", "candidate", "damaged"
    dataset: str | None = None
    recipe: str | None = None
    seed: int | None = None
    validation_accuracy: float | None = None  # in [0, 1]
    test_accuracy: float | None = None  # in [0, 1]
    created: str | None = None  # ISO 8601, UTC
    reason: str = ""  # how it is damaged


def default_root() -> Path:
    """The folder ``weights`` of the repository, or of the working folder if nnpipe is installed."""
    path = shipped_champion()
    return Path("weights") if path.parent == Path(__file__).parents[1] else path.parent


def champion_of(root: Path | None) -> Path:
    """The champion's weights file of a store; without a root the one that comes with nnpipe."""
    return Store(root).champion if root else shipped_champion()


class Store:
    """Candidates, the champion and former champions below a root.

    Args:
        root: the folder; by default `default_root`.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self.runs = self.root / "runs"
        self.champion = self.root / WEIGHTS_FILE
        self.archive = Archive(self.root / FORMER)

    def promote(self, run: Path, data_dir: Path, *, again: bool = False) -> Promotion:
        """Make a finished run the champion if the rules allow it; see `rules.judge`.

        Concurrent promotions wait for each other; each is judged against the champion that the
        previous one left. A network that was rolled back is refused.

        Args:
            run: the candidate's folder.
            data_dir: folder of the data sets.
            again: judge it even if it was rolled back.

        Raises:
            PromotionError: the run changes meanwhile, the root is missing, or it is not known what
                was rolled back.
            TrainingError: the run is not finished.
            WeightsError: the run has no weights, or the champion is damaged.
            OutputError: something cannot be written; the champion stays.
            DatasetError, MissingExtraError: see `rules.judge`.
        """
        with self._locked():
            if not run.is_dir():
                why = f"there is no such folder; expected a run, such as {self.runs / 'NAME'}"
                raise PromotionError(f"{run}: {why}", advice="models")
            files = _read(run)
            runs.read_record(run)
            digest = sha256(files[WEIGHTS_FILE])
            order = self._settled()
            if digest == _digest(self.champion):
                rule = Rule("new", False, f"it is the champion already (SHA-256 {digest[:12]}…)")
                return Promotion(Decision(False, (rule,)), False, None, digest)
            network = _network(files[WEIGHTS_FILE])
            veto = next((v for v in self.archive.vetoes() if v.network == network), None)
            if veto and not again:
                when = f"{veto.when[:10]}, as {veto.name}"
                rule = Rule("veto", False, f"it was champion and was rolled back on {when}")
                return Promotion(Decision(False, (rule,)), False, None, digest)
            decision = judge(run / WEIGHTS_FILE, self.champion, data_dir=data_dir)
            if not decision.promote:
                return Promotion(decision, False, None, digest)
            if _read(run) != files:
                raise PromotionError(f"{run}: was changed while it was judged; promote it again")
            present = self._present(order) or (order[0] if order else None)
            replaced = present.number if present else None
            # A change that failed, or was rolled back, may have archived it.
            same = (f for f in order if (f.sha256, f.replaced) == (digest, replaced))
            former = next((f for f in same if self.archive.is_whole(f, files)), None)
            if former is None:
                former = self.archive.add(
                    run.resolve().name, files, run=run, replaced=replaced, rules=decision.rules
                )
            self._change(former, replaced)
            if veto:
                self.archive.change_vetoes(add=None, lift=network)
            return Promotion(decision, True, former.name, digest)

    def rollback(self, name: str | None = None) -> Former:
        """Make a former champion the champion again, byte for byte, without asking the rules.

        `promote` refuses the champion that it replaces from now on, and no longer refuses this one.

        Args:
            name: of its folder below ``former``, or its number. By default the predecessor of the
                champion or, if that is damaged or missing, the last one that is whole.

        Raises:
            PromotionError: there is no such former champion, or it or the list of vetoes is
                damaged.
            OutputError: something cannot be written; the champion stays.
        """
        with self._locked():
            order = self._settled()
            present = self._present(order) if order else None
            if name is not None:
                matches = [f for f in order if name in (f.name, str(f.number), f"{f.number:04}")]
            elif present is not None:
                matches = [f for f in order if f.number == present.replaced]
            else:
                matches = [f for f in order if self.archive.is_whole(f)]
            if not matches:
                which = " before this one" if present else " that is whole" if order else ""
                raise PromotionError(
                    f"{self.archive.folder}: holds no former champion"
                    f"{which if name is None else f' {name!r}'}",
                    advice="models",
                )
            wanted = _network(self.archive.files(matches[0])[WEIGHTS_FILE])
            if present and matches[0].number < present.number:  # else it is the way forward again
                network = _network(records.read_bytes(self.champion))
                veto = Veto(network, present.name, runs.now()) if network else None
                self.archive.change_vetoes(add=veto, lift=None)
            self._change(matches[0], present.number if present else None)
            self.archive.change_vetoes(add=None, lift=wanted)
            return matches[0]

    def models(self) -> list[ListedModel]:
        """The champion, former ones, the newest first, and candidates that never were champion.

        Raises:
            PromotionError: the root is missing.
        """
        self._check_root()
        digest, order = _digest(self.champion), self.archive.order()
        name = next((former.name for former in order if former.sha256 == digest), "champion")
        vetoed: set[str] = set()
        with suppress(PromotionError):
            vetoed = {veto.name for veto in self.archive.vetoes()}
        listed = []
        if os.path.lexists(self.champion):
            listed.append(_listed(name, "champion", path=self.champion))
        for folder in self.archive.folders().values():
            try:
                if folder.name != name:
                    self.archive.files(self.archive.read(folder))
                    state = "rolled back" if folder.name in vetoed else "former"
                    listed.append(_listed(folder.name, state, path=folder / WEIGHTS_FILE))
            except PromotionError as error:
                listed.append(ListedModel(folder.name, "damaged", reason=in_one_line(error)))
        archived = {digest, *(former.sha256 for former in order)} - {None}
        candidates = (folder / WEIGHTS_FILE for folder in sorted(self.runs.glob("*")))
        new = (p for p in candidates if os.path.lexists(p) and _digest(p) not in archived)
        return [*listed, *(_listed(path.parent.name, "candidate", path=path) for path in new)]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait for the right to change champions."""
        self._check_root()
        with locked(self.archive.folder / ".lock"):
            self.archive.clear_scratch()
            try:
                yield
            finally:
                with suppress(PromotionError):
                    self.archive.clear_scratch()

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise PromotionError(f"{self.root}: there is no such folder", advice="weights_dir")

    def _settled(self) -> list[Former]:
        """Repair the champion's companions; return archived champions, the present one first."""
        order, digest = self.archive.order(), _digest(self.champion)
        present = next((former for former in order if former.sha256 == digest), None)
        if present is None:
            return order
        paths = [self.root / name for name in COMPANIONS if os.path.lexists(self.root / name)]
        fits = present.companions == {path.name: _digest(path) for path in paths}
        if not fits or present is not order[0]:
            with suppress(PromotionError):  # nothing can be mended from a damaged one
                self._install(present, None)
        return [present, *(former for former in order if former is not present)]

    def _present(self, order: list[Former]) -> Former | None:
        """The champion, archived if it came from elsewhere; None: it is missing or damaged."""
        if order and order[0].sha256 == _digest(self.champion):
            return order[0]
        try:
            weights.load(self.champion)
        except WeightsError:
            return None
        # The first came with nnpipe; a later one was put there by hand, or by git.
        name = "replaced-by-hand" if order else "shipped"
        replaced = order[0].number if order else None
        return self.archive.add(name, _read(self.root), replaced=replaced)

    def _change(self, to: Former, before: int | None) -> None:
        try:
            self._install(to, before)
        except NnpipeError:
            with suppress(NnpipeError):  # the disk may be full; the next change mends
                self._settled()
            raise

    def _install(self, former: Former, before: int | None) -> None:
        """Make an archived champion the champion.

        Args:
            former: the new champion.
            before: number of the present champion.
        """
        files = self.archive.files(former)
        files[INSTALLED] = json.dumps([former.number, before]).encode()
        scratch = self.archive.scratch
        for name, content in files.items():
            with replacing(scratch / name) as stream:
                stream.write(content)
        # The rest needs no space on the disk.
        for name in (INSTALLED, *COMPANIONS, WEIGHTS_FILE):
            to = (self.archive.folder if name == INSTALLED else self.root) / name
            try:
                if name in files:
                    (scratch / name).replace(to)
                else:
                    to.unlink(missing_ok=True)
            except OSError as error:
                raise cannot_write(to, error) from error


def _read(folder: Path) -> dict[str, bytes]:
    """The files of a run that make a champion, those that are there."""
    names = [name for name in (WEIGHTS_FILE, *COMPANIONS) if os.path.lexists(folder / name)]
    if WEIGHTS_FILE not in names:
        advice = "export" if RECORD in names else "unfinished"
        raise WeightsError(f"{folder / WEIGHTS_FILE}: there is no such weights file", advice=advice)
    try:
        return {name: records.read_bytes(folder / name) for name in names}
    except OSError as error:
        raise PromotionError(
            f"{error.filename}: could not be read ({error.strerror}); "
            "put the file of a run in its place, or train again"
        ) from error


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; None: it is missing or cannot be read."""
    with suppress(OSError):
        return sha256(records.read_bytes(path))
    return None


def _network(content: bytes) -> str | None:
    """The SHA-256 of the network in a weights file; None: it is damaged."""
    with suppress(WeightsError):
        return weights.digest_of(weights.load(content).network)
    return None


def _listed(name: str, state: str, *, path: Path) -> ListedModel:
    try:
        metadata = weights.load(path).metadata
    except WeightsError as error:
        return ListedModel(name, "damaged", reason=in_one_line(error))
    return ListedModel(name, state, *(getattr(metadata, field) for field in LISTED))
