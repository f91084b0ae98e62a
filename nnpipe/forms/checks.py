"""Fields whose sums must agree → their numbers, decoded jointly, and what a report says of them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np

from nnpipe.forms.description import Check, Field, Form
from nnpipe.forms.joint import ADDS_UP, LEAST, marginals
from nnpipe.numbers.reading import Number

LONGEST = 15
"""Digits of the longest number that is added up."""


class Equation(NamedTuple):
    """Two sides that are equal, and how a report names them."""

    text: str
    sides: tuple[list[int], list[int]]  # the numbers of the fields


def settle(form: Form, numbers: Sequence[Number]) -> list[Number]:
    """Decide doubtful digits by the checks of a form.

    If the checks decide for another number than a field shows by itself, the field gets it, and the
    reason says so. The confidence of a field in a check becomes its posterior. If a check fails,
    all its fields keep what they show and become doubtful. A field that could not be read gets the
    number that its check leaves, and is doubtful.

    Args:
        form: the form.
        numbers: of the fields, in their order, with their candidates.
    """
    names = [field.name for field in form.fields]

    def read_sides(check: Check) -> list[tuple[str, ...]]:
        """Return the sides that were read: of three, the outer ones are compared, too."""
        return [s for s in check.sides if all(numbers[names.index(n)].label for n in s)]

    # The same equation twice is no more evidence than once.
    equations = {
        frozenset(map(frozenset, pair)): Equation(
            check.text, ([names.index(n) for n in pair[0]], [names.index(n) for n in pair[1]])
        )
        for check in form.checks
        for pair in (*pairwise(check.sides), *pairwise(read_sides(check)))
    }
    settled = list(numbers)
    for together in _connected(list(equations.values())):
        posteriors = _posteriors(together, numbers)
        for index, choices in posteriors.items():
            settled[index] = _decided(numbers[index], choices)
        # A number that no check supports is not changed.
        supported = {i for one in together if not _fails(one, settled) for i in _members(one)}
        for index, choices in posteriors.items():
            if index not in supported and (label := numbers[index].label):
                share = round(choices[_digits(label)], 6)
                settled[index] = replace(numbers[index], confidence=share)
        _fill(together, settled, fields=form.fields)
        _report(together, settled, before=numbers, names=names)
    return settled


def _members(equation: Equation) -> list[int]:
    return [index for side in equation.sides for index in side]


def _connected(equations: list[Equation]) -> list[list[Equation]]:
    """Put equations together that share fields."""
    groups: list[tuple[set[int], list[Equation]]] = []
    for one in equations:
        members, together = set(_members(one)), [one]
        apart = []
        for group in groups:
            if group[0] & members:
                members, together = members | group[0], group[1] + together
            else:
                apart.append(group)
        groups = [*apart, (members, together)]
    return [together for _, together in groups]


def _digits(label: str) -> str:
    """The label without its separators."""
    return "".join(filter(str.isdigit, label))


def _choices(number: Number) -> dict[str, float]:
    """The numbers that a field may show, with their probabilities; none if it was not read."""
    own = _digits(number.label or "")
    if not 0 < len(own) <= LONGEST:
        return {}
    others = {label: share for label, share in number.candidates if share > LEAST}
    choices = {own: number.confidence or 0.0} | others
    return {label: share for label, share in choices.items() if len(label) <= LONGEST}


def _posteriors(
    equations: list[Equation], numbers: Sequence[Number]
) -> dict[int, dict[str, float]]:
    """Return the posteriors of the numbers of each field that was read."""
    order = list(dict.fromkeys(i for one in equations for i in _members(one)))
    signs = np.zeros((len(order), len(equations)), np.int64)
    involved = np.zeros(signs.shape, np.bool_)
    for column, one in enumerate(equations):
        for side, sign in zip(one.sides, (1, -1), strict=True):
            for index in side:
                signs[order.index(index), column] += sign
                involved[order.index(index), column] = True
    every = [_choices(numbers[index]) for index in order]
    shares = marginals(every, signs=signs, involved=involved)
    return {
        index: dict(zip(choices, share.tolist(), strict=False))
        for index, choices, share in zip(order, every, shares, strict=True)
        if choices
    }


def _decided(number: Number, choices: dict[str, float]) -> Number:
    """Return a number with its posterior, or the most probable other one."""
    own = _digits(number.label or "")
    best = max(choices, key=lambda label: choices[label])
    share = round(choices[best], 6)
    if best == own:
        return replace(number, confidence=share)
    second = round(choices[own], 6)
    return replace(
        number, label=best, confidence=share, second=own, second_confidence=second, digits=()
    )


def _sums(equation: Equation, numbers: Sequence[Number]) -> list[int] | None:
    """Return the sums of both sides; None if a field was not read."""
    if any(not numbers[index].label for index in _members(equation)):
        return None
    return [sum(int(_digits(numbers[i].label or "")) for i in side) for side in equation.sides]


def _fails(equation: Equation, numbers: Sequence[Number]) -> bool:
    """Return True unless both sums are read, and equal."""
    sums = _sums(equation, numbers)
    return sums is None or sums[0] != sums[1]


def _fill(equations: list[Equation], numbers: list[Number], *, fields: Sequence[Field]) -> None:
    """Compute fields that were not read from checks that lack no other field, in place."""
    for _ in equations:  # a field that is computed may leave another check with one
        for one in equations:
            unread = [i for i in _members(one) if not numbers[i].label]
            if len(unread) != 1:
                continue
            index = unread[0]
            sums = [
                sum(int(_digits(numbers[i].label or "")) for i in side if i != index)
                for side in one.sides
            ]
            value = sums[1] - sums[0] if index in one.sides[0] else sums[0] - sums[1]
            wanted = fields[index].wanted
            label = str(value).zfill(wanted.fewest)
            if value < 0 or len(label) > wanted.most or not wanted.accepts(label):
                continue
            others = prod(numbers[i].confidence or 0.0 for i in _members(one) if i != index)
            reason = f"from the sum {one.text}, since by itself: {numbers[index].reason}"
            numbers[index] = replace(
                numbers[index],
                status="doubtful",
                label=label,
                confidence=round(ADDS_UP * others, 6),
                second=None,
                second_confidence=None,
                reason=reason,
            )


def _report(
    equations: list[Equation],
    numbers: list[Number],
    *,
    before: Sequence[Number],
    names: Sequence[str],
) -> None:
    """Say in the reasons which checks fail, and which ones decide; in place."""
    for one in equations:
        sums = _sums(one, numbers)
        if sums is None:
            continue
        left, right = (" + ".join(names[index] for index in side) for side in one.sides)
        for index in _members(one):
            number, own = numbers[index], before[index].label
            if sums[0] != sums[1]:
                why = f"{left} is {sums[0]}, {right} says {sums[1]}"
                numbers[index] = _with_reason(replace(number, status="doubtful"), why)
            elif own and _digits(own) != _digits(number.label or ""):
                numbers[index] = _with_reason(number, f"{own} by itself; {one.text} decides")


def _with_reason(number: Number, reason: str) -> Number:
    reasons = number.reason.split("; ") if number.reason else []
    return replace(number, reason="; ".join(dict.fromkeys([*reasons, reason])))
