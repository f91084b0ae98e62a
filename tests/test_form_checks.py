"""Checks across fields decide doubtful digits, and say so; what does not add up is doubtful."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpipe.forms.checks import settle
from nnpipe.forms.description import Check, Field, Form
from nnpipe.forms.joint import ADDS_UP, CHANCE, LEAST, marginals
from nnpipe.numbers.constraints import wanted
from nnpipe.numbers.reading import Number


def number(**shares):
    """A number as it is read: its candidates, such as n41=0.6, the most probable one first."""
    candidates = tuple((name[1:], share) for name, share in shares.items())
    label, confidence = candidates[0]
    return Number("ok", label, confidence, candidates=candidates)


UNREAD = Number("rejected", confidence=0.0, reason="blank")


def form(*checks, digits="any"):
    """A form with the fields of checks such as "a + b = total"."""
    sides = [[side.split(" + ") for side in check.split(" = ")] for check in checks]
    names = dict.fromkeys(name for check in sides for side in check for name in side)
    fields = tuple(Field(name, (0, 0, 0.1, 0.1), wanted(digits)) for name in names)
    return Form(b"", fields, tuple(map(Check, checks, [tuple(map(tuple, s)) for s in sides])))


def test_a_check_decides_a_doubtful_digit():
    a, b, total = number(n41=0.6, n47=0.39), number(n12=0.99), number(n59=0.98)
    settled = settle(form("a + b = total"), [a, b, total])
    assert [one.label for one in settled] == ["47", "12", "59"]
    assert settled[0].status == "ok"
    assert settled[0].confidence > 0.95
    assert settled[0].reason == "41 by itself; a + b = total decides"
    assert (settled[0].second, settled[0].second_confidence < 0.05) == ("41", True)
    assert not settled[1].reason


def test_a_check_that_holds_makes_its_fields_surer():
    read = [number(n41=0.9, n47=0.05), number(n12=0.9, n72=0.05), number(n53=0.9, n63=0.05)]
    for before, after in zip(read, settle(form("a + b = total"), read), strict=True):
        assert (after.status, after.label, after.reason) == ("ok", before.label, "")
        assert after.confidence > 0.98


def test_a_check_that_fails_changes_nothing_and_makes_its_fields_doubtful():
    read = [number(n413=0.99), number(n088=0.97, n080=0.02), number(n020=0.99), number(n525=0.98)]
    settled = settle(form("a + b + blank = total"), read)
    for before, after in zip(read, settled, strict=True):
        assert (after.status, after.label) == ("doubtful", before.label)
        assert after.reason == "a + b + blank is 521, total says 525"


def test_people_miscount_so_a_sure_digit_is_not_changed():
    read = [number(n41=0.9999, n47=0.00011), number(n12=0.9999), number(n59=0.9999)]
    settled = settle(form("a + b = total"), read)
    assert [(one.label, one.status) for one in settled] == [
        ("41", "doubtful"),
        ("12", "doubtful"),
        ("59", "doubtful"),
    ]


def test_leading_zeros_stay():
    settled = settle(form("a + b = c"), [number(n088=0.9), number(n004=0.9), number(n092=0.9)])
    assert [one.label for one in settled] == ["088", "004", "092"]
    assert {one.status for one in settled} == {"ok"}


def test_the_sum_gives_one_field_that_is_not_read():
    for unread in range(3):
        read = [number(n041=0.99), number(n012=0.98), number(n053=0.97)]
        labels = [one.label for one in read]
        read[unread] = UNREAD
        settled = settle(form("a + b = total", digits=3), read)
        assert [one.label for one in settled] == labels
        assert settled[unread].status == "doubtful"
        assert settled[unread].reason == "from the sum a + b = total, since by itself: blank"
        assert settled[unread].confidence < 0.95


def test_two_fields_that_are_not_read_leave_a_check_undecided():
    read = [number(n41=0.9), UNREAD, UNREAD]
    settled = settle(form("a + b = total"), read)
    assert settled[1:] == [UNREAD, UNREAD]
    assert (settled[0].label, settled[0].status) == ("41", "ok")
    assert settled[0].confidence == pytest.approx(0.9, abs=0.001)


def test_a_sum_that_does_not_fit_its_field_is_not_put_there():
    for a, total in (("n50", "n20"), ("n01", "n99")):  # −30; and 98, which has too many digits
        read = [number(**{a: 0.99}), UNREAD, number(**{total: 0.99})]
        settled = settle(form("a + b = total", digits="1"), read)
        assert settled[1] == UNREAD


def test_sums_of_sums_decide_together():
    """The grand total tells which of two fields of the first sum is wrong."""
    read = [
        number(n10=0.6, n16=0.35),
        number(n20=0.99),
        number(n36=0.55, n30=0.44),
        number(n8=0.99),
        number(n44=0.99),
    ]
    settled = settle(form("a + b = s", "s + d = t"), read)
    assert [one.label for one in settled] == ["16", "20", "36", "8", "44"]


def test_fields_without_a_check_stay_as_they_are():
    described = form("a = b")
    fields = (*described.fields, Field("c", (0, 0, 0.1, 0.1), wanted()))
    alone = number(n5=0.5, n6=0.4)
    settled = settle(Form(b"", fields, described.checks), [number(n1=0.9), number(n1=0.9), alone])
    assert settled[2] is alone


def test_separators_are_no_part_of_a_value():
    read = [Number("ok", "1.200", 0.9), Number("ok", "300", 0.9), Number("ok", "1.500", 0.9)]
    assert [one.label for one in settle(form("a + b = c"), read)] == ["1.200", "300", "1.500"]


def brute_force(every, signs, involved):
    """All combinations, one by one."""
    choices = [[*one.items(), (None, max(1 - sum(one.values()), LEAST))] for one in every]
    posteriors = [np.zeros(len(one)) for one in choices]
    for combination in product(*map(enumerate, choices)):
        weight = prod(share for _, (_, share) in combination)
        for column in range(signs.shape[1]):
            labels = [
                c[1][0] for c, used in zip(combination, involved[:, column], strict=True) if used
            ]
            if None in labels:
                continue
            values = [int(c[1][0] or 0) for c in combination]
            holds = int(np.dot(values, signs[:, column])) == 0
            weight *= ADDS_UP / CHANCE if holds else 1 - ADDS_UP
        for field, (index, _) in enumerate(combination):
            posteriors[field][index] += weight
    return [one / one.sum() for one in posteriors]


@st.composite
def problems(draw):
    fields, checks = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    share = st.floats(0.001, 1)
    every = []
    for _ in range(fields):
        labels = draw(st.lists(st.integers(0, 9).map(str), max_size=3, unique=True))
        shares = np.array([draw(share) for _ in labels])
        every.append(dict(zip(labels, (shares / max(shares.sum(), 1)).tolist(), strict=True)))
    cells = st.lists(st.sampled_from([-1, 0, 1]), min_size=fields, max_size=fields)
    signs = np.array([draw(cells) for _ in range(checks)], np.int64).T
    signs[0] = 1  # no check is empty
    return every, signs


@settings(deadline=None, max_examples=60)
@given(problems())
def test_posteriors_are_those_of_all_combinations(problem):
    every, signs = problem
    got = marginals(every, signs=signs, involved=signs != 0)
    for one, other in zip(got, brute_force(every, signs, signs != 0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_a_check_of_thirty_fields_is_decoded():
    rng = np.random.default_rng(0)
    names = [f"f{n}" for n in range(30)]
    read = []
    for _ in names:
        labels = rng.choice(900, 20, replace=False) + 100
        shares = 0.9 * rng.dirichlet(np.full(20, 0.3))
        order = np.argsort(-shares)
        read.append(number(**{f"n{labels[i]}": float(shares[i]) for i in order}))
    truth = sum(int(one.label) for one in read)
    described = form(f"{' + '.join(names)} = total")
    settled = settle(described, [*read, number(**{f"n{truth}": 0.99})])
    assert [one.label for one in settled[:-1]] == [one.label for one in read]


def test_a_table_of_marks_with_sums_of_rows_and_columns_is_decoded():
    rng = np.random.default_rng(1)
    marks = rng.integers(0, 100, (6, 6))
    names = [[f"r{r}c{c}" for c in range(6)] for r in range(6)]
    checks = [f"{' + '.join(row)} = row{r}" for r, row in enumerate(names)]
    checks += [
        f"{' + '.join(column)} = col{c}" for c, column in enumerate(zip(*names, strict=True))
    ]
    described = form(*checks)
    truth = {names[r][c]: marks[r, c] for r in range(6) for c in range(6)}
    truth |= {f"row{r}": marks[r].sum() for r in range(6)}
    truth |= {f"col{c}": marks[:, c].sum() for c in range(6)}
    read = [number(**{f"n{truth[f.name]}": 0.9, "n7": 0.03, "n1": 0.02}) for f in described.fields]
    wrong = [one.name for one in described.fields].index("r2c3")
    read[wrong] = number(n7=0.6, **{f"n{truth['r2c3']}": 0.3})
    settled = settle(described, read)
    assert [int(one.label) for one in settled] == [truth[f.name] for f in described.fields]
    assert "decides" in settled[wrong].reason


def test_the_outer_sides_of_three_are_compared_if_the_middle_one_is_not_read():
    settled = settle(form("a = b = c"), [number(n41=0.6, n47=0.4), UNREAD, number(n47=0.99)])
    assert [one.label for one in settled] == ["47", "47", "47"]
