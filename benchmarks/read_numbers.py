"""How well numbers of several digits are read, how surely, and in what time.

    python benchmarks/read_numbers.py [SETS] [--weights FILE] [--data-dir data] [--count 500]

Numbers are composed of MNIST's validation digits, --count of each kind; or six of these digits
stand side by side, as they are. SETS is a folder of sets of pictures, SETS/<set>/labels.csv with
the columns `file` and `number`. The reader does not know how long a number is, except where the
table says so, and what it refuses counts as wrong. Confidences are compared with what is right
(expected calibration error, ECE; Guo et al. 2017, section 2). The times are beyond decoding, on one
core.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import no_digits
import numpy as np
import ways
from measure import in_turns, load, machine, option_parser, ratios, row, spread, table
from PIL import Image

from nnpipe.classifier import Classifier
from nnpipe.datasets import composed
from nnpipe.errors import NnpipeError
from nnpipe.evaluation.confidence import answer_reliability
from nnpipe.evaluation.statistics import wilson
from nnpipe.numbers.constraints import wanted
from nnpipe.numbers.ways import prepare
from nnpipe.preprocess import Picture

Labelled = list[tuple[Picture, str]]

LISTED, FEWEST = 1000, 100  # numbers of a list; pictures of a set that is read with a list
NO_NUMBERS = 50  # pictures of each kind
FIELD, ROUNDS, REPEATS = 6, 7, 20  # digits of a field whose reading is timed


def measure(classifier: Classifier, name: str, pictures: Labelled) -> None:
    """Print the row of a set."""
    numbers = [classifier.read(picture, digits="any") for picture, _ in pictures]
    known = [classifier.read(picture, digits=len(truth)) for picture, truth in pictures]
    truths = [truth for _, truth in pictures]
    right, given = (
        np.array([n.label == truth for n, truth in zip(some, truths, strict=True)])
        for some in (numbers, known)
    )
    read = np.array([n.status == "ok" for n in numbers])
    confidence = np.array([(n.confidence or 0) * (n.status == "ok") for n in numbers])
    surest = np.argsort(-confidence, kind="stable")[: len(right) // 2]
    share = wilson(int(right.sum()), len(right))
    row(
        name,
        len(right),
        f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})",
        f"{given.mean():.1%}",
        f"{1 - read.mean():.1%}",
        f"{right[surest].mean():.1%}",
        f"{100 * answer_reliability(confidence, right).ece:.1f}",
    )


def find_sets(folder: Path) -> dict[str, Labelled]:
    """The sets of numbers below a folder, by name."""
    sets: dict[str, Labelled] = {}
    for labels in sorted(folder.glob("*/labels.csv")):
        with labels.open(newline="") as stream:
            rows = [one for one in csv.DictReader(stream) if "number" in one]
        if rows:
            sets[labels.parent.name] = [(labels.parent / r["file"], r["number"]) for r in rows]
    return sets


def with_a_list(classifier: Classifier, name: str, pictures: Labelled) -> None:
    """Print how a set is read if a list says which numbers exist."""
    rng = np.random.default_rng(0)
    truths = [truth for _, truth in pictures]
    others = set(truths)
    while len(others) < LISTED:  # numbers that begin like true ones
        one, at = str(rng.choice(truths)), int(rng.integers(2, 6))
        others.add(one[:at] + "".join(map(str, rng.integers(0, 10, max(0, len(one) - at)))))
    names = sorted(others)
    cut = [prepare(picture) for picture, _ in pictures]
    every = classifier.read_numbers(cut, wanted("any", valid=names))
    right = [n.label == truth for n, truth in zip(every, truths, strict=True)]
    without = [
        classifier.read_numbers([one], wanted("any", valid=[n for n in names if n != truth]))[0]
        for one, truth in zip(cut, truths, strict=True)
    ]
    bent = [n.label is not None for n in without]
    row(name, len(names), f"{np.mean(right):.1%}", f"{np.mean(bent):.1%}")


def side_by_side(images: np.ndarray, labels: np.ndarray, count: int) -> Labelled:
    """Six random digits next to each other, as they are."""
    rows = np.random.default_rng(0).integers(0, len(labels), (count, FIELD))
    return [(np.hstack(list(images[some])), "".join(map(str, labels[some]))) for some in rows]


def time_a_field(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> None:
    """Print the time to read a field of six digits, beside the same digits one by one."""
    some = np.random.default_rng(1).integers(0, len(labels), FIELD)
    digits = [255 - np.kron(images[one], np.ones((2, 2), np.uint8)) for one in some]
    field = Image.fromarray(np.hstack(digits))
    alone = [Image.fromarray(digit) for digit in digits]
    times = in_turns(
        {
            "field": lambda _: [classifier.read(field, digits="any") for _ in range(REPEATS)],
            "one by one": lambda _: [classifier.read_many(alone) for _ in range(REPEATS)],
        },
        ROUNDS,
        threads=(1,),
    )
    table("A field of six digits, one core", "way", "milliseconds", "ratio")
    base = times["one by one", 1]
    for (name, _), taken in times.items():
        ms = [1000 * t / REPEATS for t in taken]
        row(name, spread(ms, ".1f"), spread(ratios(taken, base)))


def no_numbers(classifier: Classifier) -> None:
    """Print what share of pictures without a number is read, and read surely."""
    table("Pictures without a number", "picture", "read", "read with more than 50 %")
    for kind, make in {**no_digits.KINDS, **ways.EMPTY}.items():
        if kind == "several":
            continue
        rng = np.random.default_rng(0)
        some = [classifier.read(make(rng), digits="any") for _ in range(NO_NUMBERS)]
        sure = [n.status == "ok" and (n.confidence or 0) > 0.5 for n in some]
        row(kind, f"{np.mean([n.status == 'ok' for n in some]):.0%}", f"{np.mean(sure):.0%}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read all of it, and print the tables as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("sets", nargs="?", type=Path, metavar="SETS")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--count", type=int, default=500, metavar="N")
    given = parser.parse_args(arguments)
    machine("pillow", "opencv-python-headless")
    data = load(given.data_dir).validation
    try:
        classifier = Classifier.load(given.weights)
    except NnpipeError as error:
        sys.exit(str(error))
    columns = ("right", "right, length given", "refused", "right of the surest half", "ECE, points")
    table("Composed numbers", "kind", "numbers", *columns)
    measure(classifier, "six, as they are", side_by_side(*data, given.count))
    for kind in composed.KINDS:
        numbers = composed.compose(data, np.random.default_rng(3), count=given.count, kind=kind)
        measure(classifier, kind, [(n.picture, n.label) for n in numbers])
    sets = find_sets(given.sets) if given.sets else {}
    if sets:
        table("Numbers on real pictures", "set", "numbers", *columns)
        for name, pictures in sets.items():
            measure(classifier, name, pictures)
        columns = ("numbers of the list", "right", "read all the same if the true one is missing")
        table("With a list of all numbers", "set", *columns)
        for name, pictures in sets.items():
            if len(pictures) >= FEWEST:
                with_a_list(classifier, name, pictures)
    no_numbers(classifier)
    time_a_field(classifier, data.images, data.labels)


if __name__ == "__main__":
    main()
