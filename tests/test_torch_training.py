import os
import resource
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from nnpipe import datasets, stages, weights
from nnpipe.datasets import Digits
from nnpipe.errors import ExportError, OutputError, SettingError, TrainingError
from nnpipe.network import Layer, Network
from nnpipe.preprocess import as_inputs
from nnpipe.settings import TrainRequest
from nnpipe.torch_training import mixture
from nnpipe.torch_training import train as torch_train
from nnpipe.torch_training.distortions import distort, press
from nnpipe.torch_training.model import (
    build,
    check_parity,
    load_model,
    save_model,
    to_network,
    to_state_dict,
)
from nnpipe.torch_training.precision import products
from nnpipe.torch_training.recipes import LAST, RECIPES, Distortions, Mixture, recipe, schedule

CPU = torch.device("cpu")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


pytestmark = pytest.mark.usefixtures("small_pools")


# --- training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["classic", "augmented"])
def test_each_recipe_learns_and_keeps_the_best_epoch(small_dataset, name):
    """2,000 digits and a few epochs are enough to see that it does."""
    state, history = torch_train.train(small_dataset, recipe(name, epochs=12, batch_size=64))
    accuracy = check_parity(state, to_network(state), digits=small_dataset.validation).accuracy
    assert accuracy == pytest.approx(max(e.validation_accuracy for e in history), abs=1e-6)
    assert accuracy > 0.8
    assert history[-1].loss < history[0].loss


def test_validation_figures_are_those_of_the_weights_on_a_processor_that_rounds(
    small_dataset, rounding_processor
):
    chosen = recipe("classic", epochs=3, batch_size=64)
    state, history = torch_train.train(small_dataset, chosen)
    best = max(history, key=lambda epoch: epoch.validation_accuracy)
    images, labels = small_dataset.validation
    probabilities = to_network(state).probabilities(as_inputs(images))
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert best.validation_loss == pytest.approx(loss, rel=1e-5)
    assert best.validation_accuracy == (probabilities.argmax(1) == labels).mean()


def test_an_export_is_checked_in_full_precision(network, small_dataset, rounding_processor):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        check_parity(to_state_dict(network), network, digits=small_dataset.test)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_precision_of_products_is_set_and_restored():
    def settings():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = settings()
    with products(fast=True):
        assert settings() == ("medium", True)
        with products(fast=False):
            assert settings() == ("highest", False)
        assert settings() == ("medium", True)
    assert settings() == before


def test_the_same_seed_gives_the_same_weights(small_dataset):
    chosen = recipe("augmented", epochs=2)
    first, again, other = (
        torch_train.train(small_dataset, chosen, seed=seed)[0] for seed in (3, 3, 4)
    )
    assert equal(first, again)
    assert not equal(first, other)


