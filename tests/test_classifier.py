from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from nnpipe import weights
from nnpipe.classifier import Classifier, champion
from nnpipe.datasets import drawn
from nnpipe.errors import WeightsError
from nnpipe.network import Network
from nnpipe.preprocess import as_inputs

from .make_samples import SAMPLES, encoded, make, picture


@pytest.fixture
def classifier(weights_file):
    return Classifier.load(weights_file)


def test_paths_bytes_images_and_arrays_are_read_alike(classifier, tmp_path):
    content = encoded(picture(3), "PNG")
    path = tmp_path / "3.png"
    path.write_bytes(content)
    first, *others = classifier.read_many(
        [path, str(path), content, picture(3), np.asarray(picture(3))]
    )
    assert first.status == "ok"
    assert sum(first.probabilities) == pytest.approx(1, abs=1e-5)
    assert first.confidence == max(first.probabilities) == first.probabilities[first.label]
    for other in others:
        assert (other.label, other.probabilities) == (first.label, first.probabilities)


def test_one_and_many_are_the_same_to_the_last_bit(classifier):
    pictures = list(drawn.draw(np.arange(300) % 10, np.random.default_rng(0)))
    together = classifier.read_many(pictures)
    for i in (0, 1, 127, 128, 255, 299):
        assert classifier.read(pictures[i]).probabilities == together[i].probabilities


def test_probabilities_are_the_networks(classifier):
    pixels = drawn.draw(np.arange(300) % 10, np.random.default_rng(0))
    expected = classifier.model.network.probabilities(as_inputs(pixels))
    np.testing.assert_allclose(classifier.probabilities(pixels), expected, rtol=1e-4, atol=1e-6)


def test_an_unreadable_picture_does_not_move_the_others(classifier):
    good = [classifier.read(picture(label)) for label in (1, 2)]
    first, bad, blank, second = classifier.read_many(
        [picture(1), b"no picture", Image.new("L", (50, 50)), picture(2)]
    )
    assert (first.probabilities, second.probabilities) == tuple(r.probabilities for r in good)
    assert (bad.status, bad.label, bad.probabilities, bad.pixels) == ("error", None, None, None)
    assert (blank.status, blank.label) == ("rejected", None)
    assert len(blank.probabilities) == 10


def test_threads_share_one_classifier(classifier):
    pictures = list(drawn.draw(np.arange(200) % 10, np.random.default_rng(0)))
    expected = [reading.probabilities for reading in classifier.read_many(pictures)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda p: classifier.read(p).probabilities, pictures * 5))
    assert found == expected * 5


def test_weights_for_another_preprocessing_are_refused(tmp_path, network, metadata, golden):
    path = tmp_path / "old.npz"
    weights.save(path, network, replace(metadata, preprocessing_version=99), golden)
    with pytest.raises(WeightsError, match="made for preprocessing version 99"):
        Classifier.load(path)


def test_weights_for_something_else_than_digits_are_refused(tmp_path, metadata):
    path = tmp_path / "other.npz"
    network = Network.initialise(np.random.default_rng(0), (6, 5, 3))
    weights.save(path, network, metadata, np.zeros((1, 6), np.uint8))
    with pytest.raises(WeightsError, match="expected 784 inputs and 10 outputs"):
        Classifier.load(path)


def test_the_temperature_of_the_file_is_applied(tmp_path, network, metadata, golden):
    path = tmp_path / "warm.npz"
    weights.save(path, network, replace(metadata, temperature=4.0), golden)
    warm, plain = Classifier.load(path).read(picture(3)), Classifier(weights.load(path)).model
    expected = plain.network.probabilities(as_inputs(warm.pixels[None]), 4.0)[0]
    np.testing.assert_allclose(warm.probabilities, expected, rtol=1e-4)


def test_the_champion_reads_the_samples():
    """Every sample whose name begins with a digit is read as that digit; the others are not."""
    classifier = Classifier.load()
    for path in sorted(SAMPLES.iterdir()):
        found = classifier.read(path)
        if path.name[0].isdigit():
            assert (found.status, found.label) == ("ok", int(path.name[0])), path.name
        else:
            assert found.status == ("rejected" if path.stem == "blank" else "error"), path.name


def test_the_samples_are_what_the_script_draws():
    """The same names; drawn anew, each PNG holds the same picture up to a few grey levels."""
    files = make()
    assert sorted(files) == sorted(path.name for path in SAMPLES.iterdir())
    for name in (name for name in files if name.endswith("-on-light.png")):
        with Image.open(SAMPLES / name) as kept:
            again = np.asarray(Classifier.load().read(files[name]).pixels, float)
            shown = np.asarray(Classifier.load().read(kept).pixels, float)
        assert np.abs(again - shown).mean() < 2


def test_the_champion_is_measured_and_trained_on_mnist():
    metadata = weights.load(champion()).metadata
    assert metadata.dataset == "mnist"
    assert metadata.test_accuracy >= 0.985
