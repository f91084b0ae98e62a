"""Evidence is what gradient × input says, and it adds up."""

import numpy as np
import pytest
import torch

from nnpipe.attribution import evidence
from nnpipe.network import Layer, Network
from nnpipe.preprocess import as_inputs

RIVALS = [None, 9]


@pytest.fixture
def with_biases(network):
    """As trained ones are: with biases that are not zero."""
    rng = np.random.default_rng(1)
    layers = (Layer(W, rng.normal(0, 0.1, b.shape).astype(b.dtype)) for W, b in network.layers)
    return Network(tuple(layers))


@pytest.fixture
def inputs(golden):
    return as_inputs(golden)


@pytest.mark.parametrize("rival", RIVALS)
def test_pixels_and_bias_add_up_to_the_difference_of_the_logits(with_biases, inputs, rival):
    for x, z in zip(inputs, with_biases.logits(inputs.astype(np.float64)), strict=True):
        found = evidence(with_biases, x, label=4, rival=rival)
        others = z[9] if rival else np.delete(z, 4).mean()
        assert found.difference == pytest.approx(z[4] - others, abs=1e-12)
        assert found.pixels.sum() + found.bias == pytest.approx(found.difference, abs=1e-12)


@pytest.mark.parametrize("rival", RIVALS)
def test_the_gradient_is_that_of_pytorch(with_biases, inputs, rival):
    for x in inputs:
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        a = leaf
        for number, (W, b) in enumerate(with_biases.layers):
            a = (torch.relu(a) if number else a) @ torch.tensor(W).double() + torch.tensor(b)
        others = a[9] if rival else (a.sum() - a[4]) / 9
        (a[4] - others).backward()
        found = evidence(with_biases, x, label=4, rival=rival)
        np.testing.assert_allclose(found.pixels, (leaf.grad * leaf).detach(), atol=1e-12)


def test_black_pixels_say_nothing(with_biases, inputs):
    found = evidence(with_biases, inputs[3], label=3)
    assert not found.pixels[inputs[3] == 0].any()
    assert found.pixels[inputs[3] > 0].any()


def test_what_speaks_for_a_digit_speaks_against_its_rival(with_biases, inputs):
    there, back = (evidence(with_biases, inputs[4], label=a, rival=b) for a, b in ((4, 9), (9, 4)))
    np.testing.assert_allclose(there.pixels, -back.pixels)
    assert there.bias == pytest.approx(-back.bias)


def test_a_digit_is_not_its_own_rival(with_biases, inputs):
    with pytest.raises(ValueError, match="4 cannot be its own rival"):
        evidence(with_biases, inputs[0], label=4, rival=4)
