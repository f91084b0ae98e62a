"""Numbers of several digits: cuts, the search, and whole pictures."""

import itertools

import numpy as np
import pytest

from nnpipe.datasets import Digits, composed, drawn
from nnpipe.errors import SettingError
from nnpipe.numbers import cuts, line, ways
from nnpipe.numbers.constraints import FITS, MOST_DIGITS, Wanted, wanted
from nnpipe.numbers.pieces import Lattice
from nnpipe.numbers.prior import Weights
from nnpipe.numbers.search import SIGNS, Graph, locate, search

from .seen import champion

# --- the search, against an enumeration of all paths ----------------------------------------------


def random_lattice(rng, parts):
    """A lattice with random weights, of which only what the search needs is filled in."""
    edges = [(a, b) for a in range(parts) for b in range(a + 1, min(parts, a + 3) + 1)]
    first, last = np.array(edges).T
    n = len(edges)
    nothing = np.zeros((n, 4))
    lattice = Lattice(
        way=ways.PLAIN,
        parts=parts,
        first=first,
        last=last,
        pixels=np.zeros((n, 28, 28), np.uint8),
        shapes=nothing,
        parts_shapes=nothing,
        separators=("",) * parts,
        main=first,
        through=np.zeros(parts + 1, bool),
        boxes=nothing,
    )
    digits = rng.random((n, len(SIGNS))) + 0.05
    digits[:, 4:] = 0  # few digits, so that all numbers can be written down
    torn = rng.random(parts + 1)
    return lattice, Weights(digits, rng.random(parts) * 0.3, torn, float(rng.random()))


def paths(lattice, weights, at=0, label="", weight=1.0, pieces=(), over=False):
    """Yield the label, the weight and the pieces of every path."""
    if at == lattice.parts:
        yield label, weight * weights.way, pieces
        return
    torn = weights.torn[at]
    further = weight * weights.passed[at] * (1 if over else torn)
    yield from paths(lattice, weights, at + 1, label, further, pieces, over=True)
    for edge in np.flatnonzero(lattice.first == at).tolist():
        for sign in np.flatnonzero(weights.digits[edge]).tolist():
            further = weight * weights.digits[edge, sign] * (torn if over else 1)
            after, last = label + SIGNS[sign], int(lattice.last[edge])
            yield from paths(lattice, weights, last, after, further, (*pieces, edge))


@pytest.fixture(params=range(3))
def lattices(request):
    rng = np.random.default_rng(request.param)
    return [random_lattice(rng, parts) for parts in (4, 3)]


def sums(lattices):
    """The weight of each number, by enumeration."""
    total: dict[str, float] = {}
    for lattice, weights in lattices:
        for label, weight, _ in paths(lattice, weights):
            total[label] = total.get(label, 0) + weight
    return total


def found(lattices, wanted=None):
    graph = Graph.of(*zip(*lattices, strict=True))
    return list(search(graph, wanted) if wanted else search(graph, Wanted(1, MOST_DIGITS)))


@pytest.mark.parametrize(("fewest", "most"), [(1, MOST_DIGITS), (2, 2), (1, 3), (4, 9)])
def test_the_search_finds_every_number_with_its_share_in_order(lattices, fewest, most):
    everything = {k: v for k, v in sums(lattices).items() if fewest <= len(k) <= most}
    numbers = found(lattices, Wanted(fewest, most))
    fits = sum(everything.values())
    total = fits + (sum(sums(lattices).values()) - fits) / Wanted(fewest, most).length_odds
    assert {n.label for n in numbers} == everything.keys()
    for number in numbers:
        assert number.share == pytest.approx(everything[number.label] / total)
    shares = [number.share for number in numbers]
    assert shares == sorted(shares, reverse=True)


def test_the_search_finds_only_what_fits(lattices):
    some = {"012", "30", "3", "1111"}
    fits = wanted(valid=some)
    assert {n.label for n in found(lattices, fits)} == some & sums(lattices).keys()
    odd = Wanted(check=lambda digits: int(digits) % 2 == 1)
    assert {n.label for n in found(lattices, odd)} == {
        label for label in sums(lattices) if label and label[-1] in "13"
    }


