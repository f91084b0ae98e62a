"""Folders and CSV files of labelled pictures → what the network sees of them, and what is odd."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnpipe.classifier import Classifier
from nnpipe.errors import LabelError, NnpipeError
from nnpipe.files import sha256
from nnpipe.ground_truth import Unread, each
from nnpipe.ground_truth.sources import LabelledFile, list_folder, list_table
from nnpipe.own.judging import Look, Suspect, judge, look, look_at_number
from nnpipe.own.pictures import MOST, OwnPictures, Text, file_of, together
from nnpipe.own.splitting import Groups, are_known, group, hold_out
from nnpipe.places import in_one_line
from nnpipe.records import read_bytes

FEW = 20
"""Pictures below which a training on them is hardly worth it."""

MANY_DOUBTED = 10
"""Doubted labels from which on, if they are more than half, nothing is learned."""

KEPT = ".npz"
"""How the name of a file ends that keeps the pictures of an earlier training."""

NAMED = 10
"""Files of a kind that a message names."""


@dataclass(frozen=True)
class Collection:
    """Labelled pictures, and what is odd about them."""

    pictures: OwnPictures
    earlier: int  # of these, digits that an earlier training has kept
    alike: int  # files that look nearly like others
    unlabelled: tuple[str, ...]  # files in no digit's folder, or hidden
    unreadable: tuple[Unread, ...]  # files that are no pictures
    refused: tuple[Unread, ...]  # pictures that do not show their label
    copies: tuple[str, ...]  # files with the content of an earlier one, and the same label
    contradictions: tuple[str, ...]  # files with the same content, and different labels
    suspects: tuple[Suspect, ...]
    without_suspects: bool  # whether these were left out

    def lines(self) -> Iterator[str]:
        """Yield sentences about the pictures, for people."""
        pictures = self.pictures
        held, writers = int(pictures.held_out.sum()), len({*pictures.writers} - {""})
        by = f" by {_counted(writers, 'writer')}" if writers else ""
        some = f", {self.earlier:,} of them from an earlier training" if self.earlier else ""
        digits = _counted(len(pictures), "digit")
        parts = f"{len(pictures) - held:,} to learn from, {held:,} held out to judge by"
        yield f"{digits}{by}{some}: {parts}"
        if len(pictures) < FEW:
            yield f"these are few; {FEW} or more are worth a training"
        counts = np.bincount(pictures.labels, minlength=10)
        if missing := [str(digit) for digit in range(10) if not counts[digit]]:
            yield f"there is no picture of {', '.join(missing)}"
        elif counts.max() > 4 * counts.min():
            most, least = counts.argmax(), counts.argmin()
            yield (
                f"the digits are not balanced: {counts[most]:,} of {most} and {counts[least]:,} of "
                f"{least}"
            )
        if self.alike:
            yield (
                f"{_counted(self.alike, 'file')} nearly like others; what is alike is all learned "
                "from, or all held out"
            )
        unreadable, refused = (
            [f"{file.name} ({file.reason})" for file in files]
            for files in (self.unreadable, self.refused)
        )
        same = "left out, with the same content as another"
        left = "left out" if self.without_suspects else "kept (drop_suspects leaves out such files)"
        for what, names in (
            ("left out, hidden or in no digit's folder", self.unlabelled),
            ("left out, unreadable", unreadable),
            ("left out, not showing the label", refused),
            (same, self.copies),
            (f"{same} and a different label", self.contradictions),
            (f"maybe labelled wrongly, and {left}", [str(one) for one in self.suspects]),
        ):
            if names:
                more = f", and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
                yield f"{_counted(len(names), 'file')} {what}: {', '.join(names[:NAMED])}{more}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def collect(
    sources: Sequence[Path],
    classifier: Classifier,
    *,
    before: OwnPictures | None = None,
    drop_suspects: bool = False,
) -> Collection:
    """Read labelled pictures, and decide which of them are held out.

    Child processes read them, with the same limits of time and memory as in scoring.

    Args:
        sources: folders with a sub-folder for each digit, or CSV files, see `ground_truth.sources`;
            or files of earlier trainings, ``own.npz``.
        classifier: says in which way each picture shows its label best, and doubts labels.
        before: pictures of an earlier training, which are part of the collection. They stay on
            their side. A picture that is given again is judged again, with its new label.
        drop_suspects: leave out pictures whose label is doubted.

    Raises:
        LabelError: a source is missing, its labels are wrong, or it has no picture of a digit; or
            more than half of the labels are doubted.
        TrainingError: a file of an earlier training is damaged.
        ProcessError: worker processes die again and again.
    """
    kept = [OwnPictures.load(source) for source in sources if source.suffix == KEPT]
    before = together([*([before] if before else []), *kept]) if before or kept else None
    lists = [list_source(source) for source in sources]
    files = [file for labelled, _ in lists for file in labelled]
    if len(files) > MOST:
        raise LabelError(f"{sources[0]}: there are more than {MOST:,} pictures; use fewer")
    looks = _sort(_look(files))
    refused, suspects, parts = list[Unread](), list[Suspect](), list[OwnPictures]()
    for file, shown in looks.first:
        refusal, digits, suspect = judge(file, shown, by=classifier)
        if refusal:
            refused.append(Unread(file.name, refusal))
        if suspect:
            suspects.append(suspect)
        if digits and not (suspect and drop_suspects):
            parts.append(digits)
    names = ", ".join(map(str, sources))
    if not parts and not before:
        some = [*looks.unreadable, *refused]
        why = f" ({some[0].name}: {some[0].reason})" if some else ""
        raise LabelError(f"{names}: no picture in it shows a digit{why}")
    if not drop_suspects and len(suspects) > max(MANY_DOUBTED, len(parts) / 2):
        raise LabelError(
            f"{names}: {len(suspects):,} of {len(parts):,} labels seem to be wrong, such as "
            f"{suspects[0]}; correct them, or set drop_suspects to leave these files out"
        )
    sides = dict[str, bool]()
    if before:
        sides = dict(zip(before.keys.tolist(), before.held_out.tolist(), strict=True))
        digests = {shown.digest for _, shown in looks.first}
        before = before.some(np.array([file_of(key) not in digests for key in before.keys], bool))
    pictures = together([*([before] if before else []), *parts])
    groups = group(pictures.pixels[pictures.learned], writers=pictures.writers, keys=pictures.keys)
    return Collection(
        pictures=pictures.holding_out(hold_out(groups, pictures.keys, before=sides)),
        earlier=len(before or ()),
        alike=0 if are_known(pictures.writers) else _alike(groups, pictures.keys),
        unlabelled=tuple(name for _, others in lists for name in others),
        unreadable=looks.unreadable,
        refused=tuple(refused),
        copies=looks.copies,
        contradictions=looks.contradictions,
        suspects=tuple(suspects),
        without_suspects=drop_suspects,
    )


def _look(files: Sequence[LabelledFile]) -> list[tuple[LabelledFile, Look | NnpipeError]]:
    """Read all files, digits first."""
    looks: list[tuple[LabelledFile, Look | NnpipeError]] = []
    for function, some in (
        (look, [file for file in files if len(file.label) == 1]),
        (look_at_number, [file for file in files if len(file.label) > 1]),
    ):
        looks += zip(some, each(function, [file.path for file in some]), strict=True)
    return looks


class Sorted(NamedTuple):
    """Files by what may become of them."""

    first: list[tuple[LabelledFile, Look]]  # each content once
    unreadable: tuple[Unread, ...]
    copies: tuple[str, ...]
    contradictions: tuple[str, ...]


def _sort(looks: Sequence[tuple[LabelledFile, Look | NnpipeError]]) -> Sorted:
    labels = defaultdict[str, set[str]](set)
    for file, shown in looks:
        if isinstance(shown, Look):
            labels[shown.digest].add(file.label)
    first = dict[str, tuple[LabelledFile, Look]]()
    unreadable, copies, contradictions = list[Unread](), list[str](), list[str]()
    for file, shown in looks:
        if not isinstance(shown, Look):
            unreadable.append(Unread(file.name, in_one_line(shown)))
        elif len(labels[shown.digest]) > 1:
            contradictions.append(f"{file.name} (labelled {file.label})")
        elif shown.digest in first:
            copies.append(file.name)
        else:
            first[shown.digest] = file, shown
    return Sorted([*first.values()], tuple(unreadable), tuple(copies), tuple(contradictions))


def _alike(groups: Groups, keys: Text) -> int:
    """Return how many files look nearly like others."""
    files: dict[int, set[str]] = defaultdict(set)
    for number, key in zip(groups.tolist(), keys, strict=True):
        files[number].add(file_of(key))
    return sum(len(some) for some in files.values() if len(some) > 1)


def digest(sources: Sequence[str | Path]) -> str:
    """Return the SHA-256 of the labels and the content of all files.

    Raises:
        LabelError: a source is missing, or its labels are wrong.
    """
    parts = [OwnPictures.load(p).checksum for p in map(Path, sources) if p.suffix == KEPT]
    for file in (file for source in sources for file in list_source(Path(source))[0]):
        content = ""
        with suppress(OSError, ValueError):
            content = sha256(read_bytes(file.path))
        parts.append(f"{file.name} {file.label} {file.writer} {content}")
    return sha256("\n".join(parts).encode())


def list_source(source: Path) -> tuple[list[LabelledFile], list[str]]:
    """Return the files of a folder or a CSV file, and the names of those without labels.

    Raises:
        LabelError: there is none, or its labels are wrong.
    """
    if source.is_dir():
        return list_folder(source)
    if source.suffix == KEPT and source.exists():
        return [], []  # `OwnPictures.load` reads it
    if not source.exists():
        raise LabelError(
            f"{source}: there is no such folder or file; expected a folder with a sub-folder for "
            "each digit, or a CSV file with the columns file and label"
        )
    return list_table(source), []
