"""What learning from 10, 20 or 50 pictures of a hand brings, and what it costs on MNIST.

    python benchmarks/own_pictures.py [FOLDER…] [--weights FILE] [--data-dir data] [--repeats 5]

Four hands are made of MNIST's validation digits: turned by 30°, slanted, narrow and flat ones. Each
folder is another hand; it has a sub-folder for each digit. Of its pictures, some are learned from,
chosen at random, and all others are read. This is repeated, with other choices, and the means are
printed.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import load, machine, option_parser, row, table
from PIL import Image

from nnpipe.adaptation import Replay, adapt
from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits
from nnpipe.network import Network
from nnpipe.own.collecting import collect
from nnpipe.own.pictures import OwnPictures
from nnpipe.preprocess import SIDE, as_inputs

COUNTS = 10, 20, 50

MOST_LEARNED = 0.7
"""Share of a hand's pictures that is learned from at most."""

COMPOSED = 1500
"""Pictures of each hand that is made of validation digits."""

HANDS = {
    "turned by 30°": np.array([[0.866, -0.5], [0.5, 0.866]]),
    "slanted": np.array([[1, 0.6], [0, 1]]),
    "narrow": np.diag([1.9, 1]),
    "flat": np.diag([1, 1.7]),
}
"""Matrices from a place in the picture to that in the digit, from the middle."""


def main() -> None:
    """Adapt to each hand, and print a table as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    machine("opencv-python-headless")
    data, reader = load(given.data_dir), Classifier.load(given.weights)
    network = reader.weights.network
    replay = Replay.of(network, data.training, seed=0)
    validation = as_inputs(data.validation.images), data.validation.labels

    def with_network(new: Network) -> Classifier:
        return replace(reader, weights=reader.weights._replace(network=new))

    def on_mnist(one: Classifier) -> float:
        return float((one.logits(data.test.images).argmax(axis=1) == data.test.labels).mean())

    table(
        "Own pictures",
        "hand",
        "pictures",
        "learned from",
        "others read right before",
        "after",
        "errors left",
        "MNIST's test digits, change in points",
    )
    before_mnist = on_mnist(reader)
    hands = list(composed(data.validation))
    hands += [(folder.name, collect([folder], reader).pictures) for folder in given.folders]
    for name, own in hands:
        for count in COUNTS:
            if count > len(own) * MOST_LEARNED:
                continue
            before, after, mnist = [], [], []
            for seed in range(given.repeats):
                learned = np.zeros(len(own), bool)
                learned[np.random.default_rng(seed).permutation(len(own))[:count]] = True
                some, rest = own.some(learned), own.some(~learned)
                digits = Digits(some.pixels[some.learned], some.labels)
                new, _ = adapt(network, digits, replay=replay, validation=validation, seed=seed)
                before.append(rest.judged(reader)[0].mean())
                after.append(rest.judged(with_network(new))[0].mean())
                mnist.append(on_mnist(with_network(new)) - before_mnist)
            left = (1 - np.mean(after)) / max(1 - np.mean(before), 1e-9)
            row(
                name,
                len(own),
                count,
                f"{np.mean(before):.2%}",
                f"{np.mean(after):.2%}",
                f"{left:.0%}",
                f"{100 * np.mean(mnist):+.2f}",
            )


def composed(digits: Digits) -> Iterator[tuple[str, OwnPictures]]:
    """Yield the names of hands and their digits, each changed in the same way."""
    rows = np.random.default_rng(0).permutation(len(digits.labels))[:COMPOSED]
    labels, middle = digits.labels[rows], np.full(2, (SIDE - 1) / 2)
    numbers = np.arange(len(rows))
    for name, matrix in HANDS.items():
        how = np.column_stack([matrix, middle - matrix @ middle]).ravel().tolist()
        pixels = [
            Image.fromarray(image).transform(
                (SIDE, SIDE), Image.Transform.AFFINE, how, Image.Resampling.BILINEAR
            )
            for image in digits.images[rows]
        ]
        names = numbers.astype(str)
        yield (
            name,
            OwnPictures(
                names=names,
                writers=np.full(len(rows), name),
                keys=names,
                labels=labels,
                held_out=np.zeros(len(rows), bool),
                learned=numbers,
                pixels=np.array(pixels),
                owners=numbers,
                refused=np.zeros(len(rows), bool),
                odds=np.ones(len(rows)),
            ),
        )


if __name__ == "__main__":
    main()
