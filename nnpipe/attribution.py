"""How much each pixel adds to the score of a digit, or takes from it.

A ReLU network is linear as long as no unit switches on or off (Montúfar et al. 2014, "On the
Number of Linear Regions of Deep Neural Networks"). So at a picture x and around it, any
difference of logits is

    d(x) = Σᵢ xᵢ gᵢ + c,        g = ∂d/∂x

and pixel i adds xᵢ gᵢ to it: *gradient × input* (Shrikumar et al. 2016, "Not Just a Black
Box", section 3). The biases add c. The terms sum to d exactly.
"""

from typing import NamedTuple

import numpy as np

from nnpipe.network import Array, Network


class Evidence(NamedTuple):
    """The terms of a difference of logits: a digit's minus its rival's."""

    pixels: Array  # float64 (inputs,); above 0 for the digit, below 0 against it
    bias: float
    difference: float  # the sum of all terms


def evidence(network: Network, x: Array, *, label: int, rival: int | None = None) -> Evidence:
    """Split the difference between a digit's logit and its rival's into one term per pixel.

    Args:
        network: with ReLU between its layers.
        x: one picture's inputs, shape (inputs,), in [0, 1].
        label: the digit, in [0, outputs).
        rival: another digit; None is the mean of all others.

    Raises:
        ValueError: the rival is the digit itself.
    """
    if rival == label:
        raise ValueError(f"{label} cannot be its own rival")
    *inputs, logits = network.activations(np.asarray(x, np.float64)[np.newaxis])
    # ∂d/∂z of d = z[label] − z[rival], or of z[label] − the mean of the others
    slope = np.full(logits.size, -1 / (logits.size - 1) if rival is None else 0.0)
    if rival is not None:
        slope[rival] = -1
    slope[label] = 1
    difference, bias = float(logits[0] @ slope), 0.0
    for layer, a in zip(reversed(network.layers), reversed(inputs), strict=True):
        bias += float(layer.b @ slope)
        slope = layer.W @ slope
        if a is not inputs[0]:
            slope *= a[0] > 0  # a unit that is off passes nothing back
    return Evidence(inputs[0][0] * slope, bias, difference)
