"""How fast the network from scratch trains, beside scikit-learn, PyTorch and the floor.

    python benchmarks/numpy_training.py [--data-dir data] [--rounds 7] [--epochs 2]

All train 784-128-64-10 on the same digits by SGD with momentum, with one thread, then with two;
what counts is the ratio to a peer's best. The floor is an epoch's bare matrix products, eight in
each step: three forward, three for the gradients of the weights, two back through the layers.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from measure import (
    Inputs,
    Times,
    best,
    in_turns,
    inputs,
    limited,
    load,
    machine,
    option_parser,
    ratios,
    row,
    spread,
    table,
)
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch.nn import functional

from nnpipe import training
from nnpipe.epochs import Sgd
from nnpipe.network import SIZES, Network
from nnpipe.torch_training.model import build, to_state_dict

BATCH, LR, MOMENTUM = 128, 0.01, 0.9
JUDGED_AFTER = 10  # epochs
FEW = 128  # digits that are read after a training which is timed

Way = Callable[[Inputs, int, Inputs], float | None]
"""Trains for so many epochs; returns the share in [0, 1] that it then reads right of the others."""


def nnpipe(digits: Inputs, epochs: int, judged: Inputs) -> float:
    """What is measured."""
    network = Network.initialise(np.random.default_rng(0))
    settings = Sgd(epochs=epochs, batch_size=BATCH, lr=LR, momentum=MOMENTUM)
    _, history = training.train(network, digits, validation=judged, settings=settings)
    return history[-1].validation_accuracy


def scikit_learn(digits: Inputs, epochs: int, judged: Inputs) -> float:
    """The same by scikit-learn, without its checks of the inputs."""
    classifier = MLPClassifier(
        SIZES[1:-1],
        solver="sgd",
        alpha=0,
        batch_size=BATCH,
        learning_rate_init=LR,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        max_iter=epochs,
        random_state=0,
    )
    with warnings.catch_warnings(), config_context(assume_finite=True):
        warnings.simplefilter("ignore", ConvergenceWarning)  # so few epochs are meant
        return float(classifier.fit(*digits).score(*judged))


def pytorch(digits: Inputs, epochs: int, judged: Inputs) -> float:
    """The same by an eager loop in PyTorch, data in memory, the fused optimiser."""
    X, y = map(torch.from_numpy, digits)
    model = build()
    model.load_state_dict(to_state_dict(Network.initialise(np.random.default_rng(0))))
    optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(X)), BATCH):
            loss = functional.cross_entropy(model(X[batch]), y[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.inference_mode():
        hits = model(torch.from_numpy(judged[0])).argmax(1).numpy() == judged[1]
    return float(hits.mean())


def floor(digits: Inputs, epochs: int, judged: Inputs) -> None:
    """The matrix products alone, into arrays that are there already."""
    layers = Network.initialise(np.random.default_rng(0)).layers
    outputs = [np.zeros((BATCH, layer.b.size), np.float32) for layer in layers]
    deltas = [np.full_like(output, 0.01) for output in outputs]
    gradients = [np.empty_like(layer.W) for layer in layers]
    for _ in range(epochs):
        for first in range(0, len(digits[0]), BATCH):
            X = digits[0][first : first + BATCH]
            a = [X, *(output[: len(X)] for output in outputs)]
            delta = [d[: len(X)] for d in deltas]
            for number, layer in enumerate(layers):
                np.matmul(a[number], layer.W, out=a[number + 1])
            for number in reversed(range(len(layers))):
                np.matmul(a[number].T, delta[number], out=gradients[number])
                if number:
                    np.matmul(delta[number], layers[number].W.T, out=delta[number - 1])


WAYS: dict[str, Way] = {
    "nnpipe": nnpipe,
    "scikit-learn": scikit_learn,
    "PyTorch": pytorch,
    "floor: matrix products": floor,
}


def seconds_per_epoch(digits: Inputs, epochs: int, rounds: int, threads: Sequence[int]) -> Times:
    """Time trainings of so many epochs in turns."""
    few = digits[0][:FEW], digits[1][:FEW]
    ways = {name: lambda _, way=way: way(digits, epochs, few) for name, way in WAYS.items()}
    times = in_turns(ways, rounds, threads)
    return {way: [whole / epochs for whole in taken] for way, taken in times.items()}


def main() -> None:
    """Print tables as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=2, help="of each way in each round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    machine("scikit-learn", "torch")
    dataset = load(chosen.data_dir)
    digits, test = inputs(dataset.training), inputs(dataset.test)
    times = seconds_per_epoch(digits, chosen.epochs, chosen.rounds, chosen.threads)
    table(
        f"Training: batch {BATCH}, SGD, momentum {MOMENTUM}, lr {LR}; "
        f"n = {chosen.rounds} rounds of {chosen.epochs} epochs",
        "", "threads", "s per epoch", "nnpipe's best / it",
    )  # fmt: skip
    for (name, threads), taken in times.items():
        row(name, threads, spread(taken, ".3f"), spread(ratios(best(times, "nnpipe"), taken)))
    judged = {name: way for name, way in WAYS.items() if way is not floor}
    table(f"Test digits read right after {JUDGED_AFTER} epochs", *judged)
    with limited(1):  # the answer is the same with more
        row(*(f"{way(digits, JUDGED_AFTER, test):.2%}" for way in judged.values()))


if __name__ == "__main__":
    main()
