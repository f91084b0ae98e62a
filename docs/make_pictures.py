"""Draw the pictures of how-it-learns.md, and print the figures that stand in its text.

    python docs/make_pictures.py [--data-dir data] [--out docs]

Both trainers run, some 15 seconds in all. It needs MNIST ('nnpipe download --dataset mnist') and
the extras train and report. BLAS gets one thread: with more of them it adds in another order, and
the weights come out a little different.
"""

import argparse
import io
import os
import tempfile
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is loaded

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from nnpipe import datasets, runs, stages, weights
from nnpipe.attribution import evidence
from nnpipe.epochs import Epoch
from nnpipe.network import Network
from nnpipe.preprocess import SIDE, as_inputs
from nnpipe.report.plots import BLUE, INK, ORANGE, STYLE
from nnpipe.settings import DATA, TrainRequest
from nnpipe.training import fold_standardisation, loss_and_accuracy

SEED = 0
UNITS = (9, 28, 57, 91, 119)
"""Chosen by eye among the 128 of the first layer: each answers to something one can name."""

MORE_UNITS = (5, 36, 111)
EXCITING = 8  # training digits shown for each unit
MISREAD = 9009
"""The test digit that the network misreads most surely: a 7 with a bar across its stem."""

BAR = range(16, 22)
"""The rows of that bar. The stem crosses it in columns 28 − row to 31 − row."""

LARGEST_FILE = 60_000
COLOURS = 256


