"""Which numbers are possible: their length, a list, a range, a check digit.

Constraints are decoded jointly with the digits, not checked afterwards. A number that fits them is
more probable before any digit is read. If a share `FITS` of all pictures shows a number that fits,
and all of those are equally frequent, then the odds of one of them against any other number, both
being as similar to the picture, are FITS / (1 − FITS) / (M q): M numbers fit, and q is the
probability of this one among numbers of the same make (Bayes).
"""

import importlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nnpipe.errors import SettingError, needs
from nnpipe.places import in_one_line

MOST_DIGITS = 32
"""Digits of the longest number."""

MOST_VALID = 1_000_000
"""Numbers of the longest list."""

FITS = 0.5
"""Share of pictures whose number is expected to fit the constraints."""

LENGTHS = 0.1
"""Share of all numbers that have the length, or one of the lengths, that is asked for."""

TRIED = 4000
"""Random numbers by which the share of numbers with a right check digit is estimated."""

SEPARATORS = ".,:-"
"""Signs that may be kept in a number."""

NOT_POSSIBLE = "none of the numbers that are possible"
"""The reason why a picture is rejected whose number does not fit the constraints."""

NOT_SURE = "not sure enough of any number"
"""The reason why a picture is rejected that shows no number clearly."""

Check = Callable[[str], bool]


class Valid:
    """A list of numbers, the only ones that exist."""

    def __init__(self, numbers: Iterable[str]) -> None:
        self.numbers = sorted(set(numbers))
        # How often each digit stands at each place, by length: the make of the numbers.
        self._counts: dict[int, np.ndarray] = {}
        by_length: dict[int, list[str]] = {}
        for number in self.numbers:
            by_length.setdefault(len(number), []).append(number)
        for length, some in by_length.items():
            digits = np.frombuffer("".join(some).encode(), np.uint8).reshape(-1, length) - ord("0")
            counts = [np.bincount(place, minlength=10) for place in digits.T]
            self._counts[length] = np.array(counts) + 1

    def __contains__(self, number: str) -> bool:
        return self._begins(number) == number

    def any_begins(self, prefix: str) -> bool:
        """Return True if a number of the list begins with a prefix."""
        return self._begins(prefix).startswith(prefix)

    def _begins(self, prefix: str) -> str:
        at = bisect_left(self.numbers, prefix)
        return self.numbers[at] if at < len(self.numbers) else ""

    def expected(self, number: str) -> float:
        """Return how many of the list would be this number if it were drawn place by place."""
        counts = self._counts[len(number)]
        shares = counts[np.arange(len(number)), [int(d) for d in number]] / counts.sum(axis=1)
        return float(len(self.numbers) * shares.prod())


@dataclass(frozen=True)
class Wanted:
    """What numbers are looked for."""

    fewest: int = 1  # digits
    most: int = MOST_DIGITS
    separators: str = ""  # of `SEPARATORS`: they are kept in the label
    valid: Valid | None = None
    between: tuple[int, int] | None = None
    check: Check | None = None

    @property
    def is_free(self) -> bool:
        """Whether all numbers of the length are possible."""
        return not (self.valid or self.between or self.check)

    @property
    def length_odds(self) -> float:
        """The odds of a number of the length against one of another length."""
        free = (self.fewest, self.most) == (1, MOST_DIGITS)
        return 1.0 if free else FITS / (1 - FITS) / LENGTHS

    def may_begin(self, prefix: str) -> bool:
        """Return whether a number that fits may begin with these digits."""
        return not self.valid or self.valid.any_begins(prefix)

    def accepts(self, digits: str) -> bool:
        """Return whether a number fits."""
        if not digits.isdigit():
            return self.is_free
        if self.valid and digits not in self.valid:
            return False
        if self.between and not self.between[0] <= int(digits) <= self.between[1]:
            return False
        return not self.check or self.check(digits)

    def odds(self, digits: str) -> float:
        """Return the odds of a number that fits against another one of its length."""
        expected = 1.0
        if self.valid:
            expected *= self.valid.expected(digits)
        if self.between:
            low, high = self.between
            expected *= max(min(high, 10 ** len(digits) - 1) - low + 1, 1) / 10 ** len(digits)
        if self.check:
            expected *= _density(self.check, len(digits))
        return FITS / (1 - FITS) / min(expected, 1.0)


ANY = Wanted()