def test_pieces_are_those_of_the_most_probable_path(lattices):
    lattice, weights = zip(*lattices, strict=True)
    for label in ("0", "12", "301"):
        of_all = [
            (weight, way, list(pieces))
            for way, (one, w) in enumerate(lattices)
            for text, weight, pieces in paths(one, w)
            if text == label
        ]
        assert locate(lattice, weights, label=label) == max(of_all)[1:]


def test_no_paths_are_no_numbers():
    lattice, weights = random_lattice(np.random.default_rng(0), 2)
    graph = Graph.of([lattice], [weights._replace(digits=np.zeros_like(weights.digits))])
    assert list(search(graph)) == []


# --- constraints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"digits": "x"},
        {"digits": "6-2"},
        {"digits": 0},
        {"digits": 99},
        {"digits": -3},
        {"separators": "x"},
        {"between": "9-1"},
        {"between": "a"},
        {"valid": []},
        {"valid": ["12a"]},
        {"valid": [""]},
        {"valid": ["١٢"]},
        {"check": "os"},
        {"check": "no_such_check"},
        {"check": "../x"},
    ],
    ids=str,
)
def test_what_cannot_be_wanted_is_said(given):
    with pytest.raises(SettingError, match=next(iter(given))):
        wanted(**given)


def test_a_list_may_be_a_file_with_a_heading_and_further_columns(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("\ufeffid,name\n007,Bond\n\n0815,Standard\n")
    fits = wanted(valid=file)
    assert [fits.accepts(label) for label in ("007", "0815", "7", "815")] == [1, 1, 0, 0]
    assert fits.may_begin("08")
    assert not fits.may_begin("1")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"id\n", b"12\nabc\n", b"\xff\xfe1", b"1" * 99])
def test_a_list_that_is_none_is_said_with_its_name(tmp_path, content):
    file = tmp_path / "ids.csv"
    file.write_bytes(content)
    with pytest.raises(SettingError, match=r"ids\.csv"):
        wanted(valid=file)
    with pytest.raises(SettingError, match=r"none\.csv: cannot be read"):
        wanted(valid=tmp_path / "none.csv")


def test_check_digits_are_those_of_python_stdnum():
    luhn = wanted(check="luhn")
    assert luhn.accepts("79927398713")
    assert not luhn.accepts("79927398710")
    one_in_ten = 10 * FITS / (1 - FITS)
    assert luhn.odds("7992739") == pytest.approx(one_in_ten, rel=0.2)
    assert wanted(check="ean").accepts("4006381333931")


def test_the_odds_of_a_list_count_what_its_numbers_have_in_common():
    alike = wanted(valid=[f"16020{n:04}" for n in range(0, 10_000, 10)])
    random = wanted(valid=[str(n) for n in np.random.default_rng(0).integers(10**8, 10**9, 1000)])
    assert alike.odds("160200010") < random.odds(random.valid.numbers[0]) / 1e3


# --- pictures -------------------------------------------------------------------------------------


def numbers(kind, count=20, **options):
    labels = np.arange(400) % 10
    digits = drawn.draw(labels, np.random.default_rng(5))
    rng = np.random.default_rng(7)
    some = composed.compose(Digits(digits, labels), rng, count=20 * count, kind=kind, **options)
    large = [one for one in some if np.mean(np.diff(one.boxes[:, [1, 3]], axis=1)) > 30]
    return large[:count]


def right(some, **options):
    read = [champion().read(one.picture, digits="any", **options) for one in some]
    return np.mean([r.label == one.label for r, one in zip(read, some, strict=True)])


def test_a_cut_between_two_digits_crosses_no_ink_and_parts_keep_all_ink():
    for number in numbers("apart", 5):
        found = line.find(number.picture, light=True, even=True, printed=False, small=False)
        cut = cuts.cut(found)
        mass = np.bincount(cut.parts.ravel(), found.strength.ravel())
        assert mass.sum() == found.strength.sum(dtype=float)
        assert len(cut.crossed) == cut.parts.max() + 2
        assert np.count_nonzero(cut.crossed < 0.1) > len(number.label)  # both ends among them


def test_numbers_that_stand_apart_are_read():
    assert right(numbers("apart")) >= 0.6