def main() -> None:
    """Train, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()

    data = datasets.load("mnist", arguments.data_dir)
    X = as_inputs(data.training.images)
    with tempfile.TemporaryDirectory() as folder:
        network, history = train_numpy(Path(folder), arguments.data_dir)
        torch_history = train_torch(Path(folder), arguments.data_dir)
    start = fold_standardisation(
        Network.initialise(np.random.default_rng(SEED)),
        mean=float(X.mean()),
        deviation=float(X.std()),
    )
    validation = as_inputs(data.validation.images), data.validation.labels
    loss, accuracy = loss_and_accuracy(start, validation)
    print(f"before training: validation {loss:.4f}  {accuracy:.2%}")
    print(f"pixels of the training digits: mean {X.mean():.4f}, deviation {X.std():.4f}")
    pictures = {
        "loss": draw_loss(history, torch_history),
        "weights": draw_weights(start.layers[0].W, network.layers[0].W),
        "units": draw_units(network, X, data.training),
        "misread": draw_misread(network, data.test),
    }
    for name, figure in pictures.items():
        path = arguments.out / f"learning-{name}.png"
        size = write(figure, path)
        print(f"{path.name}: {size:,} bytes")
        if size > LARGEST_FILE:
            raise SystemExit(f"{path.name} is larger than {LARGEST_FILE:,} bytes")


def write(figure: Figure, path: Path) -> int:
    """Write a PNG with few colours, less than half as large; return its size in bytes."""
    stream = io.BytesIO()
    figure.savefig(stream)
    image = Image.open(stream).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    return path.stat().st_size


def train_numpy(folder: Path, data_dir: Path) -> tuple[Network, list[Epoch]]:
    """What `nnpipe train --engine numpy --epochs 10 --batch-size 128 --lr 0.01` trains."""
    run = folder / "numpy"
    run.mkdir()
    request = TrainRequest(
        engine="numpy", seed=SEED, epochs=10, batch_size=128, lr=0.01, data_dir=data_dir
    )
    network, metadata = weights.load(stages.train(run, request).weights)
    history = runs.read_record(run).history
    print_epochs("NumPy, from scratch", history, metadata.test_accuracy)
    return network, history


def train_torch(folder: Path, data_dir: Path) -> list[Epoch]:
    """What `nnpipe train --recipe classic --device cpu` trains."""
    run = folder / "classic"
    run.mkdir()
    request = TrainRequest(recipe="classic", seed=SEED, device="cpu", data_dir=data_dir)
    _, metadata = weights.load(stages.train(run, request).weights)
    history = runs.read_record(run).history
    print_epochs("PyTorch, classic", history, metadata.test_accuracy)
    return history


def print_epochs(who: str, history: list[Epoch], test_accuracy: float | None) -> None:
    """Print how a training went."""
    print(f"{who}: test {test_accuracy:.2%}, {sum(epoch.seconds for epoch in history):.1f} s")
    for epoch in history:
        print(
            f"  {epoch.number:2}  loss {epoch.loss:.4f}  validation {epoch.validation_loss:.4f}"
            f"  {epoch.validation_accuracy:.2%}"
        )


def draw_loss(scratch: list[Epoch], torch: list[Epoch]) -> Figure:
    """The loss after each epoch of both trainings."""
    figure = Figure((7.2, 3.4), layout="constrained")
    ax = figure.subplots()
    for name, colour, history in (
        ("NumPy, from scratch", BLUE, scratch),
        ("PyTorch, classic", ORANGE, torch),
    ):
        numbers = [epoch.number for epoch in history]
        # Labels stand at the ends of their lines; NumPy's end close together, and give way.
        room = 10 if history is scratch else 0
        for what, line, marker, losses, shift in (
            ("training", "-", "o", [epoch.loss for epoch in history], room),
            ("validation", "--", "", [epoch.validation_loss for epoch in history], -room),
        ):
            ax.plot(numbers, losses, line, marker=marker, markersize=3.5, color=colour)
            ax.annotate(
                f"{name}: {what}",
                (numbers[-1], losses[-1]),
                xytext=(7, shift),
                textcoords="offset points",
                va="center",
                color=colour,
            )
    ax.set_yscale("log")
    ticks = [1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xticks([1, 5, 10, 15, 20])
    ax.set_xlim(0.5, 27.5)
    ax.set_ylim(0.0008, 1.1)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss J")
    return figure


def show_digit(ax: Axes, image: np.ndarray, title: str = "") -> None:
    """Show pixels, dark ink on white, shape (784,) or (28, 28)."""
    ax.imshow(image.reshape(SIDE, SIDE), cmap="gray_r", interpolation="nearest")
    finish(ax, title)


def show_signed(ax: Axes, values: np.ndarray, title: str = "") -> AxesImage:
    """Show numbers above 0 in red and those below in blue, shape (784,)."""
    scale = float(np.abs(values).max())
    shown = ax.imshow(
        values.reshape(SIDE, SIDE), cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest"
    )
    finish(ax, title)
    return shown


def finish(ax: Axes, title: str) -> None:
    """A frame without ticks."""
    ax.set_title(title, pad=4)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color("#d0d4da")


def draw_weights(start: np.ndarray, end: np.ndarray) -> Figure:
    """The weights of some units of the first layer before and after training; what was learned."""
    units = sorted(UNITS + MORE_UNITS)
    change = end - start
    print(
        f"first layer: standard deviation of the weights at the start {start.std():.3f}, "
        f"of their change {change.std():.3f}"
    )
    figure = Figure((7.2, 3.1), layout="constrained")
    rows = figure.subplots(3, len(units))
    parts = (("at the start", start), ("after training", end), ("the change", change))
    for axes, (name, W) in zip(rows, parts, strict=True):
        for ax, unit in zip(axes, units, strict=True):
            show_signed(ax, W[:, unit], f"unit {unit}" if W is start else "")
        axes[0].set_ylabel(name)
    return figure


def draw_units(network: Network, X: np.ndarray, digits: datasets.Digits) -> Figure:
    """Beside each unit's weights the training digits that excite it most."""
    a = network.activations(X)[1]
    figure = Figure((7.2, 4.1), layout="constrained")
    rows = figure.subplots(len(UNITS), 1 + EXCITING)
    for axes, unit in zip(rows, UNITS, strict=True):
        show_signed(axes[0], network.layers[0].W[:, unit])
        axes[0].set_ylabel(f"unit {unit}")
        order = np.argsort(-a[:, unit], kind="stable")
        for ax, i in zip(axes[1:], order, strict=False):
            show_digit(ax, digits.images[i], f"{a[i, unit]:.1f}")
        top = np.bincount(digits.labels[order[:100]], minlength=10)
        found = ", ".join(f"{top[k]} × {k}" for k in np.argsort(-top, kind="stable") if top[k])
        print(
            f"unit {unit}: on for {np.mean(a[:, unit] > 0):.1%} of the training digits, "
            f"mean {a[:, unit].mean():.2f}; the 100 that excite it most: {found}"
        )
    return figure


