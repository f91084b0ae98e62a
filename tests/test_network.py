import numpy as np
import pytest
import torch
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import softmax as scipy_softmax

from nnpipe.network import SIZES, Layer, Network, cross_entropy, softmax

SMALL = (7, 6, 5, 4)


def example(sizes=SMALL, n=9, seed=0):
    """A float64 network with inputs and labels. No pre-activation lies so near 0 that a finite
    difference would step over ReLU's kink."""
    rng = np.random.default_rng(seed)
    while True:
        network = Network.initialise(rng, sizes, dtype=np.float64)
        for layer in network.layers:
            layer.b[:] = 0.1 * rng.standard_normal(layer.b.size)
        X, y = rng.standard_normal((n, sizes[0])), rng.integers(0, sizes[-1], n)
        *inputs, _ = network.activations(X)
        hidden = zip(inputs, network.layers[:-1], strict=False)
        if all(np.abs(a @ W + b).min() > 1e-3 for a, (W, b) in hidden):
            return network, X, y


def central_difference(network, X, y, array, index, h=1e-5):
    kept = array[index]
    array[index] = kept + h
    above = cross_entropy(network.logits(X), y)
    array[index] = kept - h
    below = cross_entropy(network.logits(X), y)
    array[index] = kept
    return (above - below) / (2 * h)


def gradient_errors(network, X, y, gradients):
    """The largest relative error of each parameter group against central differences."""
    errors = {}
    for number, (layer, gradient) in enumerate(zip(network.layers, gradients, strict=True), 1):
        for kind, p, g in zip("Wb", layer, gradient, strict=True):
            expected = np.zeros_like(p)
            for index in np.ndindex(p.shape):
                expected[index] = central_difference(network, X, y, p, index)
            errors[f"{kind}{number}"] = np.abs(g - expected).max() / np.abs(expected).max()
    return errors


def as_torch(network, dtype=torch.float64):
    return [
        torch.tensor(array, dtype=dtype, requires_grad=True)
        for layer in network.layers
        for array in layer
    ]


def torch_logits(parameters, X):
    a = torch.as_tensor(X, dtype=parameters[0].dtype)
    for i in range(0, len(parameters), 2):
        a = a @ parameters[i] + parameters[i + 1]
        if i < len(parameters) - 2:
            a = torch.relu(a)
    return a


def test_default_network_has_109386_parameters():
    network = Network.initialise(np.random.default_rng(0))
    assert network.sizes == SIZES == (784, 128, 64, 10)
    assert sum(W.size + b.size for W, b in network.layers) == 109_386
    assert {array.dtype for layer in network.layers for array in layer} == {np.dtype(np.float32)}


def test_he_initialisation_keeps_the_second_moment():
    """Through ten layers of 512, the signal's mean square stays within a factor of two."""
    rng = np.random.default_rng(0)
    network = Network.initialise(rng, [512] * 11, dtype=np.float64)
    hidden = network.activations(rng.standard_normal((500, 512)))[1:-1]
    assert all(0.5 < np.mean(a**2) < 2 for a in hidden)


@pytest.mark.parametrize("sizes", [SMALL, (3, 2), (5, 4, 4, 3, 2)])
def test_every_gradient_agrees_with_central_differences(sizes):
    network, X, y = example(sizes)
    _, gradients = network.gradients(X, y)
    for name, error in gradient_errors(network, X, y, gradients).items():
        assert error < 1e-6, name


@pytest.mark.parametrize("planted", ["W1", "b1", "W2", "b2", "W3", "b3"])
def test_the_check_catches_a_gradient_that_is_wrong_by_a_thousandth(planted):
    network, X, y = example()
    _, gradients = network.gradients(X, y)
    wrong = gradients[int(planted[1]) - 1][planted[0] == "b"]
    wrong *= 1.001
    errors = gradient_errors(network, X, y, gradients)
    assert errors.pop(planted) > 5e-4
    assert max(errors.values()) < 1e-6


