"""How fast the recipes train with PyTorch, beside the ordinary way and a plain loop.

    python benchmarks/torch_training.py [--device cpu] [--data-dir data] [--rounds 3] [--full]

*Ordinary* is what tutorials show: torchvision's MNIST with a transform, a DataLoader, Adam; once
without and once with two worker processes. The *plain loop* is eager too, but has the digits on the
device; once in the ordinary way's batches, and once in those of recipe `classic`, which are larger,
with a learning rate to suit them. All train the same model for the same number of epochs, their
times go from the call to the weights, and how well both ways read is measured below.

Then the recipes are trained in full, once: `classic` for its 20 epochs, and `augmented` with a
schedule just long enough for a target, which the validation digits judge and the test digits
confirm. With --full, the ordinary way trains its 20 epochs, too, which takes minutes.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from measure import (
    cores,
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
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from nnpipe.datasets import Dataset, Digits
from nnpipe.torch_training.model import StateDict, build, to_network
from nnpipe.torch_training.recipes import recipe
from nnpipe.torch_training.train import train

EPOCHS, BATCH, LR = 20, 128, 0.001  # as tutorials have them
CLASSIC = recipe("classic")
TARGETS = {"cpu": 0.985, "cuda": 0.99}  # of `augmented`
SCHEDULES = {"cpu": 8, "cuda": 40}  # epochs that it is given for them

Way = Callable[[int], StateDict]
"""Trains for so many epochs."""


def write_as_torchvision(digits: Digits, folder: Path) -> None:
    """Write digits to where torchvision looks for MNIST's training digits, in MNIST's format."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    arrays = {"images-idx3": digits.images, "labels-idx1": digits.labels}
    for name, array in arrays.items():
        header = [0x800 + array.ndim, *array.shape]  # 8: unsigned bytes
        content = b"".join(number.to_bytes(4) for number in header) + array.tobytes()
        for part in ("train", "t10k"):  # MNIST is there only if both are
            (raw / f"{part}-{name}-ubyte").write_bytes(content)


def step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Move the weights once."""
    optimiser.zero_grad()
    loss = functional.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def ordinary(folder: Path, device: str, workers: int, epochs: int) -> StateDict:
    """A dataset with a transform in a DataLoader."""
    digits = MNIST(str(folder), transform=transforms.ToTensor())
    loader = DataLoader(digits, batch_size=BATCH, shuffle=True, num_workers=workers)
    model = build().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(epochs):
        for x, y in loader:
            step(model, optimiser, x.flatten(1).to(device), y.to(device))
    return state(model)


def plain_loop(dataset: Dataset, device: str, batch_size: int, epochs: int) -> StateDict:
    """The digits on the device, and batches picked from them."""
    X, y = (torch.from_numpy(array).to(device) for array in inputs(dataset.training))
    model = build().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=LR)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(X), device=device), batch_size):
            step(model, optimiser, X[batch], y[batch])
    return state(model)


def classic(dataset: Dataset, device: str, epochs: int) -> StateDict:
    """What is measured."""
    return train(dataset, recipe("classic", epochs=epochs), device=device)[0]


def state(model: nn.Module) -> StateDict:
    """The weights on the CPU; to copy them waits for the device."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def read_right(weights: StateDict, digits: Digits) -> str:
    """The share of digits read right."""
    X, y = inputs(digits)
    return f"{(to_network(weights).logits(X).argmax(1) == y).mean():.2%}"


def compare(ways: dict[str, tuple[Way, int]], rounds: int, device: str) -> float:
    """Print seconds per epoch of each way, the last of which is nnpipe; return the ordinary's."""

    def run(way: Way, epochs: int) -> Callable[[int], object]:
        return lambda _threads: way(epochs)

    runs = {name: run(*way) for name, way in ways.items()}
    times = in_turns(runs, rounds, [cores()])
    each = {
        name: [seconds / ways[name][1] for seconds in taken] for (name, _), taken in times.items()
    }
    *_, ours = each.values()
    table(
        f"Training on {device}: batch {BATCH}, Adam, lr {LR} (classic: batch {CLASSIC.batch_size}, "
        f"lr {CLASSIC.lr}); n = {rounds} rounds",
        "", "epochs in a round", "s per epoch", "its time / classic's",
    )  # fmt: skip
    for name, taken in each.items():
        row(name, ways[name][1], spread(taken, ".3f"), spread(ratios(taken, ours), ".1f"))
    return min(median(taken) for name, taken in each.items() if name.startswith("ordinary"))


def train_in_full(
    dataset: Dataset, name: str, epochs: int, device: str, target: float, ordinary_seconds: float
) -> None:
    """Train with a recipe and print how long it took and how well it reads."""
    start = perf_counter()
    weights, history = train(dataset, recipe(name, epochs=epochs), device=device)
    seconds = perf_counter() - start
    there = [epoch.number for epoch in history if epoch.validation_accuracy >= target]
    best = max(epoch.validation_accuracy for epoch in history)
    row(
        name, epochs, f"{seconds:.2f}", f"{sum(epoch.seconds for epoch in history):.2f}",
        f"{ordinary_seconds / seconds:.1f}", f"{best:.2%}",
        there[0] if there else "never", read_right(weights, dataset.test),
    )  # fmt: skip


def main() -> None:
    """Print tables as Markdown."""
    parser = option_parser(__doc__)
    parser.add_argument("--device", choices=TARGETS, default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="in a round, of all but the ordinary way")
    parser.add_argument("--schedule", type=int, help="epochs of augmented")
    parser.add_argument("--full", action="store_true", help="20 epochs of the ordinary way, too")
    chosen = parser.parse_args()
    device, target = chosen.device, TARGETS[chosen.device]
    machine("torch", "torchvision")
    if device == "cuda":
        print(torch.cuda.get_device_name())
    dataset = load(chosen.data_dir)
    epochs = chosen.epochs or (EPOCHS if device == "cuda" else 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_as_torchvision(dataset.training, folder)
        ways: dict[str, tuple[Way, int]] = {
            "ordinary": (partial(ordinary, folder, device, 0), 1),
            "ordinary, 2 workers": (partial(ordinary, folder, device, 2), 1),
            "plain loop": (partial(plain_loop, dataset, device, BATCH), epochs),
            f"plain loop, batch {CLASSIC.batch_size}": (
                partial(plain_loop, dataset, device, CLASSIC.batch_size),
                epochs,
            ),
            "classic": (partial(classic, dataset, device), epochs),
        }
        usual = EPOCHS * compare(ways, chosen.rounds, device)
        table(
            f"Recipes in full, once; the ordinary way's {EPOCHS} epochs take {usual:.0f} s at its "
            "best rate",
            "", "epochs", "s from the call to the weights", "s in the epochs", "ordinary's s / its",
            "best on validation", f"{target:.1%} in epoch", "test digits read right",
        )  # fmt: skip
        schedule = chosen.schedule or SCHEDULES[device]
        for recipe_name, count in (("classic", EPOCHS), ("augmented", schedule)):
            train_in_full(dataset, recipe_name, count, device, target, usual)
        if chosen.full:
            start = perf_counter()
            weights = ordinary(folder, device, 0, EPOCHS)
            seconds = perf_counter() - start
            right = read_right(weights, dataset.test)
            row("ordinary", EPOCHS, f"{seconds:.2f}", "", f"{usual / seconds:.1f}", "", "", right)


if __name__ == "__main__":
    main()