def test_boxes_lie_on_the_picture_where_the_digits_are():
    for number in numbers("apart"):
        reading = champion().read(number.picture, digits="any")
        if reading.label != number.label:
            continue
        assert [str(digit.digit) for digit in reading.digits] == list(number.label)
        for digit, box in zip(reading.digits, number.boxes, strict=True):
            middle = (digit.left + digit.right) / 2, (digit.top + digit.bottom) / 2
            assert box[0] - 3 < middle[0] < box[2] + 3
            assert box[1] - 3 < middle[1] < box[3] + 3


def test_the_length_is_kept_to():
    for number in numbers("apart", 5):
        for digits, lengths in ((2, {2}), ("3", {3}), ("2-4", {2, 3, 4})):
            reading = champion().read(number.picture, digits=digits)
            assert reading.label is None or len(reading.label) in lengths


def test_the_number_itself_is_found_in_a_list_and_no_other_is_made_of_it():
    rng = np.random.default_rng(1)
    some = numbers("apart", length=(6, 6))
    others = [f"{n:06}" for n in rng.integers(0, 10**6, 200)]
    assert right(some, valid=[*others, *(one.label for one in some)]) >= 0.9
    without = [champion().read(one.picture, digits="any", valid=others) for one in some]
    refused = [reading for reading in without if reading.status == "rejected"]
    assert len(refused) >= 0.8 * len(some)  # some in the list differ from it by one digit
    assert {reading.reason for reading in refused} == {"none of the numbers that are possible"}


def test_separators_are_kept_where_they_are_wanted():
    some = [one for one in numbers("marked", 60) if "," in one.spelled or "." in one.spelled]
    read = [champion().read(one.picture, digits="any", separators=".,:-") for one in some]
    pairs = [
        (r.label, one)
        for r, one in zip(read, some, strict=True)
        if r.label and "".join(filter(str.isdigit, r.label)) == one.label
    ]
    assert len(pairs) >= 5
    places = [
        [at for at, sign in enumerate(label) if not sign.isdigit()]
        == [at for at, sign in enumerate(one.spelled) if not sign.isdigit()]
        for label, one in pairs
    ]
    assert np.mean(places) >= 0.5
    assert all(
        champion().read(one.picture, digits="any").label in (None, *map(str, range(10**6)))
        or "," not in (champion().read(one.picture, digits="any").label or "")
        for _, one in pairs[:3]
    )


def nothing(name):
    rng = np.random.default_rng(3)
    sheet = np.full((120, 400), 255, np.uint8)
    if name == "noise":
        return rng.integers(0, 256, sheet.shape).astype(np.uint8)
    if name == "a line":
        sheet[60:64] = 0
    if name == "a page":
        for row, column in itertools.product(range(6), range(40)):
            sheet[row * 20 : row * 20 + 12, column * 10 : column * 10 + 7] = rng.integers(
                0, 2, (12, 7)
            ) * np.uint8(255)
    return sheet


@pytest.mark.parametrize("name", ["blank", "noise", "a line", "a page"])
def test_what_shows_no_number_is_rejected_with_a_reason(name):
    reading = champion().read(nothing(name), digits="any")
    assert reading.status == "rejected"
    assert reading.label is None
    assert reading.digits == ()
    assert reading.reason


def test_a_file_that_is_no_picture_is_an_error():
    reading = champion().read(b"hello", digits="any")
    assert reading.status == "error"
    assert reading.reason


def test_the_second_number_is_less_probable():
    for number in numbers("apart", 5):
        reading = champion().read(number.picture, digits="any")
        assert 0 <= (reading.second_confidence or 0) <= reading.confidence <= 1
        assert reading.second != reading.label


@pytest.mark.slow
def test_a_list_of_a_million_numbers_is_read(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("".join(f"{n}\n" for n in range(10**6, 2 * 10**6)))
    fits = wanted(valid=file)
    assert fits.accepts("1234567")
    assert not fits.may_begin("2")
    file.write_text("".join(f"{n}\n" for n in range(10**6, 2 * 10**6 + 1)))
    with pytest.raises(SettingError, match=r"more than 1,000,000"):
        wanted(valid=file)
