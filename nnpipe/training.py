"""Training the network from scratch: mini-batch stochastic gradient descent with momentum."""

import time
from collections.abc import Callable

import numpy as np

from nnpipe.epochs import Epoch, OnEpoch, Sgd, check_loss
from nnpipe.network import Array, Layer, Network, cross_entropy

Augment = Callable[[Array, np.random.Generator], Array]

Examples = tuple[Array, Array]
"""Inputs, shape (n, inputs), of the network's dtype, and labels, shape (n,)."""


def train(
    network: Network,
    training: Examples,
    *,
    validation: Examples,
    settings: Sgd,
    seed: int = 0,
    augment: Augment | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, list[Epoch]]:
    """Train a copy of ``network``; return it as it was after its best epoch, and all epochs.

    Each epoch shuffles the inputs and cuts them into batches. Each batch is one `step`.

    Args:
        network: the initial weights; not changed.
        training: what to learn from.
        validation: what to choose the best epoch by; not learned from.
        settings: epochs, batch size, learning rate and momentum.
        seed: for shuffling and augmenting; the same seed gives the same weights, bit for bit.
        augment: changes the inputs of each batch at random; by default they stay as they are.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: the loss is no longer a finite number.
    """
    X, y = training
    batch_size, lr, momentum = settings.batch_size, settings.lr, settings.momentum
    rng = np.random.default_rng(seed)
    network = best = copy(network)
    velocity = [Layer(np.zeros_like(W), np.zeros_like(b)) for W, b in network.layers]
    history: list[Epoch] = []

    for number in range(1, settings.epochs + 1):
        start = time.perf_counter()
        order = rng.permutation(len(X))
        total_loss = 0.0
        for first in range(0, len(X), batch_size):
            batch = order[first : first + batch_size]
            with np.errstate(over="ignore", invalid="ignore"):  # check_loss reports divergence
                inputs = augment(X[batch], rng) if augment else X[batch]
                loss, gradients = network.gradients(inputs, y[batch])
                check_loss(loss, epoch=number, lr=lr)
                step(network, gradients, velocity=velocity, lr=lr, momentum=momentum)
            total_loss += loss * len(batch)

        validation_loss, accuracy = loss_and_accuracy(network, validation)
        check_loss(validation_loss, epoch=number, lr=lr)
        if accuracy > max((epoch.validation_accuracy for epoch in history), default=-1.0):
            best = copy(network)
        loss, seconds = total_loss / len(X), time.perf_counter() - start
        history.append(Epoch(number, settings.epochs, loss, validation_loss, accuracy, seconds))
        if on_epoch:
            on_epoch(history[-1])
    return best, history


def step(
    network: Network,
    gradients: tuple[Layer, ...],
    *,
    velocity: list[Layer],
    lr: float,
    momentum: float,
) -> None:
    """Move every parameter p by its gradient g and its velocity v, initially 0, in place:

        v ← momentum · v + g
        p ← p − lr · v

    The velocity accumulates the directions that batches share; the others cancel out. This is
    PyTorch's definition of momentum. Sutskever et al. 2013, "On the importance of initialization
    and momentum", eq. 1, include lr in v, which is the same while lr is constant.
    """
    for parameters, gradient, speed in zip(network.layers, gradients, velocity, strict=True):
        for p, g, v in zip(parameters, gradient, speed, strict=True):
            v *= momentum
            v += g
            p -= np.multiply(v, lr, out=g)  # g is no longer needed, so its memory is reused


def loss_and_accuracy(network: Network, examples: Examples) -> tuple[float, float]:
    """Return the mean cross-entropy, and the share in [0, 1] that the network gets right."""
    X, y = examples
    with np.errstate(over="ignore", invalid="ignore"):
        logits = network.logits(X)
        return cross_entropy(logits, y), float(np.mean(logits.argmax(axis=1) == y))


def copy(network: Network) -> Network:
    """Copy a network and its arrays."""
    return Network(tuple(Layer(W.copy(), b.copy()) for W, b in network.layers))


def fold_standardisation(network: Network, *, mean: float, deviation: float) -> Network:
    """Return the network that gives for x what ``network`` gives for ``(x − mean) / deviation``.

    Training is faster on inputs of mean 0 and variance 1 (LeCun et al. 1998, "Efficient BackProp",
    section 4.3). The first layer is linear, so its weights can include the standardisation:

        ((x − m) / s) W + b  =  x (W / s) + (b − m / s Σᵢ W[i])
    """
    (W, b), *others = network.layers
    W = W / W.dtype.type(deviation)
    return Network((Layer(W, b - W.dtype.type(mean) * W.sum(axis=0)), *others))
