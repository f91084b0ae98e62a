"""How fast digits in memory are read, beside PyTorch, ONNX Runtime and the floor.

    python benchmarks/inference.py [--data-dir data] [--rounds 15]

All have the same weights, float32, and give ten probabilities for each picture; that they agree is
checked first. Each has one thread, then two; what counts is the ratio to a peer's best. The floor
is the three matrix products alone, into arrays that are there already.
"""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
import torch
from measure import (
    Times,
    best,
    in_turns,
    inputs,
    load,
    machine,
    option_parser,
    ratios,
    row,
    spread,
    table,
)
from onnx import ModelProto, TensorProto, helper, numpy_helper

from nnpipe.network import Array, Network
from nnpipe.torch_training.model import build, to_state_dict

BATCHES = (1, 256, 1024, 10_000)
SINGLE, MANY = 2_000, 50_000  # pictures in a round: one by one, and in larger batches
TOLERANCE = 1e-4

Way = Callable[[Array, int], Array | None]
"""Reads a batch (n, 784) with so many threads: probabilities (n, 10)."""


def as_onnx(network: Network) -> ModelProto:
    """The network as a graph: Gemm, Relu, …, Softmax."""
    nodes, weights, last = [], [], "X"
    for number, layer in enumerate(network.layers, start=1):
        for name, array in layer._asdict().items():
            weights.append(numpy_helper.from_array(array, f"{name}{number}"))
        nodes.append(helper.make_node("Gemm", [last, f"W{number}", f"b{number}"], [f"z{number}"]))
        is_hidden = number < len(network.layers)
        last = f"a{number}" if is_hidden else "p"
        kind = "Relu" if is_hidden else "Softmax"  # Softmax's axis is the last one by default
        nodes.append(helper.make_node(kind, [f"z{number}"], [last]))
    first, end = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("X", network.sizes[0]), (last, network.sizes[-1]))
    )
    graph = helper.make_graph(nodes, "digits", [first], [end], weights)
    return helper.make_model_gen_version(graph, opset_imports=[helper.make_opsetid("", 17)])


def pytorch(network: Network) -> Way:
    """A PyTorch module that reads."""
    model = build().eval()
    model.load_state_dict(to_state_dict(network))

    @torch.inference_mode()
    def read(X: Array, threads: int) -> Array:
        return np.asarray(model(torch.from_numpy(X)).softmax(1))

    return read


def onnx_runtime(network: Network, threads: Sequence[int]) -> Way:
    """A session of ONNX Runtime for each number of threads."""
    sessions = {}
    for count in threads:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count
        sessions[count] = onnxruntime.InferenceSession(
            as_onnx(network).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def read(X: Array, threads: int) -> Array:
        (probabilities,) = sessions[threads].run(None, {"X": X})
        return np.asarray(probabilities)

    return read


def floor(network: Network, batch: int) -> Way:
    """The products of a batch, and nothing else."""
    outputs = [np.zeros((batch, layer.b.size), np.float32) for layer in network.layers]

    def multiply(X: Array, threads: int) -> None:
        for layer, output in zip(network.layers, outputs, strict=True):
            X = np.matmul(X, layer.W, out=output[: len(X)])

    return multiply


def prepare(network: Network, batch: int, threads: Sequence[int]) -> dict[str, Way]:
    """All ways, the first of which is nnpipe."""
    return {
        "nnpipe": lambda X, _: network.probabilities(X),
        "PyTorch": pytorch(network),
        "ONNX Runtime": onnx_runtime(network, threads),
        "floor: matrix products": floor(network, batch),
    }


def check(ways: dict[str, Way], network: Network, X: Array, threads: Sequence[int]) -> None:
    """Exit if a way sees something else than nnpipe in the same pictures."""
    expected = network.probabilities(X)
    for name, way in ways.items():
        for count in threads:
            found = way(X, count)
            if found is not None and not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
                raise SystemExit(f"{name} sees something else than nnpipe in the same pictures")


def seconds_per_round(
    network: Network, X: Array, batch: int, rounds: int, threads: Sequence[int]
) -> Times:
    """Time reading all of ``X``, batch by batch, in turns."""
    ways = prepare(network, batch, threads)
    check(ways, network, X[:batch], threads)
    batches = [X[first : first + batch] for first in range(0, len(X), batch)]

    def over_all(way: Way) -> Callable[[int], None]:
        def read(threads: int) -> None:
            for part in batches:
                way(part, threads)

        return read

    return in_turns({name: over_all(way) for name, way in ways.items()}, rounds, threads)


def main() -> None:
    """Print a table for each size of batch as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    chosen = parser.parse_args()
    machine("torch", "onnxruntime", "onnx")
    X, _ = inputs(load(chosen.data_dir).training)
    network = Network.initialise(np.random.default_rng(0))
    for batch in BATCHES:
        some = X[: SINGLE if batch == 1 else MANY]
        times = seconds_per_round(network, some, batch, chosen.rounds, chosen.threads)
        table(
            f"Reading {batch:,} at a time; n = {chosen.rounds} rounds of {len(some):,}",
            "", "threads", "pictures/s", "ms per batch", "nnpipe's best time / its",
        )  # fmt: skip
        ours = best(times, "nnpipe")
        for (name, threads), taken in times.items():
            rate = f"{len(some) / statistics.median(taken):,.0f}"
            milliseconds = [1000 * whole * batch / len(some) for whole in taken]
            row(name, threads, rate, spread(milliseconds, ".3f"), spread(ratios(ours, taken)))


if __name__ == "__main__":
    main()
