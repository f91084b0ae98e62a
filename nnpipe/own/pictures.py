"""Labelled pictures of one's own as the network sees them, in one file: ``own.npz`` of a run.

The file keeps what preprocessing made of each picture, so that a candidate can be judged after the
pictures themselves are gone, and the next training can learn from them again.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnpipe import records
from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits
from nnpipe.errors import TrainingError
from nnpipe.files import replacing, sha256
from nnpipe.network import Array
from nnpipe.places import in_one_line, printable_name
from nnpipe.preprocess import SIDE, Candidate, Pixels, Prepared

MOST = 100_000
"""Most pictures."""

Rows = npt.NDArray[np.int64]
Text = npt.NDArray[np.str_]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OwnPictures:
    """n labelled pictures, and m ways to understand them."""

    names: Text  # (n,) in reports
    writers: Text  # (n,) empty if not known
    keys: Text  # (n,) SHA-256 of the file, and the place of the digit in a number
    labels: npt.NDArray[np.uint8]  # (n,) 0…9
    held_out: Mask  # (n,) for judging; the others are learned from
    learned: npt.NDArray[np.int64]  # (n,) the way that is learned from, a row of the next
    pixels: Pixels  # (m, 28, 28)
    owners: npt.NDArray[np.int64]  # (m,) the picture of each way, ascending
    refused: Mask  # (m,) whether the way is no single digit
    odds: npt.NDArray[np.float64]  # (m,) see `preprocess.Candidate`

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.labels)

    @cached_property
    def training(self) -> Digits:
        """The digits that are learned from."""
        rows = self.learned[~self.held_out]
        return Digits(self.pixels[rows], self.labels[~self.held_out])

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the pictures, their ways, labels and parts, whatever their order."""
        starts, ends = self._spans
        lines = []
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            ways = (self.pixels[start:end], self.refused[start:end], self.odds[start:end])
            content = sha256(b"".join(array.tobytes() for array in ways))
            way = self.learned[number] - start
            about = self.keys[number], self.labels[number], self.held_out[number], way, content
            lines.append(" ".join(map(str, about)))
        return sha256("\n".join(sorted(lines)).encode())

    @cached_property
    def _spans(self) -> tuple[Rows, Rows]:
        """The first way of each picture, and the one after its last, (n,) each."""
        numbers = np.arange(len(self))
        return (
            np.searchsorted(self.owners, numbers),
            np.searchsorted(self.owners, numbers, side="right"),
        )

    def some(self, chosen: Mask) -> "OwnPictures":
        """Return some of the pictures, chosen by a mask (n,)."""
        return self.take(np.flatnonzero(chosen))

    def take(self, rows: Rows) -> "OwnPictures":
        """Return some of the pictures, in another order."""
        starts, ends = (span[rows] for span in self._spans)
        counts = ends - starts
        firsts = np.cumsum(counts) - counts
        ways = np.arange(counts.sum()) + np.repeat(starts - firsts, counts)
        return OwnPictures(
            names=self.names[rows],
            writers=self.writers[rows],
            keys=self.keys[rows],
            labels=self.labels[rows],
            held_out=self.held_out[rows],
            learned=self.learned[rows] - starts + firsts,
            pixels=self.pixels[ways],
            owners=np.repeat(np.arange(len(rows)), counts),
            refused=self.refused[ways],
            odds=self.odds[ways],
        )

    def holding_out(self, held_out: Mask) -> "OwnPictures":
        """Return the same pictures, others of them held out."""
        return replace(self, held_out=held_out)

    def judged(self, classifier: Classifier) -> tuple[Mask, Array]:
        """Return whether each picture is read right, and the probability of its label, (n,) each.

        Each is read as any other picture is: the classifier chooses among its ways.
        """
        judgements = classifier.judge(self._prepared)
        starts, _ = self._spans
        right, shares = np.zeros(len(self), bool), np.zeros(len(self))
        for number, (start, judgement) in enumerate(zip(starts, judgements, strict=True)):
            probabilities = judgement.probabilities[judgement.chosen]
            if not self.refused[start + judgement.chosen]:
                shares[number] = probabilities[self.labels[number]]
                right[number] = (
                    probabilities.argmax() == self.labels[number]
                    and probabilities.max() >= classifier.threshold
                )
        return right, shares

    @cached_property
    def _prepared(self) -> list[Prepared]:
        return [
            Prepared(
                tuple(
                    Candidate(
                        "", self.pixels[w], "refused" if self.refused[w] else "", self.odds[w]
                    )
                    for w in range(start, end)
                ),
                SIDE,
                SIDE,
            )
            for start, end in zip(*self._spans, strict=True)
        ]

    def save(self, path: Path) -> None:
        """Write them.

        Raises:
            OutputError: the file cannot be written.
        """
        with replacing(path) as stream:
            arrays = {field.name: getattr(self, field.name) for field in fields(self)}
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "OwnPictures":
        """Read the pictures that `save` wrote.

        Raises:
            TrainingError: the file is missing or damaged.
        """
        try:
            content = records.read_bytes(path)
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(one.file_size for one in archive.infolist()) > records.MOST_BYTES:
                    raise ValueError("it is too large")
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                pictures = cls(**{field.name: file[field.name] for field in fields(cls)})
            pictures._check()
            names, writers = (
                np.array([printable_name(one) for one in texts.tolist()], np.str_)
                for texts in (pictures.names, pictures.writers)
            )
            return replace(pictures, names=names, writers=writers)
        except FileNotFoundError:
            raise TrainingError(
                f"{path}: there is no such file; expected the pictures of an earlier training"
            ) from None
        except Exception as error:  # NumPy can raise anything for a damaged file
            raise TrainingError(f"{path}: is damaged ({in_one_line(error)})") from error

    def _check(self) -> None:
        """Check shapes, types and ranges."""
        n, m = len(self.labels), len(self.owners)
        kinds = {"U": (self.names, self.writers, self.keys), "b": (self.held_out, self.refused)}
        kinds |= {"i": (self.learned, self.owners), "f": (self.odds,), "u": (self.labels,)}
        if not all(array.dtype.kind == kind for kind, some in kinds.items() for array in some):
            raise ValueError("its arrays have other types")
        of_pictures = (self.names, self.writers, self.keys, self.held_out, self.learned)
        of_ways = (self.refused, self.odds)
        fits = (
            all(array.shape == (n,) for array in of_pictures)
            and all(array.shape == (m,) for array in of_ways)
            and self.pixels.shape == (m, SIDE, SIDE)
            and self.pixels.dtype == np.uint8
            and n <= MOST
            and bool((self.labels <= 9).all())
            and bool((np.unique(self.owners) == np.arange(n)).all())
            and bool((np.diff(self.owners) >= 0).all())
            and bool((self.learned >= 0).all())
            and bool((self.owners[self.learned] == np.arange(n)).all())
            and bool((self.odds >= 1).all() and np.isfinite(self.odds).all())
            and len(np.unique(self.keys)) == n
        )
        if not fits:
            raise ValueError("its arrays do not fit each other")


def file_of(key: str) -> str:
    """Return the SHA-256 of the file that a picture is from, or is a digit of."""
    return key.partition(" ")[0]


def together(parts: Sequence[OwnPictures]) -> OwnPictures:
    """Return the pictures of several collections in the order of their keys.

    A picture that is in several of them is that of the earliest one.
    """
    seen, chosen = set[str](), list[OwnPictures]()
    for part in parts:
        new = np.array([key not in seen for key in part.keys], bool)
        seen.update(part.keys)
        chosen.append(part.some(new))
    counts = np.cumsum([0, *(len(part) for part in chosen)])
    ways = np.cumsum([0, *(len(part.owners) for part in chosen)])
    values = {
        field.name: np.concatenate([getattr(part, field.name) for part in chosen])
        for field in fields(OwnPictures)
    }
    for name, starts in (("owners", counts), ("learned", ways)):
        moved = (getattr(p, name) + start for p, start in zip(chosen, starts, strict=False))
        values[name] = np.concatenate(list(moved))
    pictures = OwnPictures(**values)
    return pictures.take(np.argsort(pictures.keys))
