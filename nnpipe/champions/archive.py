"""Former champions: each in a folder of its own, with a record that names the SHA-256 of its files.

former/0002-<run>/     the files of a champion, and promotion.json
former/champion.json   the number of the champion, and of its predecessor
former/vetoes.json     networks that were rolled back
"""

import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nnpipe import records, runs
from nnpipe.champions.rules import Rule
from nnpipe.errors import PromotionError
from nnpipe.files import TEMPORARY, cannot_write, remove_files, replacing, sha256, write_json
from nnpipe.places import UNSAFE, in_one_line
from nnpipe.runs import MODEL, OWN, RECORD, WEIGHTS_FILE

COMPANIONS = (RECORD, MODEL, OWN)
INSTALLED, PROMOTION, VETOES = "champion.json", "promotion.json", "vetoes.json"
SCRATCH = ".new"
NAME = re.compile(r"([0-9]{4,18})-[^/]+")
"""Name of a former champion's folder: its number, below `records.LARGEST`, and its run's name."""

_FILES = "|".join(map(re.escape, (WEIGHTS_FILE, *COMPANIONS, INSTALLED, PROMOTION)))
SCRATCH_PATHS = re.compile(rf"(\./)?({NAME.pattern}/)?({_FILES}|{TEMPORARY})?")
"""Paths of nnpipe's files and folders in the scratch folder."""


@dataclass(frozen=True)
class Former:
    """A present or former champion: the content of ``promotion.json``."""

    number: int
    name: str  # of its folder
    when: str  # it was archived, ISO 8601, UTC
    sha256: str  # of its weights
    companions: dict[str, str]  # name → SHA-256
    run: Path | None  # the folder it was promoted from; None: nnpipe did not promote it
    replaced: int | None  # number of its predecessor; None: it is the first
    rules: tuple[Rule, ...]

    def __str__(self) -> str:
        return f"{self.name} is the champion now"


@dataclass(frozen=True)
class Veto:
    """A network that was rolled back. It does not become champion again unless a person says so."""

    network: str  # SHA-256 of its weights and biases: the same network may be written twice
    name: str  # of its folder below former
    when: str  # it was rolled back, ISO 8601, UTC


@dataclass(frozen=True)
class Archive:
    """The folder ``former`` of a store."""

    folder: Path

    @property
    def scratch(self) -> Path:
        """Where files are written before they are renamed."""
        return self.folder / SCRATCH

    def folders(self) -> dict[int, Path]:
        """Number → folder of each former champion, damaged or not, the newest first."""
        folders = {
            int(match[1]): path
            for path in self.folder.glob("*-*")
            if (match := NAME.fullmatch(path.name))
        }
        return dict(sorted(folders.items(), reverse=True))

    def read(self, folder: Path) -> Former:
        """Read the record of a former champion.

        Raises:
            PromotionError: it is missing or damaged.
        """
        path = folder / PROMOTION
        try:
            former: Former = records.load(Former, path)
            own = former.name == folder.name and former.name.startswith(f"{former.number:04}-")
            if not own or not former.companions.keys() <= set(COMPANIONS):
                raise ValueError("it names other files")
            return former
        except (OSError, ValueError) as error:
            raise PromotionError(
                f"{path}: cannot be understood ({in_one_line(error)}); bring back another champion",
                advice="rollback",
            ) from error

    def order(self) -> list[Former]:
        """Former champions with a readable record: the one last installed, its predecessor, others.

        The same weights may have been champion twice, with different predecessors.
        """
        readable: dict[int, Former] = {}
        for number, folder in self.folders().items():
            with suppress(PromotionError):
                readable[number] = self.read(folder)
        installed: list[int | None] = []
        with suppress(OSError, ValueError):
            installed = records.load(list[int | None], self.folder / INSTALLED)
        numbers = dict.fromkeys([*installed, *readable])
        return [readable[number] for number in numbers if number and number in readable]

    def vetoes(self) -> list[Veto]:
        """The networks that were rolled back.

        Raises:
            PromotionError: their list is damaged.
        """
        path = self.folder / VETOES
        if not os.path.lexists(path):
            return []
        try:
            vetoes: list[Veto] = records.load(list[Veto], path)
            return vetoes
        except (OSError, ValueError) as error:
            raise PromotionError(
                f"{path}: cannot be understood ({in_one_line(error)}), so it is not known what was "
                "rolled back; move it away, or mend it"
            ) from error

    def change_vetoes(self, *, add: Veto | None, lift: str | None) -> None:
        """Add the veto of a network and lift that of another, ``lift``, or of the same.

        Raises:
            PromotionError: their list is damaged.
            OutputError: it cannot be written.
        """
        before = self.vetoes()
        others = {veto.network: veto for veto in (*before, add) if veto}
        others.pop(lift or "", None)
        if list(others.values()) != before:
            content = [asdict(veto) for veto in others.values()]
            write_json(self.folder / VETOES, content, scratch=self.scratch)

    def add(
        self,
        name: str,
        files: dict[str, bytes],
        *,
        run: Path | None = None,
        replaced: int | None = None,
        rules: tuple[Rule, ...] = (),
    ) -> Former:
        """Archive the files of a champion, all of them or nothing.

        Raises:
            PromotionError: there is no number left.
            OutputError: they cannot be written.
        """
        digests = {file: sha256(content) for file, content in files.items()}
        number = max(folders := self.folders(), default=0) + 1
        name = f"{number:04}-{UNSAFE.sub('-', name)}"
        if number >= 10**18:
            raise PromotionError(f"{folders[number - 1]}: has the last number; move it elsewhere")
        digest = digests.pop(WEIGHTS_FILE)
        former = Former(number, name, runs.now(), digest, digests, run, replaced, rules)
        to, scratch = self.folder / name, self.scratch / name
        for file, content in files.items():
            with replacing(scratch / file) as stream:
                stream.write(content)
        write_json(scratch / PROMOTION, asdict(former) | {"run": run and str(run)})
        try:
            scratch.rename(to)
        except OSError as error:
            raise cannot_write(to, error) from error
        return former

    def files(self, former: Former) -> dict[str, bytes]:
        """The files of a former champion.

        Raises:
            PromotionError: one is missing, or is not what was archived.
        """
        files = {}
        for name, digest in {WEIGHTS_FILE: former.sha256, **former.companions}.items():
            path = self.folder / former.name / name
            with suppress(OSError):
                files[name] = records.read_bytes(path)
            if name not in files or sha256(files[name]) != digest:
                raise PromotionError(
                    f"{path}: is missing or damaged (not the SHA-256 in {PROMOTION}); bring back "
                    "another champion",
                    advice="rollback",
                )
        return files

    def is_whole(self, former: Former, files: dict[str, bytes] | None = None) -> bool:
        """Return True if an archive is whole and, if files are given, holds these."""
        try:
            return self.files(former) == files or files is None
        except PromotionError:
            return False

    def clear_scratch(self) -> None:
        """Remove what a process that died left in the scratch folder: files by name, and no links.

        Raises:
            PromotionError: a link or a file has the name of the scratch folder.
        """
        scratch = self.scratch
        if scratch.is_symlink() or (scratch.exists() and not scratch.is_dir()):
            raise PromotionError(f"{scratch}: is not a folder that nnpipe made; move it elsewhere")
        remove_files(scratch, SCRATCH_PATHS.fullmatch)