def test_logits_loss_and_gradients_are_those_of_torch():
    network, X, y = example(n=32, seed=3)
    parameters = as_torch(network)
    expected = torch_logits(parameters, X)
    loss = torch.nn.functional.cross_entropy(expected, torch.as_tensor(y))
    loss.backward()

    found_loss, gradients = network.gradients(X, y)
    np.testing.assert_allclose(network.logits(X), expected.detach(), rtol=1e-12)
    assert found_loss == pytest.approx(loss.item(), rel=1e-12)
    found = [array for layer in gradients for array in layer]
    for g, p in zip(found, parameters, strict=True):
        np.testing.assert_allclose(g, p.grad, rtol=1e-9, atol=1e-15)


def test_full_size_float32_gradients_are_those_of_torch():
    rng = np.random.default_rng(1)
    network = Network.initialise(rng)
    X, y = rng.random((128, 784), np.float32), rng.integers(0, 10, 128)
    parameters = as_torch(network, torch.float32)
    torch.nn.functional.cross_entropy(torch_logits(parameters, X), torch.as_tensor(y)).backward()
    _, gradients = network.gradients(X, y)
    found = [array for layer in gradients for array in layer]
    for g, p in zip(found, parameters, strict=True):
        assert g.dtype == np.float32
        np.testing.assert_allclose(g, p.grad, rtol=1e-3, atol=1e-6)


def test_a_network_worked_by_hand():
    """Two inputs, two hidden units, two classes; every number can be checked on paper.

        x = (1, 2)   W1 = [[1, −1], [1, 1]]   b1 = (0, −2)
        z1 = (1·1 + 2·1 + 0, 1·(−1) + 2·1 − 2) = (3, −1)      a1 = (3, 0)
        W2 = [[1, 0], [5, 7]]   b2 = (−3, 0)
        z2 = (3·1 + 0·5 − 3, 3·0 + 0·7 + 0) = (0, 0)          p = (½, ½)

    The label is 1:  J = −log ½ = log 2,  δ2 = (½, ½ − 1) = (½, −½).
        ∂J/∂W2 = a1ᵀ δ2 = [[3·½, 3·(−½)], [0, 0]]             ∂J/∂b2 = δ2
        δ2 W2ᵀ = (½·1 − ½·0, ½·5 − ½·7) = (½, −1);  only unit 1 is on:  δ1 = (½, 0)
        ∂J/∂W1 = xᵀ δ1 = [[½, 0], [1, 0]]                     ∂J/∂b1 = (½, 0)
    """
    network = Network(
        (
            Layer(np.array([[1.0, -1], [1, 1]]), np.array([0.0, -2])),
            Layer(np.array([[1.0, 0], [5, 7]]), np.array([-3.0, 0])),
        )
    )
    X, y = np.array([[1.0, 2]]), np.array([1])
    assert network.logits(X).tolist() == [[0, 0]]
    assert network.probabilities(X).tolist() == [[0.5, 0.5]]
    loss, (first, second) = network.gradients(X, y)
    assert loss == pytest.approx(np.log(2))
    assert second.W.tolist() == [[1.5, -1.5], [0, 0]]
    assert second.b.tolist() == [0.5, -0.5]
    assert first.W.tolist() == [[0.5, 0], [1, 0]]
    assert first.b.tolist() == [0.5, 0]


def test_softmax_and_cross_entropy_are_scipys_even_for_huge_logits():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((20, 10)) * np.logspace(-3, 4, 20)[:, None]
    y = rng.integers(0, 10, 20)
    np.testing.assert_allclose(softmax(z), scipy_softmax(z, axis=1), rtol=1e-12, atol=1e-300)
    expected = -scipy_log_softmax(z, axis=1)[np.arange(20), y].mean()
    assert cross_entropy(z, y) == pytest.approx(expected, rel=1e-12)


def test_temperature_changes_no_answer():
    network, X, _ = example(n=50)
    cool, warm = network.probabilities(X), network.probabilities(X, temperature=3)
    assert (cool.argmax(1) == warm.argmax(1)).all()
    assert (warm.max(1) < cool.max(1)).all()


def test_inputs_of_the_wrong_width_are_refused():
    network, X, _ = example()
    with pytest.raises(ValueError, match=r"expected inputs of shape \(n, 7\), got \(9, 6\)"):
        network.logits(X[:, :6])


def test_inference_changes_nothing():
    network, X, y = example()
    before = [array.copy() for layer in network.layers for array in layer]
    kept = X.copy()
    network.gradients(X, y)
    network.probabilities(X)
    after = [array for layer in network.layers for array in layer]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert (kept == X).all()
