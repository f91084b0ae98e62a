"""The network, from scratch: dense layers, ReLU, softmax, cross-entropy, backpropagation.

    X (n, 784) → Dense (128) → ReLU → Dense (64) → ReLU → Dense (10) → softmax → (n, 10)

Each layer is a matrix ``W`` and a vector ``b``. With ``a⁰ = X`` and layers numbered from 1 to L,
the forward pass is

    zˡ = aˡ⁻¹ Wˡ + bˡ        (n, outputs)        each row of X is one picture
    aˡ = max(zˡ, 0)          for l < L           ReLU: Nair & Hinton 2010
    p  = softmax(zᴸ)         (n, 10)             ten probabilities that sum to 1

The last layer's z are called *logits*. The loss is the mean cross-entropy of the true labels y:

    J = −1/n Σᵢ log p[i, yᵢ]

`Network.gradients` derives how J changes with every weight. No function here keeps state between
calls, so threads can share a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SIZES = (784, 128, 64, 10)
"""28 × 28 pixels, two hidden layers, ten digits: 109,386 parameters."""

Array = npt.NDArray[Any]


class Layer(NamedTuple):
    """One dense layer, ``z = a @ W + b``, or its gradient, which has the same shapes."""

    W: Array  # (inputs, outputs)
    b: Array  # (outputs,)


@dataclass(frozen=True)
class Network:
    """Dense layers with ReLU between them."""

    layers: tuple[Layer, ...]

    @classmethod
    def initialise(
        cls,
        rng: np.random.Generator,
        sizes: Sequence[int] = SIZES,
        *,
        dtype: npt.DTypeLike = np.float32,
    ) -> "Network":
        """Draw random weights for a network with layers of the given sizes, biases zero.

        ReLU passes on half of its input, which halves the second moment of the signal. Weights of
        variance 2 / inputs compensate for this, so the signal neither fades nor explodes from layer
        to layer (He et al. 2015, "Delving Deep into Rectifiers", eq. 10).
        """
        return cls(
            tuple(
                Layer(
                    W=(rng.standard_normal((m, n)) * np.sqrt(2 / m)).astype(dtype),
                    b=np.zeros(n, dtype),
                )
                for m, n in pairwise(sizes)
            )
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of inputs and the outputs of each layer: (784, 128, 64, 10)."""
        return (self.layers[0].W.shape[0], *(layer.b.size for layer in self.layers))

    def activations(self, X: Array) -> list[Array]:
        """Run the forward pass and return the output of every layer.

        Args:
            X: inputs, shape (n, inputs); pixels are scaled to [0, 1].

        Returns:
            ``[X, a¹, …, logits]``: the inputs, each hidden layer after ReLU, shape (n, size), and
            the logits, shape (n, outputs).

        Raises:
            ValueError: ``X`` does not have one column per input.
        """
        if X.ndim != 2 or X.shape[1] != self.sizes[0]:
            raise ValueError(f"expected inputs of shape (n, {self.sizes[0]}), got {X.shape}")
        *hidden, output = self.layers
        a = [X]
        for W, b in hidden:
            z = a[-1] @ W
            z += b  # in place, like ReLU: new memory costs more time than the sum
            a.append(np.maximum(z, 0, out=z))
        a.append(a[-1] @ output.W + output.b)
        return a

    def logits(self, X: Array) -> Array:
        """Return the outputs of the last layer before softmax, shape (n, outputs)."""
        return self.activations(X)[-1]

    def probabilities(self, X: Array, temperature: float = 1.0) -> Array:
        """Return the softmax of logits / ``temperature``, shape (n, outputs); each row sums to 1.

        A temperature above 1 lowers the confidence without changing any answer
        (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2).
        """
        return softmax(self.logits(X) / temperature)

    def gradients(self, X: Array, y: Array) -> tuple[float, tuple[Layer, ...]]:
        """Compute the loss and its gradient for every weight and bias by backpropagation.

        Let δˡ = ∂J/∂zˡ, shape (n, size of layer l). The chain rule is applied four times
        (Rumelhart, Hinton & Williams 1986):

        1. At the output, softmax and cross-entropy together have a simple derivative. From
           −log p_y = log Σₖ exp(zₖ) − z_y follows the derivative by zⱼ, pⱼ − [j = y]:

               δᴸ = (p − onehot(y)) / n

        2. zˡ = aˡ⁻¹ Wˡ + bˡ is linear in Wˡ. The gradient of a weight is its input times the δ
           at its output, summed over all pictures:

               ∂J/∂Wˡ = (aˡ⁻¹)ᵀ δˡ        (inputs, n) @ (n, outputs) → (inputs, outputs)

        3. A bias is added to every picture:  ∂J/∂bˡ = Σᵢ δˡ[i]        (outputs,)

        4. δ goes back to the layer below through the same weights, but only where ReLU passed
           the signal on (z > 0, which is the same as a > 0):

               δˡ⁻¹ = (δˡ (Wˡ)ᵀ) ⊙ [aˡ⁻¹ > 0]        (n, outputs) @ (outputs, inputs)

        Args:
            X: inputs, shape (n, inputs).
            y: labels, shape (n,), integers in [0, outputs).

        Returns:
            The loss, and one `Layer` of gradients per layer of the network, with the same shapes.
        """
        *inputs, logits = self.activations(X)
        loss = cross_entropy(logits, y)

        delta = softmax(logits)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)

        gradients = []
        for layer, a in zip(reversed(self.layers), reversed(inputs), strict=True):
            gradients.append(Layer(W=a.T @ delta, b=delta.sum(axis=0)))
            if a is not X:  # the gradient of the pixels is not needed
                delta = (delta @ layer.W.T) * (a > 0)
        return loss, tuple(reversed(gradients))


def softmax(z: Array) -> Array:
    """Turn each row of logits into probabilities: exp(zⱼ) / Σₖ exp(zₖ), shape as ``z``.

    Subtracting the largest logit of the row does not change the quotient and keeps exp from
    overflowing (Goodfellow et al. 2016, "Deep Learning", section 4.1).
    """
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def cross_entropy(logits: Array, y: Array) -> float:
    """Return the mean of −log p over the true labels: 0 when sure and right, log 10 when guessing.

    It is computed from the logits, as log Σ exp(z) − z_y with the largest logit subtracted, because
    a probability that underflows to 0 has no logarithm.

    Args:
        logits: shape (n, outputs).
        y: labels, shape (n,), integers in [0, outputs).
    """
    z = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]))
