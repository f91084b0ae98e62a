"""How fast the network from scratch trains and reads, beside scikit-learn, PyTorch and the floor.

    python benchmarks/speed.py        (make bench)

All are measured in one run, taking turns, on the same random data; what counts is the ratio, as
machines differ and are never quiet. The floor is the matrix products alone.
"""

import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from nnpipe import training
from nnpipe.network import SIZES, Network
from nnpipe.torch_training.model import build, to_state_dict

N, BATCH, ROUNDS = 20_000, 128, 5

rng = np.random.default_rng(0)
X = rng.random((N, SIZES[0]), np.float32)
y = rng.integers(0, 10, N)
network = Network.initialise(rng)
model = build()
model.load_state_dict(to_state_dict(network))


def train_nnpipe() -> None:
    """One epoch of the trainer from scratch."""
    training.train(network, (X, y), (X[:100], y[:100]), epochs=1, batch_size=BATCH)


def train_sklearn() -> None:
    """One epoch of scikit-learn's, same sizes, SGD with momentum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        MLPClassifier(
            SIZES[1:-1],
            solver="sgd",
            batch_size=BATCH,
            learning_rate_init=0.01,
            max_iter=1,
            alpha=0,
        ).fit(X, y)


def train_torch() -> None:
    """One epoch of a plain PyTorch loop, data in memory."""
    inputs, labels = torch.from_numpy(X), torch.from_numpy(y)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    for batch in torch.split(torch.randperm(N), BATCH):
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
        optimiser.step()


def train_floor() -> None:
    """The eight matrix products of every step, and nothing else."""
    for first in range(0, N, BATCH):
        a = X[first : first + BATCH]
        inputs = []
        for layer in network.layers:
            inputs.append(a)
            a = a @ layer.W
        for layer, before in zip(reversed(network.layers), reversed(inputs), strict=True):
            _ = before.T @ a
            if before is not inputs[0]:
                a = a @ layer.W.T


def read_nnpipe() -> None:
    """Probabilities of 20,000 pictures, 1,024 at a time."""
    for first in range(0, N, 1024):
        network.probabilities(X[first : first + 1024])


@torch.no_grad()
def read_torch() -> None:
    """The same with PyTorch."""
    for part in torch.split(torch.from_numpy(X), 1024):
        model(part).softmax(1)


def seconds(functions: list[Callable[[], None]]) -> list[list[float]]:
    """Time each function in turn, ``ROUNDS`` times after one round to warm up."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(ROUNDS + 1):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if turn:
                taken.append(time.perf_counter() - start)
    return times


def table(title: str, names: list[str], functions: list[Callable[[], None]]) -> None:
    """Print median, spread and the ratio to nnpipe, the first of the functions."""
    times = seconds(functions)
    ours = statistics.median(times[0])
    print(f"\n### {title}\n\n| | pictures/s | median s | min to max s | nnpipe / it |")
    print("| --- | --- | --- | --- | --- |")
    for name, taken in zip(names, times, strict=True):
        median = statistics.median(taken)
        print(
            f"| {name} | {N / median:,.0f} | {median:.3f} | {min(taken):.3f} to {max(taken):.3f} "
            f"| {ours / median:.2f} |"
        )


def main() -> None:
    """Print both tables as Markdown."""
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__} "
        f"({torch.get_num_threads()} threads), n = {ROUNDS} rounds"
    )
    table(
        f"Training: one epoch of {N:,} digits, batch {BATCH}, SGD with momentum",
        ["nnpipe (NumPy)", "scikit-learn", "PyTorch, CPU", "floor: matrix products"],
        [train_nnpipe, train_sklearn, train_torch, train_floor],
    )
    table(
        f"Reading: {N:,} digits, 1,024 at a time",
        ["nnpipe (NumPy)", "PyTorch, CPU"],
        [read_nnpipe, read_torch],
    )


if __name__ == "__main__":
    main()
