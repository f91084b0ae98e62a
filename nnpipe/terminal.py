"""How answers, tables and errors look in a terminal."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnpipe.classifier import Reading
from nnpipe.errors import NnpipeError
from nnpipe.hints import HINTS, REASONS
from nnpipe.places import in_one_line, printable

if TYPE_CHECKING:  # takes OpenCV, which is loaded when it is needed
    from nnpipe.numbers.reading import Number


def say(text: str) -> None:
    """Print a line to stderr."""
    print(printable(text), file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, the columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(printable("  ".join(map(str.ljust, row, widths)).rstrip()))


def with_hint(error: NnpipeError) -> str:
    """Return the message of an error in one line, and what to do."""
    hint = f"; {HINTS[error.advice].command_line}" if error.advice else ""
    return f"{in_one_line(error)}{hint}"


def most_likely(reading: Reading, top_k: int) -> list[tuple[int, float]]:
    """Return the ``top_k`` most likely digits: all ten in order, or fewer by probability."""
    shares = list(enumerate(reading.probabilities or ()))
    if top_k == len(shares):
        return shares
    return sorted(shares, key=lambda pair: -pair[1])[:top_k]


def digit_as_text(name: str, reading: Reading, *, top_k: int) -> str:
    """Return an answer, and a bar for each of the most likely digits."""
    bars = [
        f"  {digit}  {'█' * round(share * 40):<40} {share:6.1%}"
        for digit, share in most_likely(reading, top_k)
    ]
    return "\n".join([_headline(name, reading), *bars])


def number_as_text(name: str, number: "Number") -> str:
    """Return a number, the second most likely one, and how sure each digit is."""
    lines = [_headline(name, number)]
    if number.label and number.second:
        lines.append(f"  second  {number.second}  ({number.second_confidence:.1%})")
    if number.digits:
        shares = (f"{digit.digit} {digit.probability:.0%}" for digit in number.digits)
        lines.append(f"  digits  {'   '.join(shares)}")
    return "\n".join(lines)


def as_blocks(pixels: Any) -> str:
    """Draw pixels, uint8 (h, w), in five shades, two characters wide, since characters are tall."""
    return "\n".join("".join(" ░▒▓█"[level // 52] * 2 for level in row) for row in pixels)


def _headline(name: str, reading: "Reading | Number") -> str:
    if reading.status == "ok":
        note = f"; {reading.reason}" if reading.reason else ""
        return f"{name}: {reading.label}  ({reading.confidence:.1%}{note})"
    reasons = [reading.reason]
    if advice := REASONS.get(reading.reason):
        reasons.append(HINTS[advice].command_line)
    return f"{name}: rejected ({'; '.join(reasons)})"
