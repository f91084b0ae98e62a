import numpy as np
import pytest
import torch

from nnpipe import training
from nnpipe.epochs import Sgd
from nnpipe.errors import SettingError, TrainingError
from nnpipe.network import Layer, Network
from nnpipe.numpy_training import shift_by_a_pixel
from nnpipe.preprocess import as_inputs

from .test_network import as_torch, torch_logits


def parts(dataset):
    return (
        (as_inputs(dataset.training.images), dataset.training.labels),
        (as_inputs(dataset.validation.images), dataset.validation.labels),
    )


def train(network, dataset, *, seed=0, augment=None, **settings):
    training_digits, validation = parts(dataset)
    return training.train(
        network,
        training_digits,
        validation=validation,
        settings=Sgd(**settings),
        seed=seed,
        augment=augment,
    )


def same(a, b):
    return all(
        (x == y).all()
        for p, q in zip(a.layers, b.layers, strict=True)
        for x, y in zip(p, q, strict=True)
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_ten_steps_are_those_of_torch_sgd(momentum):
    rng = np.random.default_rng(0)
    network = Network.initialise(rng, (20, 16, 5), dtype=np.float64)
    parameters = as_torch(network)
    optimiser = torch.optim.SGD(parameters, lr=0.1, momentum=momentum)
    velocity = [Layer(np.zeros_like(W), np.zeros_like(b)) for W, b in network.layers]
    for _ in range(10):
        X, y = rng.standard_normal((8, 20)), rng.integers(0, 5, 8)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(
            torch_logits(parameters, X), torch.as_tensor(y)
        ).backward()
        optimiser.step()
        _, gradients = network.gradients(X, y)
        training.step(network, gradients, velocity=velocity, lr=0.1, momentum=momentum)
    found = [array for layer in network.layers for array in layer]
    for p, expected in zip(found, parameters, strict=True):
        np.testing.assert_allclose(p, expected.detach(), rtol=1e-10, atol=1e-14)


def test_it_learns_and_keeps_the_best_epoch(small_dataset, network):
    best, history = train(network, small_dataset, epochs=8, lr=0.05)
    assert history[-1].loss < history[0].loss / 3
    _, accuracy = training.loss_and_accuracy(best, parts(small_dataset)[1])
    assert accuracy == max(epoch.validation_accuracy for epoch in history) > 0.6


def test_the_same_seed_gives_the_same_weights_bit_for_bit(small_dataset, network):
    runs = [
        train(network, small_dataset, epochs=2, seed=seed, augment=shift_by_a_pixel)[0]
        for seed in (1, 1, 2)
    ]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_the_network_given_is_not_changed(small_dataset, network):
    before = training.copy(network)
    train(network, small_dataset, epochs=1)
    assert same(network, before)


def test_the_last_smaller_batch_counts_by_its_size(small_dataset, network):
    """One epoch of a rate that changes nothing reports the mean loss of all digits."""
    X, y = parts(small_dataset)[0]
    _, (epoch,) = training.train(
        network,
        (X[:300], y[:300]),
        validation=(X[:10], y[:10]),
        settings=Sgd(epochs=1, lr=1e-30),
    )
    assert epoch.loss == pytest.approx(
        training.loss_and_accuracy(network, (X[:300], y[:300]))[0], rel=1e-5
    )


@pytest.mark.parametrize("lr", [1e4, 1e30])
def test_divergence_stops_with_epoch_rate_and_cause(small_dataset, network, lr):
    with pytest.raises(TrainingError, match=r"epoch \d+.*(nan|inf).*learning rate 1.*too high"):
        train(network, small_dataset, epochs=5, lr=lr)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"lr": 0}, "lr is 0, expected at least 1e-30"),
        ({"lr": float("nan")}, "lr is nan, expected at least 1e-30"),
        ({"lr": 1e308}, r"lr is 1e\+308, expected at most 1e\+30"),
        ({"momentum": 1}, "momentum must be at least 0 and below 1, not 1"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(SettingError, match=message):
        Sgd(**setting)


def test_folded_standardisation_computes_the_same(small_dataset, network):
    X, _ = parts(small_dataset)[1]
    mean, deviation = float(X.mean()), float(X.std())
    folded = training.fold_standardisation(network, mean=mean, deviation=deviation)
    np.testing.assert_allclose(
        folded.logits(X), network.logits((X - mean) / deviation), rtol=1e-3, atol=1e-4
    )


def test_shifted_pictures_hold_the_same_ink(small_dataset):
    """Moved by at most a pixel each way; the pictures have a black border, so nothing is lost."""
    X = as_inputs(small_dataset.validation.images)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        pictures = shift_by_a_pixel(X, rng).reshape(-1, 28, 28)
        shifts = {
            (down, across)
            for down in (-1, 0, 1)
            for across in (-1, 0, 1)
            if (np.roll(pictures, (-down, -across), (1, 2)).reshape(X.shape) == X).all()
        }
        assert len(shifts) == 1
        seen |= shifts
    assert len(seen) == 9