@lru_cache(maxsize=256)
def _density(check: Check, length: int) -> float:
    """Estimate the share of numbers of a length that pass a check, at least one of all tried."""
    digits = np.random.RandomState(0).randint(0, 10, (TRIED, length))
    passed = sum(check("".join(map(str, row))) for row in digits.tolist())
    return max(passed, 1) / TRIED


def wanted(
    digits: str | int = "any",
    *,
    separators: str = "",
    valid: str | Path | Iterable[str] | None = None,
    check: str | None = None,
    between: str | None = None,
) -> Wanted:
    """Describe the numbers that are looked for.

    Args:
        digits: how many: "any", 4, "4" or "2-6".
        separators: signs of ".,:-" that are kept in the label.
        valid: the only numbers that exist, or a file with one of them per line.
        check: how the check digit is computed: "luhn", "mod11", "mod97", or another module of
            python-stdnum, such as "ean" or "verhoeff".
        between: the least and the largest number, such as "0-100".

    Raises:
        SettingError: a value has another form, or the list is empty or malformed.
        MissingExtraError: ``check`` needs python-stdnum.
    """
    fewest, most = _span("digits", str(digits), any_is=(1, MOST_DIGITS))
    if not 1 <= fewest <= most <= MOST_DIGITS:
        raise SettingError(f"digits is {digits!r}, expected 1 to {MOST_DIGITS}, such as 4 or 2-6")
    if wrong := set(separators) - set(SEPARATORS):
        raise SettingError(f"separators holds {min(wrong)!r}, expected signs of {SEPARATORS}")
    if between is not None and not isinstance(between, str):
        raise SettingError(f"between is {between!r}, expected text such as '0-100'")
    numbers: list[str] | None = None
    if isinstance(valid, str | Path):
        numbers = _read_list(Path(valid))
    elif valid is not None:
        numbers = [_checked(number, "valid") for number in valid]
    if numbers is not None and not numbers:
        raise SettingError("valid: the list is empty; expected numbers")
    if numbers and not any(fewest <= len(number) <= most for number in numbers):
        raise SettingError(f"valid: no number of the list has {digits} digits")
    return Wanted(
        fewest=fewest,
        most=most,
        separators=separators,
        valid=None if numbers is None else Valid(numbers),
        between=None if between is None else _span("between", between),
        check=None if check is None else _check(check),
    )


def _span(name: str, text: str, *, any_is: tuple[int, int] | None = None) -> tuple[int, int]:
    if text == "any" and any_is:
        return any_is
    match = re.fullmatch(r"(\d{1,32})(?:-(\d{1,32}))?", text.strip(), re.ASCII)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if low > high:
        example = "any, 4 or 2-6" if any_is else "two numbers such as 0-100"
        raise SettingError(f"{name} is {text!r}, expected {example}")
    return low, high


def _read_list(path: Path) -> list[str]:
    """Read the numbers of a file: the first column of each line; a heading is left out."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            cells = [re.split("[,;\t]", line)[0].strip(' \r\n"') for line in stream]
    except OSError as error:
        raise SettingError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise SettingError(f"{path}: is no text in UTF-8; expected one number per line") from None
    if cells and not re.search(r"\d", cells[0]):
        cells[0] = ""
    numbers = [_checked(cell, f"{path}: line {n}") for n, cell in enumerate(cells, 1) if cell]
    if not numbers:
        raise SettingError(f"{path}: holds no numbers; expected one per line")
    if len(numbers) > MOST_VALID:
        raise SettingError(f"{path}: holds more than {MOST_VALID:,} numbers")
    return numbers


def _checked(number: str, where: str) -> str:
    if not re.fullmatch(rf"\d{{1,{MOST_DIGITS}}}", str(number), re.ASCII):
        shown = in_one_line(str(number))[:40]
        raise SettingError(f"{where}: {shown!r} is not a number of 1 to {MOST_DIGITS} digits")
    return str(number)


MODULES = {"mod11": "iso7064.mod_11_10", "mod97": "iso7064.mod_97_10"}
"""Short names of modules of python-stdnum."""


def _check(name: str) -> Check:
    """Return the check of a module of python-stdnum."""
    with needs("numbers", "checking check digits"):
        import stdnum
    module = MODULES.get(name, name)
    valid: Check | None = None
    if re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?", module):
        try:
            valid = importlib.import_module(f"{stdnum.__name__}.{module}").is_valid
        except (ImportError, AttributeError):
            valid = None
    if valid is None:
        raise SettingError(
            f"check is {name!r}, expected luhn, mod11, mod97, verhoeff, damm, or another module of "
            "python-stdnum, such as ean"
        )
    return valid