@pytest.mark.slow
def test_the_mean_of_the_weights_is_steadier_than_the_weights(small_dataset):
    """Averaged over many steps, weights waver less about their way; and they read no worse."""
    chosen = replace(recipe("augmented", epochs=8, batch_size=64), schedule=False, lr=0.01)
    (_, plain), (_, averaged) = (
        torch_train.train(small_dataset, replace(chosen, averaging=decay)) for decay in (0, 0.99)
    )
    losses = [[epoch.validation_loss for epoch in history[3:]] for history in (plain, averaged)]
    plain, averaged = np.abs(np.diff(losses, 2)).mean(1)  # second differences: without the trend
    assert averaged < 0.8 * plain
    assert np.mean(losses[1]) < np.mean(losses[0])


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    small_dataset, tmp_path, monkeypatch, at
):
    monkeypatch.setattr(torch_train, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    chosen = recipe("augmented", epochs=4)
    expected, history = torch_train.train(small_dataset, chosen)

    def kill(epoch):
        if epoch.number == at:
            raise KilledError

    checkpoint = tmp_path / "checkpoint.pth"
    with pytest.raises(KilledError):
        torch_train.train(small_dataset, chosen, checkpoint=checkpoint, on_epoch=kill)
    seen = []
    found, resumed = torch_train.train(
        small_dataset, chosen, checkpoint=checkpoint, on_epoch=seen.append
    )
    assert [epoch.number for epoch in seen] == list(range(at + 1, 5))
    assert equal(found, expected)
    assert [e.loss for e in resumed] == [e.loss for e in history]


def test_a_checkpoint_of_another_training_is_refused(small_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_train, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    path = tmp_path / "checkpoint.pth"
    torch_train.train(small_dataset, recipe("classic", epochs=1), checkpoint=path)
    with pytest.raises(TrainingError, match="belongs to a training with other settings"):
        torch_train.train(small_dataset, recipe("classic", epochs=2), checkpoint=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"checkpoint\.pth: is damaged"):
        torch_train.train(small_dataset, recipe("classic", epochs=1), checkpoint=path)


@pytest.mark.parametrize("checkpoint", ["checkpoint.pth", "checkpoint-teacher-1.pth"])
@pytest.mark.parametrize("other", [{"engine": "numpy"}, {"recipe": "classic"}])
def test_a_training_keeps_the_checkpoint_of_another(
    small_dataset, tmp_path, monkeypatch, checkpoint, other
):
    """Whatever the engine and the recipe of either: hours of training may be in it."""
    monkeypatch.setattr(datasets, "load", lambda name, folder: small_dataset)
    chosen = recipe("augmented", epochs=1)
    torch_train.train(small_dataset, chosen, checkpoint=tmp_path / checkpoint)
    before = (tmp_path / checkpoint).read_bytes()
    with pytest.raises(TrainingError, match=f"{checkpoint}: belongs to a training with other"):
        stages.train(tmp_path, TrainRequest(data=("drawn",), epochs=1, **other))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint]
    assert (tmp_path / checkpoint).read_bytes() == before


@contextmanager
def full_disk():
    """Let no file grow beyond a few bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "checkpoint": lambda path, digits, network, **rest: torch_train.train(
        digits, recipe("classic", epochs=1), checkpoint=path
    ),
    "model": lambda path, digits, network, **rest: save_model(path, to_state_dict(network)),
    "weights": lambda path, digits, network, **rest: weights.save(path, network, **rest),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_ends_a_training_in_one_sentence(
    small_dataset, network, tmp_path, metadata, golden, write
):
    path = tmp_path / "file"
    with full_disk(), pytest.raises(OutputError, match=r"file: could not be written \(File too"):
        write(path, small_dataset, network, metadata=metadata, golden=golden)
    assert not list(tmp_path.iterdir())


def test_divergence_stops_with_the_cause(small_dataset):
    with pytest.raises(TrainingError, match=r"epoch \d.*learning rate 1e\+30.*too high"):
        torch_train.train(small_dataset, recipe("classic", epochs=3, lr=1e30))


def test_unknown_recipes_and_devices_are_refused():
    with pytest.raises(SettingError, match="recipe is 'best', expected augmented, classic"):
        TrainRequest(recipe="best")
    with pytest.raises(TrainingError, match=r"no device 'tpu' on this machine, only .*cpu"):
        torch_train.choose_device("tpu")
    with pytest.raises(TrainingError, match="no device 'cpu:abc'"):
        torch_train.choose_device("cpu:abc")
    with pytest.raises(SettingError, match="epochs is 0, expected at least 1"):
        recipe("classic", epochs=0)


def test_the_learning_rate_rises_and_falls():
    factors = [schedule(step / 1000) for step in range(1001)]
    assert factors[0] == 0
    assert max(factors) == schedule(0.05) == 1
    assert factors[-1] == pytest.approx(LAST)
    assert all(a >= b for a, b in pairwise(factors[50:]))


# --- distortions ------------------------------------------------------------------------------

NONE = Distortions(rotation=0, shear=0, scale=0, shift=0, elastic=0, pen=0)


@pytest.fixture
def images(small_dataset):
    return torch.from_numpy(as_inputs(small_dataset.test.images[:100])).view(-1, 1, 28, 28)


def test_no_distortion_changes_nothing(images):
    found = distort(images, NONE, rng=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)


def test_every_picture_is_bent_in_its_own_way(images):
    same = images[:1].expand(50, -1, -1, -1)
    found = distort(same, Distortions(), rng=torch.Generator().manual_seed(0))
    assert len({picture.numpy().tobytes() for picture in found}) == 50
    assert found.shape == same.shape
    assert 0 <= found.min() <= found.max() <= 1.0001


def moments(image):
    """Mass, centre (x, y) and covariance of a picture: an oracle that knows nothing of grids."""
    y, x = np.mgrid[:28, :28]
    m = image.sum()
    cx, cy = (image * x).sum() / m, (image * y).sum() / m
    dx, dy = x - cx, y - cy
    return (
        m,
        (cx, cy),
        np.array([(image * dx * dx).sum(), (image * dx * dy).sum(), (image * dy * dy).sum()]) / m,
    )


@pytest.fixture
def blob():
    """A smooth upright ellipse in the middle: twice as tall as wide."""
    y, x = np.mgrid[:28, :28] - 13.5
    return torch.tensor(np.exp(-((x / 3) ** 2 + (y / 6) ** 2)), dtype=torch.float32)[None, None]


@pytest.mark.parametrize(
    ("by", "reach"),
    [
        (replace(NONE, shift=2), "shift"),
        (replace(NONE, scale=0.2), "scale"),
        (replace(NONE, shear=0.2), "shear"),
        (replace(NONE, rotation=20), "rotation"),
    ],
)
def test_amounts_are_what_they_are_called(blob, by, reach):
    """Of 400 pictures, the largest effect comes near the amount asked for and not beyond it."""
    found = distort(blob.expand(400, -1, -1, -1), by, rng=torch.Generator().manual_seed(0))
    effects = []
    for image in found[:, 0].numpy():
        _, (cx, cy), (xx, xy, yy) = moments(image)
        effects.append(
            {
                "shift": max(abs(cx - 13.5), abs(cy - 13.5)),
                # Places are scaled, so the picture by the inverse.
                "scale": abs(np.sqrt(4.5 / xx) - 1),
                "shear": abs(xy / yy),
                "rotation": abs(np.degrees(0.5 * np.arctan2(2 * xy, yy - xx))),
            }[reach]
        )
    amount = getattr(by, reach)
    assert 0.9 * amount < max(effects) < 1.1 * amount


def test_elastic_displacements_have_the_standard_deviation_asked_for():
    """On a ramp, a displacement by so many pixels changes the level by as much."""
    ramp = torch.arange(28.0).expand(500, 1, 28, 28)
    bent = distort(ramp, replace(NONE, elastic=0.6), rng=torch.Generator().manual_seed(0))
    moved = (bent - ramp)[:, 0, 6:-6, 6:-6]
    assert float(moved.std()) == pytest.approx(0.6, rel=0.05)
    assert float(moved.mean()) == pytest.approx(0, abs=0.04)


def test_another_pen_keeps_what_is_ink_and_what_is_paper(images):
    """Strokes grow and shrink, by no more than one pixel, and stay within black and white."""
    pressed = press(images.expand(100, -1, -1, -1), 0.5, rng=torch.Generator().manual_seed(0))
    masses = pressed.sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert masses.min() < 0.9 < 1.1 < masses.max()
    assert 0 <= pressed.min() <= pressed.max() <= 1
    reach = torch.nn.functional.max_pool2d(images, 3, 1, 1)
    assert (pressed <= reach + 1e-6).all()


# --- the mixture ------------------------------------------------------------------------------


@pytest.fixture
def pools(small_dataset):
    return torch_train.draw_pools(small_dataset.training, seed=0, device=CPU)


def test_the_same_seed_draws_the_same_pools(small_dataset, pools):
    again = mixture.draw_pools(small_dataset.training, seed=0, device=CPU)
    other = mixture.draw_pools(small_dataset.training, seed=1, device=CPU)
    for kind in ("abroad", "redrawn"):
        assert torch.equal(getattr(pools, kind).images, getattr(again, kind).images)
        assert not torch.equal(getattr(pools, kind).images, getattr(other, kind).images)
    assert torch.equal(pools.strangers, again.strangers)


def test_a_batch_gets_the_shares_asked_for_and_strangers_come_last(images, pools):
    labels = torch.arange(100) % 10
    by = Mixture(abroad=0.3, redrawn=0.2, strangers=0.4)
    found, found_labels = mixture.mix(
        images, labels, pools=pools, by=by, rng=torch.Generator().manual_seed(0)
    )
    assert len(found_labels) == 100 + 30 + 20
    assert found.shape == (100 + 30 + 20 + 40, 1, 28, 28)
    assert torch.equal(found[:100], images)
    assert torch.equal(found_labels[:100], labels)
    picked = {image.numpy().tobytes() for image in found[150:]}
    assert picked <= {image.numpy().tobytes() for image in pools.strangers}


def test_a_last_batch_of_one_digit_needs_no_stranger(small_dataset):
    few = replace(small_dataset, training=Digits(*(part[:65] for part in small_dataset.training)))
    _, (epoch,) = torch_train.train(few, recipe("augmented", epochs=1, batch_size=64))
    assert np.isfinite(epoch.loss)


@pytest.mark.slow
def test_trained_against_strangers_the_network_doubts_them(small_dataset, pools):
    """Its confidence in letters and scribbles it has not seen is far below that in digits."""
    unseen = mixture.draw_pools(small_dataset.test, seed=9, device=CPU).strangers
    X = {
        "digits": as_inputs(small_dataset.test.images),
        "strangers": unseen.flatten(1).numpy(),
    }

    def confidences(chosen):
        state, _ = torch_train.train(small_dataset, chosen)
        network = to_network(state)
        return {kind: np.median(network.probabilities(x).max(1)) for kind, x in X.items()}

    with_strangers = confidences(recipe("augmented", epochs=12, batch_size=64))
    assert with_strangers["strangers"] < 0.6 < 0.8 < with_strangers["digits"]
    plain = confidences(recipe("classic", epochs=12, batch_size=64))
    assert plain["strangers"] > with_strangers["strangers"] + 0.2


# --- the model and its export -----------------------------------------------------------------


def test_weights_go_to_torch_and_back(network):
    state = to_state_dict(network)
    assert state["fc1.weight"].shape == (128, 784)
    model = build()
    model.load_state_dict(state)
    X = np.random.default_rng(0).random((20, 784), np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(network.logits(X), logits, rtol=1e-4, atol=1e-5)
    for layer, kept in zip(to_network(state).layers, network.layers, strict=True):
        assert (layer.W == kept.W).all()
        assert (layer.b == kept.b).all()


def test_a_saved_model_is_a_plain_state_dict(tmp_path, network):
    path = tmp_path / "model.pth"
    save_model(path, to_state_dict(network))
    assert list(torch.load(path, weights_only=True)) == [
        f"fc{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")
    ]
    assert equal(load_model(path), to_state_dict(network))


class Harmful:
    def __reduce__(self):
        return (subprocess.call, (["false"],))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), "there is no such PyTorch model"),
        (lambda p: p.write_bytes(p.read_bytes()[:9000]), "cannot be read as a PyTorch model"),
        (lambda p: p.write_text("hello"), "cannot be read as a PyTorch model"),
        (lambda p: torch.save({"fc1.weight": Harmful()}, p), "cannot be read as a PyTorch model"),
        (lambda p: torch.save({"fc1.weight": 3}, p), "something other than a state dict"),
        (lambda p: torch.save([1], p), "something other than a state dict"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "PyTorch model .is a pipe or a device"),
        (lambda p: (p.unlink(), p.mkdir()), "PyTorch model .Is a directory"),
        (lambda p: (p.unlink(), p.symlink_to(p)), "cannot be read"),
        (lambda p: deflated(p), "it is compressed or too large"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, network, spoil, message):
    path = tmp_path / "model.pth"
    save_model(path, to_state_dict(network))
    spoil(path)
    with pytest.raises(ExportError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def deflated(path):
    """Write the same zip compressed, as a bomb would be."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


SPOILT = {
    "a layer missing": lambda s: s.pop("fc2.weight"),
    "a bias missing": lambda s: s.pop("fc3.bias"),
    "nothing": lambda s: s.clear(),
    "another name": lambda s: s.update({"conv.weight": torch.zeros(3)}),
    "a name that is a number": lambda s: s.update({3: torch.zeros(3)}),
    "biases that do not fit": lambda s: s.update({"fc1.bias": torch.zeros(64)}),
    "weights that are a vector": lambda s: s.update({"fc1.weight": torch.zeros(784)}),
    "layers that do not fit": lambda s: s.update({"fc2.weight": torch.zeros(64, 100)}),
    "other inputs": lambda s: s.update({"fc1.weight": torch.zeros(128, 100)}),
    "a tensor that claims terabytes": lambda s: s.update(
        {
            "fc1.weight": torch.zeros(1, 1).expand(10**9, 784),
            "fc1.bias": torch.zeros(1).expand(10**9),
        }
    ),
    "a sparse tensor": lambda s: s.update({"fc1.weight": torch.zeros(128, 784).to_sparse()}),
    "a tensor without data": lambda s: s.update({"fc1.bias": torch.zeros(128, device="meta")}),
    "complex numbers": lambda s: s.update({"fc1.bias": torch.zeros(128, dtype=torch.complex64)}),
    "names with control characters": lambda s: s.update({"\x1b[2J": torch.zeros(3)}),
    "other outputs": lambda s: s.update(
        {"fc3.weight": torch.zeros(7, 64), "fc3.bias": torch.zeros(7)}
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_model_of_other_layers_is_refused(network, how):
    state = to_state_dict(network)
    SPOILT[how](state)
    with pytest.raises(ExportError, match="the PyTorch model"):
        to_network(state)


def test_parameters_are_exported_as_tensors_are(network):
    state = {name: torch.nn.Parameter(t) for name, t in to_state_dict(network).items()}
    assert (to_network(state).layers[0].W == network.layers[0].W).all()


def test_a_model_in_half_precision_is_exported(network):
    state = {name: tensor.bfloat16() for name, tensor in to_state_dict(network).items()}
    assert to_network(state).layers[0].W.dtype == np.float32


def test_an_export_that_differs_fails(network, small_dataset):
    """One weight off by a little is noticed, and so is a transposed layer."""
    state = to_state_dict(network)
    assert check_parity(state, network, digits=small_dataset.test).largest_difference < 1e-5
    first, *others = network.layers
    wrong = Network((Layer(first.W, first.b + np.float32(1e-3)), *others))
    with pytest.raises(ExportError, match="does not compute what PyTorch does"):
        check_parity(state, wrong, digits=small_dataset.test)


def test_recipes_are_looked_up_without_torch():
    code = (
        "import sys; from nnpipe.torch_training.recipes import recipe; recipe('classic'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_recipes_can_be_written_as_json():
    import json

    for chosen in RECIPES.values():
        json.dumps(asdict(chosen))