def draw_misread(network: Network, test: datasets.Digits) -> Figure:
    """A misread test digit, what spoke for the wrong answer, and what would have prevented it."""
    X = as_inputs(test.images).astype(np.float64)
    p = network.probabilities(X)
    answers = p.argmax(axis=1)
    wrong = np.flatnonzero(answers != test.labels)
    surest = wrong[p[wrong].max(axis=1).argmax()]
    print(f"{len(wrong)} of {len(X):,} test digits misread, most surely digit {surest}")
    x, label, answer = X[MISREAD], int(test.labels[MISREAD]), int(answers[MISREAD])
    if label == answer:
        raise SystemExit(f"test digit {MISREAD} is read right here; choose another one")
    sure = p[MISREAD, answer]
    print(f"digit {MISREAD}: a {label}, read as {answer} with {sure:.2%}")
    print(f"  logits {np.round(network.logits(x[np.newaxis])[0], 2)}")

    pixels, bias, difference = evidence(network, x, label=label, rival=answer)
    wiped = without_bar(x)
    bar, upper = wiped != x, np.arange(x.size) < BAR.start * SIDE
    print(f"  z[{label}] − z[{answer}] = {difference:.2f}: of the biases {bias:+.2f}")
    print(
        f"  of the pixels above the bar {pixels[upper].sum():+.2f}, of the bar "
        f"{pixels[bar].sum():+.2f}, of the stem from there on {pixels[~upper & ~bar].sum():+.2f}"
    )
    q = network.probabilities(wiped[np.newaxis])[0]
    print(f"  without the bar, {bar.sum()} of {np.count_nonzero(x)} pixels with ink:", end=" ")
    print(f"{q.argmax()} with {q.max():.2%}")
    rest = evidence(network, wiped, label=label, rival=answer)
    print(f"  z[{label}] − z[{answer}] = {rest.difference:+.2f}: of the biases {rest.bias:+.2f}")
    print(
        f"  of the pixels above {rest.pixels[upper].sum():+.2f}, of the stem from there on "
        f"{rest.pixels[~upper].sum():+.2f}"
    )
    on, then_on = (
        np.concatenate([a[0] > 0 for a in network.activations(picture[np.newaxis])[1:-1]])
        for picture in (x, wiped)
    )
    print(f"  {np.sum(on != then_on)} of {on.size} hidden units have switched")

    figure = Figure((7.2, 2.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    show_digit(left, x, f"a {label}, read as {answer} ({sure:.2%})")
    shown = show_signed(middle, pixels, f"red: for {label}, blue: for {answer}")
    figure.colorbar(shown, ax=middle, shrink=0.8)
    show_digit(right, wiped, f"without the bar: read as {q.argmax()} ({q.max():.2%})")
    return figure


def without_bar(x: np.ndarray) -> np.ndarray:
    """The misread digit, shape (784,), with the ink beside the stem wiped away."""
    picture = x.reshape(SIDE, SIDE).copy()
    for row in BAR:
        picture[row, : 28 - row] = 0
        picture[row, 32 - row :] = 0
    return picture.ravel()


if __name__ == "__main__":
    with mpl.rc_context({**STYLE, "axes.titlesize": 8, "axes.labelcolor": INK, "font.size": 8}):
        main()
