"""Training the network from scratch: mini-batch stochastic gradient descent with momentum."""

import time
from collections.abc import Callable

import numpy as np

from nnpipe.epochs import Epoch, OnEpoch, Sgd, check_loss
from nnpipe.network import Array, Layer, Network, cross_entropy

Augment = Callable[[Array, np.random.Generator], Array]


def train(
    network: Network,
    training: tuple[Array, Array],
    *,
    validation: tuple[Array, Array],
    settings: Sgd,
    seed: int = 0,
    augment: Augment | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, list[Epoch]]:
    """Train a copy of ``network``; return it as it was after its best epoch, and all epochs.

    In every epoch the inputs are shuffled and cut into batches, and each moves weights one `step`.

    Args:
        network: where to start; it is not changed.
        training: inputs (n, inputs) in [0, 1], of the network's dtype, and labels (n,).
        validation: the same for data that is not trained on; the best epoch is chosen by it.
        settings: epochs, batch size, learning rate and momentum.
        seed: of shuffling and augmenting; the same seed gives the same weights, bit for bit.
        augment: varies a batch's inputs each time anew; by default they stay as they are.
        on_epoch: called after every epoch.

    Raises:
        TrainingError: the loss is no longer a finite number.
    """
    epochs, batch_size, lr = settings.epochs, settings.batch_size, settings.lr
    X, y = training
    rng = np.random.default_rng(seed)
    network = best = copy(network)
    velocity = [Layer(np.zeros_like(W), np.zeros_like(b)) for W, b in network.layers]
    history: list[Epoch] = []

    for number in range(1, epochs + 1):
        start = time.perf_counter()
        order = rng.permutation(len(X))
        total_loss = 0.0
        for first in range(0, len(X), batch_size):
            batch = order[first : first + batch_size]
            with np.errstate(over="ignore", invalid="ignore"):  # check_loss says it better
                inputs = augment(X[batch], rng) if augment else X[batch]
                loss, gradients = network.gradients(inputs, y[batch])
                check_loss(loss, number, lr)
                step(network, gradients, velocity=velocity, lr=lr, momentum=settings.momentum)
            total_loss += loss * len(batch)

        validation_loss, accuracy = loss_and_accuracy(network, *validation)
        check_loss(validation_loss, number, lr)
        if accuracy > max((epoch.validation_accuracy for epoch in history), default=-1.0):
            best = copy(network)
        loss, seconds = total_loss / len(X), time.perf_counter() - start
        history.append(Epoch(number, epochs, loss, validation_loss, accuracy, seconds))
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
    """Move every parameter p by its gradient g and its velocity v, at first 0, in place:

        v ← momentum · v + g
        p ← p − lr · v

    The velocity adds up what the batches agree on and forgets what they do not. This is momentum
    as PyTorch defines it; Sutskever et al. 2013, "On the importance of initialization and
    momentum", eq. 1, put lr inside v, which is the same while lr is constant.
    """
    for parameters, gradient, speed in zip(network.layers, gradients, velocity, strict=True):
        for p, g, v in zip(parameters, gradient, speed, strict=True):
            v *= momentum
            v += g
            p -= np.multiply(v, lr, out=g)  # g has done its work and lends its memory


def loss_and_accuracy(network: Network, X: Array, y: Array) -> tuple[float, float]:
    """Mean cross-entropy, and the share in [0, 1] whose largest logit stands at their label."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = network.logits(X)
        return cross_entropy(logits, y), float(np.mean(logits.argmax(axis=1) == y))


def copy(network: Network) -> Network:
    """A network with the same numbers in arrays of its own."""
    return Network(tuple(Layer(W.copy(), b.copy()) for W, b in network.layers))


def fold_standardisation(network: Network, *, mean: float, deviation: float) -> Network:
    """The network that does with x what ``network`` does with ``(x − mean) / deviation``.

    Training goes faster on inputs of mean 0 and variance 1 (LeCun et al. 1998, "Efficient
    BackProp", section 4.3). As the first layer is linear, that can be made part of its weights:

        ((x − m) / s) W + b  =  x (W / s) + (b − m / s Σᵢ W[i])
    """
    (W, b), *others = network.layers
    W = W / W.dtype.type(deviation)
    return Network((Layer(W, b - W.dtype.type(mean) * W.sum(axis=0)), *others))
