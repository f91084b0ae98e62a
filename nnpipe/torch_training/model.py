"""The network as a PyTorch module, its file, and its conversion to NumPy and back."""

import io
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nnpipe.datasets import Digits
from nnpipe.errors import ExportError
from nnpipe.files import replacing
from nnpipe.network import SIZES, Layer, Network
from nnpipe.places import in_one_line
from nnpipe.preprocess import as_inputs
from nnpipe.records import MOST_BYTES, read_bytes
from nnpipe.torch_training.precision import products

PARITY = 1e-5
"""Largest difference of a probability between PyTorch and NumPy that an export may have."""

MOST_VALUES = 64 * 1024 * 1024
"""Largest number of weights and biases. An expanded tensor claims any number with a few bytes."""

StateDict = dict[str, Tensor]


def build(sizes: tuple[int, ...] = SIZES) -> nn.Sequential:
    """Build the network in PyTorch; its state dict has fc1.weight, fc1.bias, fc2.weight, …."""
    module = nn.Sequential()
    for number, (m, n) in enumerate(pairwise(sizes), start=1):
        if number > 1:
            module.add_module(f"relu{number - 1}", nn.ReLU())
        module.add_module(f"fc{number}", nn.Linear(m, n))
    return module


def to_state_dict(network: Network) -> StateDict:
    """Convert weights to PyTorch, where W has shape (outputs, inputs)."""
    state = {}
    for number, (W, b) in enumerate(network.layers, start=1):
        state[f"fc{number}.weight"] = torch.tensor(W.T)
        state[f"fc{number}.bias"] = torch.tensor(b)
    return state


def to_network(state: StateDict) -> Network:
    """Convert weights from PyTorch, to float32.

    Raises:
        ExportError: the state dict does not hold matching dense layers named fc1, fc2, ….
    """
    numbers = range(1, len(state) // 2 + 1)
    expected = [f"fc{number}.{kind}" for number in numbers for kind in ("weight", "bias")]
    if not expected or set(state) != set(expected):
        names = in_one_line(", ".join(map(str, state)) or "nothing")[:200]
        raise ExportError(
            f"the PyTorch model holds {names}; expected fc1.weight, fc1.bias, fc2.weight, …"
        )
    plain = (
        t.is_cpu and t.layout == torch.strided and t.is_floating_point() for t in state.values()
    )
    if not all(plain) or sum(t.numel() for t in state.values()) > MOST_VALUES:
        raise ExportError(
            f"the PyTorch model holds other things than {MOST_VALUES:,} floating-point numbers "
            "at most; train again"
        )
    layers: list[Layer] = []
    for number in numbers:
        W, b = (state[f"fc{number}.{kind}"].detach().float().numpy() for kind in ("weight", "bias"))
        inputs = layers[-1].b.size if layers else SIZES[0]
        outputs = b.size if number < len(numbers) else SIZES[-1]
        if W.shape != (outputs, inputs) or b.shape != (outputs,):
            raise ExportError(
                f"fc{number} of the PyTorch model has weights {W.shape} and biases {b.shape}; "
                f"expected ({outputs}, {inputs}) and ({outputs},)"
            )
        layers.append(Layer(np.ascontiguousarray(W.T), b.copy()))
    return Network(tuple(layers))


def save_model(path: Path, state: dict[str, Any]) -> None:
    """Write a state dict, or a checkpoint, completely or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    content = io.BytesIO()
    torch.save(state, content)  # into a file, its errors are no OSErrors
    with replacing(path) as stream:
        stream.write(content.getbuffer())


def load_model(path: Path) -> StateDict:
    """Read a state dict without running code from its pickle.

    Raises:
        ExportError: the file is missing or damaged, or does not hold a dict of tensors.
    """
    try:
        stream = io.BytesIO(read_bytes(path))
        if zipfile.is_zipfile(stream):
            members = zipfile.ZipFile(stream).infolist()
            # PyTorch does not compress, so compressed members may be a bomb.
            packed = any(member.compress_type for member in members)
            if packed or sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError("it is compressed or too large")
        stream.seek(0)
        state = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ExportError(f"{path}: there is no such PyTorch model", advice="train") from None
    except Exception as error:  # a damaged pickle can raise anything
        first_line = str(error).partition("\n")[0] or type(error).__name__
        reason = in_one_line(getattr(error, "strerror", None) or first_line)
        raise ExportError(
            f"{path}: cannot be read as a PyTorch model ({reason}); train again"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ExportError(f"{path}: holds something other than a state dict of tensors")
    return state


class Parity(NamedTuple):
    """How closely NumPy and PyTorch agree."""

    digits: int
    largest_difference: float  # of any probability
    accuracy: float  # NumPy's, in [0, 1]


def check_parity(state: StateDict, network: Network, *, digits: Digits) -> Parity:
    """Check that both networks give every digit the same class and probabilities.

    Raises:
        ExportError: a class differs, a probability differs by more than 1e-5, or the layers differ;
            or the state dict does not hold dense layers.
    """
    sizes = to_network(state).sizes
    if sizes != network.sizes:
        raise ExportError(
            f"the export does not compute what PyTorch does: it has layers {network.sizes}, and "
            f"the PyTorch model {sizes}"
        )
    model = build(network.sizes)
    model.load_state_dict(state)
    X = as_inputs(digits.images)
    with torch.no_grad(), products(fast=False):
        expected = model(torch.from_numpy(X)).softmax(1).numpy()
    probabilities = network.probabilities(X)
    difference = float(np.abs(probabilities - expected).max())
    disagreed = int((probabilities.argmax(1) != expected.argmax(1)).sum())
    if disagreed or not difference <= PARITY:
        raise ExportError(
            f"the export does not compute what PyTorch does: {disagreed} of {len(X):,} digits get "
            f"another class, and probabilities differ by up to {difference:.2g} "
            f"(at most {PARITY:g} is allowed)"
        )
    return Parity(len(X), difference, float((probabilities.argmax(1) == digits.labels).mean()))
