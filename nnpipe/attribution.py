"""Which pixels spoke for a digit, and which against it.

A ReLU network is linear as long as no unit switches on or off (Montúfar et al. 2014, "On the
Number of Linear Regions of Deep Neural Networks"). So around a picture x, and at x itself, any
difference of logits is

    d(x) = Σᵢ xᵢ gᵢ + c,        g = ∂d/∂x

and xᵢ gᵢ is what pixel i adds to it: *gradient × input* (Shrikumar et al. 2016, "Not Just a Black
Box", section 3). c is what the biases add. For a network of this kind nothing is left over.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nnpipe.network import Array, Network


class Evidence(NamedTuple):
    """Why a digit's logit is above another's, or above the mean of all others."""

    pixels: npt.NDArray[
        np.float64
    ]  # (inputs,), what each adds: above 0 for the digit, below against
    bias: float  # what the biases add
    difference: float  # of the logits; the sum of all that is above


def evidence(network: Network, x: Array, label: int, rival: int | None = None) -> Evidence:
    """Divide the difference between a digit's logit and its rival's among the pixels.

    Args:
        network: with ReLU between its layers.
        x: one picture's inputs, shape (inputs,), in [0, 1].
        label: the digit, in [0, outputs).
        rival: another digit; None stands for the mean of all others.

    Raises:
        ValueError: the rival is the digit itself, which explains nothing.
    """
    if rival == label:
        raise ValueError(f"{label} cannot be its own rival")
    *inputs, logits = network.activations(np.asarray(x, np.float64)[np.newaxis])
    # How the difference d changes with each logit: d = z[label] − z[rival], or − their mean.
    slope = np.zeros(logits.size)
    slope[:] = -1 / (logits.size - 1) if rival is None else 0
    if rival is not None:
        slope[rival] = -1
    slope[label] = 1
    difference, bias = float(logits[0] @ slope), 0.0
    for layer, a in zip(reversed(network.layers), reversed(inputs), strict=True):
        bias += float(layer.b @ slope)
        slope = layer.W @ slope
        if a is not inputs[0]:
            slope *= a[0] > 0  # a unit that is off passes nothing on
    return Evidence(inputs[0][0] * slope, bias, difference)
