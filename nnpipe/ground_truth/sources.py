"""Files with labels: a folder with a sub-folder for each digit, or a CSV file that lists them.

FOLDER/0/…  FOLDER/1/…  …  FOLDER/9/…       any pictures, some of the ten, at any depth
labels.csv: file,label[,writer]             pictures beside the CSV file, or below it
"""

import codecs
import csv
import io
import os
import re
from pathlib import Path
from typing import NamedTuple

from nnpipe.errors import LabelError
from nnpipe.numbers.constraints import MOST_DIGITS
from nnpipe.places import encode_path, printable_name
from nnpipe.records import read_bytes
from nnpipe.scoring.entries import is_litter

SEPARATORS = " .,:-/'"
"""Signs in the label of a number that are ignored."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How files in UTF-16 begin."""

EXPECTED = "expected the columns file and label, and one picture per line"


class LabelledFile(NamedTuple):
    """A file, and what it shows."""

    path: Path
    name: str  # in reports: below its folder, or as the CSV file has it
    label: str  # the digits alone, such as "7" or "007"
    writer: str = ""  # who wrote it, or the sheet that it is from; empty if that is not known


def list_folder(folder: Path) -> tuple[list[LabelledFile], list[str]]:
    """Return the files in the sub-folders 0 … 9, in the order of their paths, and other names.

    Raises:
        LabelError: there is no such folder, or a sub-folder has another name.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise LabelError(
            f"{folder}: is no folder that can be read ({error.strerror}); "
            "expected one with a sub-folder for each digit, 0 … 9"
        ) from None
    left_out = [entry for entry in entries if not entry.is_dir() or is_litter(entry.name)]
    kinds = [entry for entry in entries if entry not in left_out]
    for kind in kinds:
        if len(kind.name) != 1 or kind.name not in "0123456789":
            raise LabelError(
                f"{folder}: its sub-folder '{_name(kind, folder)}' is no digit; each sub-folder "
                "is named 0 … 9 after what its pictures show, so rename it or move it away"
            )

    def stop(error: OSError) -> None:
        raise LabelError(f"{error.filename}: cannot be listed ({error.strerror})")

    files = []
    for kind in kinds:
        for place, folders, names in os.walk(kind, onerror=stop):
            # Links to folders are named and not followed, which might never end.
            links = [name for name in folders if Path(place, name).is_symlink()]
            left_out += [Path(place, name) for name in (*folders, *names) if is_litter(name)]
            paths = (Path(place, name) for name in (*links, *names) if not is_litter(name))
            files += [LabelledFile(path, _name(path, folder), kind.name) for path in paths]
            folders[:] = [name for name in folders if not is_litter(name)]
    return sorted(files), sorted(_name(entry, folder) for entry in left_out)


def _name(path: Path, folder: Path) -> str:
    return encode_path(str(path.relative_to(folder)))


def list_table(path: Path) -> list[LabelledFile]:
    """Return the files that a CSV file lists, in its order.

    Args:
        path: a file with the columns ``file``, relative to the CSV file, and ``label``, which may
            be called ``number``; ``writer`` may be there, too. Commas, semicolons or tabs separate
            the columns. The text is UTF-8, or UTF-16 with a byte order mark.

    Raises:
        LabelError: the file is no such CSV file, a label is no number, or a picture is listed
            twice.
    """
    text = _text(path)
    # Spreadsheets write semicolons where a comma is the decimal point.
    delimiter = max(",;\t", key=text.strip().partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cells)]
    except csv.Error as error:
        raise LabelError(f"{path}: line {reader.line_num}: {error}; {EXPECTED}") from None
    columns = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    kind = "label" if "label" in columns else "number"
    if not {"file", kind} <= set(columns):
        raise LabelError(f"{path}: lacks a column; {EXPECTED}")
    if len(lines) == 1:
        raise LabelError(f"{path}: lists no picture; {EXPECTED}")
    files, before = list[LabelledFile](), dict[str, int]()
    for line, cells in lines[1:]:
        if len(cells) != len(columns):
            raise LabelError(
                f"{path}: line {line} has {len(cells)} cells, and the first line {len(columns)}; "
                "put a label with commas in quotes"
            )
        row = dict(zip(columns, cells, strict=True))
        name, label = row["file"], row[kind]
        digits = label.translate(str.maketrans("", "", SEPARATORS))
        if not re.fullmatch(f"[0-9]{{1,{MOST_DIGITS}}}", digits):
            shown = printable_name(label)[:40]
            raise LabelError(
                f"{path}: line {line}: the label '{shown}' is not a number of 1 to {MOST_DIGITS} "
                "digits; correct it, or remove the line"
            )
        first = before.setdefault(os.path.normpath(name), line)
        if first != line:
            raise LabelError(
                f"{path}: line {line} has the picture of line {first} again; remove one of them"
            )
        writer = printable_name(row.get("writer", "").strip())
        files.append(LabelledFile(path.parent / name, encode_path(name), digits, writer))
    return files


def _text(path: Path) -> str:
    """Return the text of a CSV file."""
    try:
        content = read_bytes(path)
        return content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror}); {EXPECTED}") from None
    except UnicodeDecodeError:
        raise LabelError(f"{path}: is no CSV file in UTF-8; {EXPECTED}") from None
